import type { Principal } from '../access/principal.js';
import { AuditOptionsError } from '../audit/audit-errors.js';
import { auditFiles } from '../audit/audit-files.js';
import { AuditLog } from '../audit/audit-log.js';
import type { AuditSinkUse } from '../audit/audit-log-options.js';
import type { CheckpointNotes, CheckpointPlace } from '../audit/checkpoint-place.js';
import { AUDIT_KEY_ENTRY, openOwnKey } from '../doors/own-keys.js';
import type { Clock } from '../foundation/clock.js';
import type { Ids } from '../foundation/ids.js';
import type { Randomness } from '../foundation/randomness.js';
import type { StoreIntegrity } from '../integrity/store-integrity.js';
import { printStoreHead } from '../integrity/verify-store.js';
import type { AuditDeskParts } from '../manager/audit-desk.js';
import type { VersionStore } from '../versions/version-store.js';
import type { AuditOptions } from './access-options.js';

export interface AuditSurroundings {
  readonly principal: Principal;
  readonly versions: VersionStore;
  /** Whose state each checkpoint carries, so that an older store is noticed by whoever has a checkpoint. */
  readonly integrity: StoreIntegrity | undefined;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly ids: Ids;
  /** Told when a sink fails and when it is well again. */
  readonly warn: (message: string) => void;
}

/**
 * Opens the audit log that the module's options describe.
 * @throws AuditOptionsError; what opening the sinks throws
 */
export async function openAudit(options: AuditOptions, surroundings: AuditSurroundings): Promise<AuditDeskParts> {
  const { principal, versions, integrity, clock, randomness, ids, warn } = surroundings;
  const { folder, checkpoints, previousKeys = [], timeLimitMs, eventLimitBytes, eventSource } = options;
  const origin = options.origin ?? originOf(principal);
  const sinks: AuditSinkUse[] = [...(options.sinks ?? [])];
  if (folder !== undefined) sinks.unshift({ sink: auditFiles({ folder }), mode: 'required' });
  if (sinks.length === 0)
    throw new AuditOptionsError('SecretsModule.forRoot({ audit }) needs a folder, or sinks of which one is required.');
  const key = options.key ?? (await openOwnKey(versions, AUDIT_KEY_ENTRY, randomness));
  const { kind: type, id: principalId, instanceId } = principal;
  const log = new AuditLog({
    origin,
    key,
    previousKeys,
    sinks,
    checkpoints: checkpoints && {
      ...checkpoints,
      extensions: () => [...(checkpoints.extensions?.() ?? []), ...headOf(integrity)],
    },
    timeLimitMs,
    eventLimitBytes,
    eventSource,
    identity: { type, principalId, instanceId },
    clock,
    randomness,
    ids,
    onWarning: warn,
  });
  await log.open();
  return {
    log,
    origin,
    keys: [key, ...previousKeys],
    checkpoints: checkpoints && {
      verifierKeys: [checkpoints.signer.verifierKey, ...(checkpoints.previousVerifierKeys ?? [])],
      places: checkpoints.places.filter(hasNotes),
    },
    anomalies: options.anomalies,
  };
}

function headOf(integrity: StoreIntegrity | undefined): string[] {
  const head = integrity?.seenHead;
  return head === undefined ? [] : [printStoreHead(head)];
}

/** What the log of an application is called that says nothing else. */
function originOf({ name }: Principal): string {
  return `${name.replaceAll(/[^A-Za-z0-9._/:@-]/g, '-').replace(/^[^A-Za-z0-9]+/, '')}/audit`;
}

function hasNotes(place: CheckpointPlace): place is CheckpointPlace & CheckpointNotes {
  return place.notes !== undefined;
}
