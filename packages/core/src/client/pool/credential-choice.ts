import type { SecretVersion } from '../../versions/secret-version.js';
import type { DatabaseCredentials } from '../database-credentials.js';
import type { SecretLink } from '../secret-link.js';
import { secretLink } from '../secret-link.js';
import type { Secret } from '../secret.js';
import { LivePoolCredentialsError } from './live-pool-errors.js';

/** More than any order of late answers explains. */
const MOST_REPEATS = 20;

/** What one caller of a pool has tried so far. */
export class LogInAttempts {
  readonly #refused = new Set<string>();
  readonly #refusedEver = new Set<string>();
  /** Refusals of versions that were refused before, since there last was a new one. */
  #repeats = 0;
  #begunAfter = 0;

  /**
   * Notes a refusal; false when nothing new came of too many. That this version was refused before is no end by itself: a caller waits for its turn, and somebody who had begun to log in
   * with the version earlier may be let in meanwhile, upon which the pool believes in it again. Nor is a secret that changes faster than the caller gets to log in.
   */
  note(versionId: string): boolean {
    this.#repeats = this.#refusedEver.has(versionId) ? this.#repeats + 1 : 0;
    this.#refused.add(versionId);
    this.#refusedEver.add(versionId);
    return this.#repeats <= MOST_REPEATS;
  }

  isUntried(versionId: string): boolean {
    return !this.#refused.has(versionId);
  }

  /**
   * Whether to try all once more, now that every one was refused. Where one password changes, a change that is made or undone between two log-ins
   * leaves no version that was not refused, though one of them is right. Once only, unless there was a new version since.
   */
  beginAnew(): boolean {
    if (this.#refusedEver.size === this.#begunAfter) return false;
    this.#begunAfter = this.#refusedEver.size;
    this.#refused.clear();
    return true;
  }
}

/**
 * Which version of the secret the next connection opens with: the current one, or, while that one is known to be refused, the best
 * candidate that is not. What one connection learns holds for the whole pool, until the secret changes.
 */
export class CredentialChoice {
  readonly #secret: Secret<DatabaseCredentials>;
  readonly #link: SecretLink<DatabaseCredentials>;
  readonly #refused = new Set<string>();
  readonly #blamed = new WeakMap<Error, string>();
  readonly #keptChanged: () => void;
  #candidates: readonly SecretVersion<DatabaseCredentials>[] = [];
  #asking: Promise<void> | undefined;

  /** `keptChanged` is called, in the same turn, whenever `kept()` may give another answer than before. */
  constructor(secret: Secret<DatabaseCredentials>, keptChanged: () => void) {
    this.#secret = secret;
    this.#link = secretLink(secret);
    this.#keptChanged = keptChanged;
  }

  get currentVersionId(): string {
    return this.#secret.versionId;
  }

  /** @throws SecretExpiredError when the secret is past its TTL. */
  pick(): SecretVersion<DatabaseCredentials> {
    const known = this.#known();
    return known.find((version) => !this.#refused.has(version.versionId)) ?? known[0];
  }

  /**
   * The version to log in with: the one `pick` gives.
   * @throws LivePoolCredentialsError when its value is no username and password; SecretExpiredError when the secret is past its TTL.
   */
  draw(): SecretVersion<DatabaseCredentials> {
    const version = this.pick();
    const value: Partial<DatabaseCredentials> | null = version.value;
    if (typeof value?.username !== 'string' || value.username === '' || typeof value.password !== 'string') {
      throw new LivePoolCredentialsError(version.name, version.versionId);
    }
    return version;
  }

  /** The versions beside the current one that a later connection may be opened with: none of them may be retired yet. */
  kept(): string[] {
    return this.#candidates.map((candidate) => candidate.versionId);
  }

  /** Notes that the server took this version: while the current one opens the target, no other is needed. */
  accept(versionId: string): void {
    if (versionId !== this.currentVersionId) return;
    this.#refused.clear();
    this.#keep([]);
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
    if (this.kept().includes(versionId)) {
      this.#keep(this.#candidates.filter((candidate) => candidate.versionId !== versionId));
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

  /** Whether whoever was refused should try again, with a version that may open the target. */
  async goesOn(attempts: LogInAttempts): Promise<boolean> {
    try {
      if (attempts.isUntried(this.pick().versionId)) return true;
      await this.learn();
      if (attempts.isUntried(this.pick().versionId)) return true;
      if (!attempts.beginAnew()) return false;
      this.forgive();
      return true;
    } catch {
      // Without any valid version left, the refusal at hand is the better thing to report.
      return false;
    }
  }

  /** Gives the current version another chance. */
  forgive(): void {
    this.#refused.clear();
  }

  /** To be called on each change of the secret. */
  startOver(): void {
    this.#refused.clear();
    this.#keep([]);
  }

  async #ask(): Promise<void> {
    const current = this.currentVersionId;
    const candidates = await this.#link.candidates().catch(() => undefined);
    if (candidates === undefined || current !== this.currentVersionId) return;
    this.#keep(candidates.filter((candidate) => candidate.versionId !== current));
  }

  #keep(candidates: readonly SecretVersion<DatabaseCredentials>[]): void {
    if (candidates.length === 0 && this.#candidates.length === 0) return;
    this.#candidates = candidates;
    this.#keptChanged();
  }

  #known(): [SecretVersion<DatabaseCredentials>, ...SecretVersion<DatabaseCredentials>[]] {
    const { name, versionId, value } = this.#secret;
    return [{ name, versionId, value }, ...this.#candidates.filter((candidate) => candidate.versionId !== versionId)];
  }
}
