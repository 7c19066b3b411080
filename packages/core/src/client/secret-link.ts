import type { CredentialFailure } from '../fleet/failure-reports.js';
import type { SecretVersion } from '../versions/secret-version.js';
import type { Secret } from './secret.js';

export type { CredentialFailure } from '../fleet/failure-reports.js';

/**
 * Something in this process that uses versions of a secret and may hold on to an old one after a change: a pool with connections opened
 * under it, a listener still at work. The old version is not retired while a consumer holds it.
 */
export interface SecretConsumer {
  /** For events and reports, such as `pg pool orders@127.0.0.1:5432`. Never a value. */
  readonly label: string;
  /** The ids of the versions in use at this moment. */
  holds(): Iterable<string>;
}

export interface SecretAttachment {
  /** To be called whenever `holds()` may give another answer than before. */
  update(): void;
  detach(): void;
}

/** What pools and other consumers need of a handle beyond its public face. */
export interface SecretLink<T = unknown> {
  /**
   * Every version that may open the target now, best first: current, pending, previous. Asks the source each time. None of them is retired
   * before the turn of the event loop in which the promise resolves is over: a consumer that keeps them for later must name them in
   * `holds()` as long as it does.
   * @throws SecretUnavailableError when the source cannot answer.
   */
  candidates(): Promise<readonly SecretVersion<T>[]>;
  attach(consumer: SecretConsumer): SecretAttachment;
  /**
   * Tells that the target refused a version for what it is. Of the current version this makes the engine look again whether it works, and
   * go back to the one before when it does not. Cheap, and harmless when told often.
   */
  report(failure: CredentialFailure): void;
  /**
   * Undefined in ordinary times. After this process was paused for longer than its lease (SIGSTOP, a suspended machine), a promise that
   * resolves once the secret was read anew, or cannot be: others may have retired what this process still holds, so nothing opened before may
   * be used before that. To be asked, in the same turn, each time a connection is handed out.
   */
  afterPause(): Promise<void> | undefined;
}

/** The key under which a handle carries its link. A registered symbol, since both builds of this package may be loaded at once. */
export const SECRET_LINK = Symbol.for('@nestjs-secrets/link');

/** The link of a handle. A `Secret` made by hand, as in tests, has none: its only candidate is its value, and nobody waits for its consumers. */
export function secretLink<T>(secret: Secret<T>): SecretLink<T> {
  const link = (secret as { [SECRET_LINK]?: SecretLink<T> })[SECRET_LINK];
  if (link !== undefined) return link;
  return {
    candidates: async () => [{ name: secret.name, versionId: secret.versionId, value: secret.value }],
    attach: () => ({ update: () => undefined, detach: () => undefined }),
    report: () => undefined,
    afterPause: () => undefined,
  };
}
