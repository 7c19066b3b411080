import type { Principal } from '../access/principal.js';
import { AuditOptionsError } from '../audit/audit-errors.js';
import type { AuditIdentity } from '../audit/audit-event.js';
import { auditFiles } from '../audit/audit-files.js';
import { AuditLog } from '../audit/audit-log.js';
import type { AuditSinkUse } from '../audit/audit-log-options.js';
import type { CheckpointNotes, CheckpointPlace } from '../audit/checkpoint-place.js';
import type { Clock } from '../foundation/clock.js';
import type { Ids } from '../foundation/ids.js';
import type { Randomness } from '../foundation/randomness.js';
import type { StoreIntegrity } from '../integrity/store-integrity.js';
import { printStoreHead } from '../integrity/verify-store.js';
import type { AuditDeskParts } from '../manager/audit-desk.js';
import type { AuditOptions } from './access-options.js';

/** As for a log of its own, but nothing is taken from a store or a principal, of which there are several. */
export type SharedAuditLogOptions = AuditOptions & Required<Pick<AuditOptions, 'origin' | 'key'>>;

/** A module that has its events in the log. */
export interface AuditLogMember {
  readonly principal: Principal;
  /** Whose state each checkpoint carries, so that an older store is noticed by whoever has a checkpoint. */
  readonly integrity: StoreIntegrity | undefined;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly ids: Ids;
  /** Told when a sink fails and when it is well again. */
  readonly warn: (message: string) => void;
}

/** The log as one module has it. */
export interface JoinedAuditLog extends AuditDeskParts {
  /** Who acts in events of the module that do not say. */
  readonly identity: AuditIdentity;
  readonly useCountsEveryMs: number | undefined;
  /** Lets go of it; the last one closes it. */
  close(): Promise<void>;
}

/** See `sharedAuditLog`. */
export class SharedAuditLog {
  readonly #members = new Set<AuditLogMember>();
  /** Hears of the sinks, on behalf of all. */
  #listener: AuditLogMember | undefined;
  #log: Promise<AuditLog> | undefined;
  #closed: Promise<void> = Promise.resolve();

  constructor(private readonly options: SharedAuditLogOptions) {
    const { origin, key, folder, sinks = [] } = options;
    if (origin === undefined || key === undefined)
      throw new AuditOptionsError('sharedAuditLog needs an origin and a key of its own.');
    if (folder === undefined && sinks.length === 0)
      throw new AuditOptionsError('`audit` needs a folder, or sinks of which one is required.');
  }

  /**
   * For a module that starts: opens the log unless it is open.
   * @throws AuditOptionsError; what opening the sinks throws
   */
  async join(member: AuditLogMember): Promise<JoinedAuditLog> {
    this.#members.add(member);
    this.#listener ??= member;
    const opening = (this.#log ??= this.#open(member));
    let log: AuditLog;
    try {
      log = await opening;
    } catch (error) {
      this.#remove(member);
      if (this.#log === opening) this.#log = undefined;
      throw error;
    }
    const { origin, key, previousKeys = [], checkpoints, anomalies, useCountsEveryMs } = this.options;
    const { kind: type, id: principalId, instanceId } = member.principal;
    return {
      log,
      identity: { type, principalId, instanceId },
      origin,
      keys: [key, ...previousKeys],
      checkpoints: checkpoints && {
        verifierKeys: [checkpoints.signer.verifierKey, ...(checkpoints.previousVerifierKeys ?? [])],
        places: checkpoints.places.filter(hasNotes),
      },
      anomalies,
      useCountsEveryMs,
      close: () => this.#leave(member),
    };
  }

  async #open({ clock, randomness, ids }: AuditLogMember): Promise<AuditLog> {
    // Its sinks may still be on their way out.
    await this.#closed;
    const { folder, checkpoints, useCountsEveryMs: _ours, anomalies: _asWell, ...options } = this.options;
    const sinks: AuditSinkUse[] = [...(options.sinks ?? [])];
    if (folder !== undefined) sinks.unshift({ sink: auditFiles({ folder }), mode: 'required' });
    const log = new AuditLog({
      ...options,
      sinks,
      checkpoints: checkpoints && {
        ...checkpoints,
        extensions: () => [...(checkpoints.extensions?.() ?? []), ...this.#storeHeads()],
      },
      clock,
      randomness,
      ids,
      onWarning: (message) => this.#listener?.warn(message),
    });
    await log.open();
    return log;
  }

  async #leave(member: AuditLogMember): Promise<void> {
    const log = this.#log;
    if (!this.#members.has(member) || log === undefined) return;
    if (this.#members.size === 1) {
      this.#log = undefined;
      this.#closed = log.then((open) => open.close()).finally(() => this.#remove(member));
      await this.#closed;
    } else this.#remove(member);
  }

  #remove(member: AuditLogMember): void {
    this.#members.delete(member);
    if (this.#listener === member) [this.#listener] = this.#members;
  }

  /** Modules on one store are at one state of it. */
  #storeHeads(): Set<string> {
    const heads = [...this.#members].map(({ integrity }) => integrity?.seenHead);
    return new Set(heads.flatMap((head) => (head === undefined ? [] : printStoreHead(head))));
  }
}

/**
 * One audit log for several `SecretsModule`s of a process, as where a process runs many small applications: their events share files, checkpoints and, above all, syncs of
 * the disk. Give it to each as `audit`; the first that starts opens it, the last that stops closes it. Who acted is in each event; whoever may look up events of one of the modules
 * sees those of all.
 * @throws AuditOptionsError
 */
export function sharedAuditLog(options: SharedAuditLogOptions): SharedAuditLog {
  return new SharedAuditLog(options);
}

function hasNotes(place: CheckpointPlace): place is CheckpointPlace & CheckpointNotes {
  return place.notes !== undefined;
}
