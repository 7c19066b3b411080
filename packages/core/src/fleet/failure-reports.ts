import type { StoreDriver } from '../store/store-driver.js';

/** What a consumer was told by the target when it used a version. */
export interface CredentialFailure {
  readonly versionId: string;
  /** The log-in was refused, or the credential may not do what the application does with it. */
  readonly kind: 'authentication' | 'permission';
  /** The target's own code, such as `28P01`. Never a message. */
  readonly code: string;
  /** The label of the consumer. */
  readonly consumer: string;
}

export const REPORT_PREFIX = 'report/';

/** How many of the failures of one version an instance writes down: enough to be believed, few enough to cost nothing. */
const WRITTEN_PER_VERSION = 3;

interface StoredReport {
  readonly format: 1;
  readonly failures: readonly CredentialFailure[];
}

/** Carries what consumers were refused from the instance where it happened to the one that rotates. */
export class FailureReports {
  readonly #told = new Map<string, CredentialFailure[]>();
  readonly #writing = new Map<string, Promise<void>>();

  constructor(
    private readonly store: StoreDriver,
    private readonly instanceId: string,
  ) {}

  /** Writes a failure down, for the first few of each version. Never throws, and never waits. */
  report(secretName: string, failure: CredentialFailure): void {
    const told = this.#told.get(secretName) ?? [];
    const ofVersion = told.filter(({ versionId }) => versionId === failure.versionId);
    if (ofVersion.length >= WRITTEN_PER_VERSION) return;
    // What the version before was refused stays beside it: what has always been refused says nothing against a new credential.
    const before = told.findLast(({ versionId }) => versionId !== failure.versionId)?.versionId;
    const failures = [...told.filter(({ versionId }) => versionId === before), ...ofVersion, failure];
    this.#told.set(secretName, failures);
    // One after the other, so that none comes after a newer one.
    const earlier = this.#writing.get(secretName) ?? Promise.resolve();
    this.#writing.set(
      secretName,
      earlier.then(() => this.#write(secretName, failures)),
    );
  }

  async #write(secretName: string, failures: CredentialFailure[]): Promise<void> {
    // Overtaken before it was written.
    if (this.#told.get(secretName) !== failures) return;
    const report: StoredReport = { format: 1, failures };
    const write = { key: reportKey(secretName, this.instanceId), value: Buffer.from(JSON.stringify(report)) };
    try {
      await this.store.commit({ conditions: [], writes: [write] });
    } catch {
      // Said again by the next failure, since what was not written counts for nothing.
      if (this.#told.get(secretName) === failures) this.#told.delete(secretName);
    }
  }

  /**
   * What all instances report.
   * @throws StoreUnavailableError
   */
  async read(secretName: string): Promise<CredentialFailure[]> {
    const entries = await this.store.list({ prefix: reportKey(secretName, ''), limit: 1000 });
    return entries.flatMap(({ value }) => parseReport(value)?.failures ?? []);
  }

  /** Removes what instances reported that have not reported since. */
  async tidy(secretName: string, isGone: (instanceId: string) => Promise<boolean>): Promise<void> {
    const prefix = reportKey(secretName, '');
    for (const { key, revision } of await this.store.list({ prefix, limit: 1000 })) {
      const instanceId = key.slice(prefix.length);
      if (instanceId === this.instanceId || !(await isGone(instanceId))) continue;
      await this.store.commit({ conditions: [{ key, revision }], writes: [{ key, value: null }] });
    }
  }
}

function reportKey(secretName: string, instanceId: string): string {
  return `${REPORT_PREFIX}${secretName}:${instanceId}`;
}

function parseReport(bytes: Uint8Array): StoredReport | undefined {
  try {
    const report: StoredReport = JSON.parse(Buffer.from(bytes).toString('utf8'));
    return report.format === 1 && Array.isArray(report.failures) ? report : undefined;
  } catch {
    return undefined;
  }
}
