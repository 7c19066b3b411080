import type { SecretVersion } from '../../versions/secret-version.js';
import type { DatabaseCredentials } from '../database-credentials.js';
import type { SecretLink } from '../secret-link.js';
import { secretLink } from '../secret-link.js';
import type { Secret } from '../secret.js';

/**
 * Which version of the secret the next connection opens with: the current one, or, while that one is known to be refused, the best
 * candidate that is not. What one connection learns holds for the whole pool, until the secret changes.
 */
export class CredentialChoice {
  readonly #secret: Secret<DatabaseCredentials>;
  readonly #link: SecretLink<DatabaseCredentials>;
  readonly #refused = new Set<string>();
  readonly #blamed = new WeakMap<Error, string>();
  #candidates: readonly SecretVersion<DatabaseCredentials>[] = [];
  #asking: Promise<void> | undefined;

  constructor(secret: Secret<DatabaseCredentials>) {
    this.#secret = secret;
    this.#link = secretLink(secret);
  }

  get currentVersionId(): string {
    return this.#secret.versionId;
  }

  /** @throws SecretExpiredError when the secret is past its TTL. */
  pick(): SecretVersion<DatabaseCredentials> {
    const known = this.#known();
    return known.find((version) => !this.#refused.has(version.versionId)) ?? known[0];
  }

  /** Notes that the server refused a log-in with this version. */
  blame(versionId: string, refusal: Error): void {
    this.#blamed.set(refusal, versionId);
    this.#refused.add(versionId);
    // When nothing is left to try, the refusals contradict each other (a change was undone, say): only the latest one still counts.
    const known = [this.currentVersionId, ...this.#candidates.map((candidate) => candidate.versionId)];
    if (known.every((id) => this.#refused.has(id))) {
      this.#refused.clear();
      this.#refused.add(versionId);
    }
  }

  /** The version a failed connection was refused with; undefined when it failed for another reason. */
  blamedFor(error: unknown): string | undefined {
    return error instanceof Error ? this.#blamed.get(error) : undefined;
  }

  /** Finds out which versions may open the target, asking once for all who want to know. Goes on with what is known when there is no answer. */
  learn(): Promise<void> {
    this.#asking ??= this.#ask().finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  /** Gives the current version another chance. */
  forgive(): void {
    this.#refused.clear();
  }

  /** To be called on each change of the secret. */
  startOver(): void {
    this.#refused.clear();
    this.#candidates = [];
  }

  async #ask(): Promise<void> {
    const current = this.currentVersionId;
    const candidates = await this.#link.candidates().catch(() => undefined);
    if (candidates !== undefined && current === this.currentVersionId) this.#candidates = candidates;
  }

  #known(): [SecretVersion<DatabaseCredentials>, ...SecretVersion<DatabaseCredentials>[]] {
    const { name, versionId, value } = this.#secret;
    return [{ name, versionId, value }, ...this.#candidates.filter((candidate) => candidate.versionId !== versionId)];
  }
}
