import type { LogCensor } from '../foundation/log-censor.js';

interface LiveVersion {
  readonly versionId: string;
  readonly value: unknown;
}

/**
 * Keeps a censor told of one handle's live values: the current one, the one before until the next change, older ones as long as a consumer holds
 * them, and those that were last tried out.
 */
export class LiveValues {
  readonly #held = new Map<string, () => void>();
  #current: string | undefined;
  #previous: string | undefined;
  #tried: readonly string[] = [];
  #inUse: readonly string[] = [];

  constructor(private readonly censor: LogCensor | undefined) {}

  /** A version became current. What was tried out before is of the past. */
  move(version: LiveVersion): void {
    if (version.versionId !== this.#current) this.#previous = this.#current;
    this.#current = version.versionId;
    this.#tried = [];
    this.#hold([version]);
  }

  /** What a consumer is about to try: any of these may be seen in what its driver says. */
  tryOut(versions: readonly LiveVersion[]): void {
    this.#tried = versions.map(({ versionId }) => versionId);
    this.#hold(versions);
  }

  /** The ids of the versions that consumers hold by now. */
  use(versionIds: readonly string[]): void {
    this.#inUse = versionIds;
    this.#releaseOthers();
  }

  clear(): void {
    this.#current = this.#previous = undefined;
    this.#tried = this.#inUse = [];
    this.#releaseOthers();
  }

  #hold(versions: readonly LiveVersion[]): void {
    const { censor } = this;
    if (censor === undefined) return;
    for (const { versionId, value } of versions)
      if (!this.#held.has(versionId)) this.#held.set(versionId, censor.hold(value));
    this.#releaseOthers();
  }

  #releaseOthers(): void {
    const kept = new Set([this.#current, this.#previous, ...this.#tried, ...this.#inUse]);
    for (const [versionId, release] of this.#held) {
      if (kept.has(versionId)) continue;
      this.#held.delete(versionId);
      release();
    }
  }
}
