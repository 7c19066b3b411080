import { inspect } from 'node:util';
import { BehaviorSubject, type Observable } from 'rxjs';
import type { UseCounter } from '../audit/use-counts.js';
import type { Clock } from '../foundation/clock.js';
import type { CredentialFailure } from '../fleet/failure-reports.js';
import { SecretExpiredError, SecretUnavailableError } from '../foundation/errors.js';
import type { LogCensor } from '../foundation/log-censor.js';
import type { SecretDefinitions } from '../versions/secret-definition.js';
import { ConcealedVersion, type SecretVersion } from '../versions/secret-version.js';
import { LiveValues } from './live-values.js';
import { SECRET_LINK, type SecretAttachment, type SecretConsumer, type SecretLink } from './secret-link.js';
import type { SecretSnapshot, SecretSource } from './secret-source.js';
import type { Secret, SecretChange } from './secret.js';

export interface SecretHandleParts {
  readonly source: SecretSource;
  readonly definitions: SecretDefinitions;
  readonly clock: Clock;
  /** Told which values are live, so that logs do not show them. */
  readonly censor?: LogCensor;
}

const LOOKS_AT_CANDIDATES = 5;

class ConcealedChange<T> extends ConcealedVersion<T> implements SecretChange<T> {
  constructor(
    name: string,
    versionId: string,
    value: T,
    readonly previousVersionId: string | undefined,
    readonly rolledBack: boolean,
  ) {
    super(name, versionId, value);
  }
}

/** What a handle holds: replaced as a whole, so that value and version are never torn. */
interface HeldVersion<T> {
  readonly versionId: string;
  readonly value: T;
  readonly promotion: number;
  readonly expiresAt: number | undefined;
  readonly uses: UseCounter;
}

/** The live handle behind `Secret<T>`. Moves forward only: by the number of the promotion, not by what comes in last. */
export class SecretHandle<T = unknown> implements Secret<T>, SecretLink<T> {
  readonly changes$: Observable<SecretChange<T>>;
  #held: HeldVersion<T>;
  #refreshing: Promise<void> | undefined;
  #again = false;
  #closed = false;
  #rolledBack = false;
  /** The pauses of this process after which the secret was read anew. */
  #pauses: number;
  #waking: Promise<void> | undefined;
  readonly #changes: BehaviorSubject<SecretChange<T>>;
  readonly #consumers = new Set<SecretConsumer>();
  readonly #live: LiveValues;

  private constructor(
    readonly name: string,
    private readonly parts: SecretHandleParts,
    first: HeldVersion<T>,
  ) {
    this.#held = first;
    this.#live = new LiveValues(parts.censor);
    this.#live.move(first);
    this.#pauses = parts.source.pauses?.() ?? 0;
    this.#changes = new BehaviorSubject<SecretChange<T>>(
      new ConcealedChange(name, first.versionId, first.value, undefined, false),
    );
    this.changes$ = this.#changes.asObservable();
    // Reached by the symbol, yet no part of what prints.
    Object.defineProperty(this, 'parts', { enumerable: false });
    this.#acknowledge();
  }

  /** A handle with its first value. Rejects with what the source said, or with what the schema found. */
  static async open<T>(name: string, parts: SecretHandleParts): Promise<SecretHandle<T>> {
    const snapshot = await parts.source.fetch(name);
    return new SecretHandle<T>(name, parts, await toHeld<T>(parts, snapshot));
  }

  get value(): T {
    const held = this.#held;
    // Only a version with a TTL pays for looking at the clock.
    if (held.expiresAt !== undefined && held.expiresAt <= this.parts.clock.now())
      throw new SecretExpiredError(this.name, held.versionId, held.expiresAt);
    held.uses.uses += 1;
    return held.value;
  }

  get versionId(): string {
    return this.#held.versionId;
  }

  /** After this time `value` throws; undefined for a version without TTL. */
  get expiresAt(): number | undefined {
    return this.#held.expiresAt;
  }

  /** Whether the latest move went back to an older version. */
  get isRolledBack(): boolean {
    return this.#rolledBack;
  }

  get [SECRET_LINK](): SecretLink<T> {
    return this;
  }

  /** Single flight; a call that comes while one is running is answered by a look that begins after it. */
  refresh(): Promise<void> {
    if (this.#refreshing !== undefined) {
      this.#again = true;
      return this.#refreshing;
    }
    this.#refreshing = this.#refresh();
    return this.#refreshing;
  }

  async candidates(): Promise<readonly SecretVersion<T>[]> {
    for (let looks = 0; looks < LOOKS_AT_CANDIDATES; looks += 1) {
      const snapshots = await this.#ask((source) => source.candidates(this.name));
      const held = await Promise.all(snapshots.map((snapshot) => toHeld<T>(this.parts, snapshot)));
      // What was current when it was read is not protected by this handle any more once it has moved on: the answer is of the past.
      if (held.some(({ promotion }) => promotion < this.#held.promotion)) continue;
      // The hint of a change was lost, so the handle catches up first: what is current is for whoever asks to know.
      if (held.some(({ promotion }) => promotion > this.#held.promotion) && (await this.#caughtUp())) continue;
      this.#live.tryOut(held);
      return held.map(({ versionId, value }) => new ConcealedVersion(this.name, versionId, value));
    }
    // A source that stays behind what it has said before knows of no candidates that could be believed.
    const { versionId, value } = this.#held;
    return [new ConcealedVersion(this.name, versionId, value)];
  }

  attach(consumer: SecretConsumer): SecretAttachment {
    this.#consumers.add(consumer);
    this.#acknowledge();
    return {
      update: () => this.#acknowledge(),
      detach: () => {
        this.#consumers.delete(consumer);
        this.#acknowledge();
      },
    };
  }

  report(failure: CredentialFailure): void {
    this.parts.source.report?.(this.name, failure);
  }

  afterPause(): Promise<void> | undefined {
    const { source } = this.parts;
    const pauses = source.pauses?.() ?? 0;
    if (pauses === this.#pauses) return undefined;
    this.#waking ??= this.#wakeUp(pauses).finally(() => (this.#waking = undefined));
    return this.#waking;
  }

  /** Completes `changes$`. The last value can still be read. */
  close(): void {
    this.#closed = true;
    this.#changes.complete();
    this.#live.clear();
  }

  toString(): string {
    return `Secret(${this.name}@${this.versionId})`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }

  async #refresh(): Promise<void> {
    try {
      do {
        this.#again = false;
        const snapshot = await this.#ask((source) => source.fetch(this.name));
        if (snapshot.promotion > this.#held.promotion && !this.#closed)
          this.#move(await toHeld<T>(this.parts, snapshot), snapshot.rolledBack);
      } while (this.#again && !this.#closed);
    } finally {
      // In the same turn as the last look at `#again`, so that no call can join a refresh that looks no more.
      this.#refreshing = undefined;
    }
  }

  async #caughtUp(): Promise<boolean> {
    const { promotion } = this.#held;
    await this.refresh().catch(() => undefined);
    return this.#held.promotion > promotion;
  }

  async #wakeUp(pauses: number): Promise<void> {
    await this.parts.source.awake?.();
    // Without an answer the last good value serves on, as in any outage.
    await this.refresh().catch(() => undefined);
    this.#pauses = pauses;
  }

  async #ask<R>(question: (source: SecretSource) => Promise<R>): Promise<R> {
    const { source } = this.parts;
    try {
      return await question(source);
    } catch (error) {
      throw new SecretUnavailableError(
        this.name,
        `The ${source.name} did not deliver ${this.name}; the last good value stays in use. See the cause.`,
        error,
      );
    }
  }

  #move(next: HeldVersion<T>, rolledBack: boolean): void {
    const previousVersionId = this.#held.versionId;
    this.#held = next;
    this.#live.move(next);
    this.#rolledBack = rolledBack;
    this.#changes.next(new ConcealedChange(this.name, next.versionId, next.value, previousVersionId, rolledBack));
    this.#acknowledge();
  }

  /** Comes after the consumers have been told, so that none can hold an old version unnoticed. */
  #acknowledge(): void {
    const held = [...this.#consumers].map((consumer) => ({ label: consumer.label, versionIds: [...consumer.holds()] }));
    if (!this.#closed) this.#live.use(held.flatMap(({ versionIds }) => versionIds));
    const { promotion, versionId } = this.#held;
    this.parts.source.acknowledge?.({ secretName: this.name, promotion, versionId, held });
  }
}

async function toHeld<T>({ definitions }: SecretHandleParts, snapshot: SecretSnapshot): Promise<HeldVersion<T>> {
  const { versionId, promotion, expiresAt, uses = { uses: 0 } } = snapshot;
  return {
    versionId,
    promotion,
    expiresAt,
    uses,
    value: (await definitions.check(snapshot.name, snapshot.value)) as T,
  };
}
