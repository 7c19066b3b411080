import type { Observable } from 'rxjs';
import { AUDIT_RESOURCE } from '../access/access-request.js';
import type { OperationName } from '../access/actions.js';
import { auditAnomalies, type AnomalyOptions, type AuditAnomaly } from '../audit/audit-anomalies.js';
import type { AuditKey } from '../audit/audit-chain.js';
import { AuditOffError } from '../audit/audit-errors.js';
import { auditFiles } from '../audit/audit-files.js';
import { auditFolder } from '../audit/audit-folder-reader.js';
import { AuditLog } from '../audit/audit-log.js';
import type { AuditSinkHealth } from '../audit/sink-lane.js';
import type { AuditReader } from '../audit/audit-reader.js';
import { type AuditPage, type AuditPageQuery, queryAudit, type SecretReader, whoRead } from '../audit/query-audit.js';
import { type AuditVerification, verifyAudit, type VerifyAuditOptions } from '../audit/verify-audit.js';
import type { Caller } from '../doors/caller.js';
import type { Asked, Door } from '../doors/door.js';
import { observed } from '../doors/observed.js';
import type { Clock } from '../foundation/clock.js';
import { checkSecretName } from '../versions/secret-name.js';

export interface AuditDeskParts {
  readonly log: AuditLog;
  readonly origin: string;
  /** The key of the log and those before it. */
  readonly keys: readonly [AuditKey, ...AuditKey[]];
  /** Where checkpoints can be read, and the keys of their signatures. */
  readonly checkpoints: VerifyAuditOptions['checkpoints'];
  readonly anomalies: AnomalyOptions | undefined;
}

/** How to read the whole log; see `VerifyAuditOptions`. */
export type VerifyOptions = Pick<
  VerifyAuditOptions,
  'isArchived' | 'clockToleranceMs' | 'maxFindings' | 'onProgress' | 'progressEvery'
>;

/** A log that another instance left behind. */
export interface LeftLog {
  readonly folder: string;
  /** What that log is called; as this one by default. */
  readonly origin?: string;
}

/**
 * `SecretsManager.audit`: asks and checks the log of this instance. Each instance of an application has one of its own. See docs/audit.md.
 *
 * Everything throws `AuditOffError` where nothing is audited.
 */
export class AuditDesk {
  constructor(
    private readonly parts: { readonly door: Door; readonly audit: AuditDeskParts | undefined; readonly clock: Clock },
    private readonly caller: Caller,
  ) {}

  /** How each sink is doing. Says nothing about events, so it takes nobody's leave. */
  health(): AuditSinkHealth[] {
    return this.parts.audit?.log.health() ?? [];
  }

  /** Anomalies as they happen, by `audit.anomalies` of the module's options; completes on shutdown. */
  get anomalies$(): Observable<AuditAnomaly> {
    const { log, anomalies } = this.#audit();
    return observed(
      this.parts.door,
      this.caller,
      asking('lookupEvents', { anomalies: true }),
      auditAnomalies(log.events$, anomalies),
    );
  }

  /**
   * Events, newest first, a page at a time, by secret, principal, action, outcome and time.
   * @throws AuditOptionsError
   */
  async lookupEvents(query: AuditPageQuery = {}): Promise<AuditPage> {
    const { cursor, ...parameters } = query;
    const asked = asking('lookupEvents', { ...parameters, isNextPage: cursor !== undefined });
    return this.parts.door.read(this.caller, asked, () => queryAudit(this.#reader(), query));
  }

  /** Who read a secret since a time (milliseconds since the epoch): one entry a principal, the latest reader first. */
  async whoRead(secretName: string, since: number): Promise<SecretReader[]> {
    const asked = asking('lookupEvents', { secret: checkSecretName(secretName), since });
    return this.parts.door.read(this.caller, asked, () => whoRead(this.#reader(), secretName, since));
  }

  /** Reads the whole log and says whether it is what was written; see `verifyAudit`. Up to what was recorded when it began, and some more. */
  async verify(options: VerifyOptions = {}): Promise<AuditVerification> {
    const { isArchived, clockToleranceMs, maxFindings } = options;
    const asked = asking('verifyAudit', { isArchived, clockToleranceMs, maxFindings });
    return this.parts.door.read(
      this.caller,
      asked,
      () => {
        const { origin, keys, checkpoints } = this.#audit();
        return verifyAudit({ ...options, origin, keys, checkpoints, log: this.#reader() });
      },
      ({ verdict, records }) => ({ additionalEventData: { verdict, records } }),
    );
  }

  /**
   * Repairs the log that an instance left with a torn last line, and says whether it is whole then. This instance's own log, or one that is in use,
   * needs none: opening a log repairs it.
   * @throws AuditFolderError `AUDIT_FOLDER_BUSY` while somebody writes there; AuditLogDamagedError when more than the end is wrong
   */
  async repair(left: LeftLog): Promise<AuditVerification> {
    const { folder } = left;
    return this.parts.door.write(this.caller, asking('repairAudit', { folder, origin: left.origin }), async () => {
      const { origin: own, keys } = this.#audit();
      const { origin = own } = left;
      const [key, ...previousKeys] = keys;
      const { clock } = this.parts;
      const log = new AuditLog({
        origin,
        key,
        previousKeys,
        clock,
        sinks: [{ sink: auditFiles({ folder }), mode: 'required' }],
      });
      await log.open();
      await log.close();
      return verifyAudit({ origin, keys, log: auditFolder(folder) });
    });
  }

  #audit(): AuditDeskParts {
    if (this.parts.audit === undefined) throw new AuditOffError();
    return this.parts.audit;
  }

  #reader(): AuditReader {
    const { reader } = this.#audit().log;
    if (reader === undefined)
      throw new AuditOffError('No sink of the audit log can be read. Add auditFiles or auditStore.');
    return reader;
  }
}

function asking(operation: OperationName, parameters: Asked['parameters']): Asked {
  return { operation, resource: AUDIT_RESOURCE, parameters };
}
