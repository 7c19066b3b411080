import { STORE_RESOURCE } from '../access/access-request.js';
import { type PolicyReport, PolicyStore } from '../access/policy-store.js';
import { type Principal, principalOf } from '../access/principal.js';
import type { AuditEventInput } from '../audit/audit-event.js';
import type { AuditLog } from '../audit/audit-log.js';
import { UseCounts } from '../audit/use-counts.js';
import { managerSource } from '../client/manager-source.js';
import type { SecretSource } from '../client/secret-source.js';
import { AcknowledgementDoor } from '../doors/acknowledgement-door.js';
import { Caller } from '../doors/caller.js';
import { Deliveries } from '../doors/deliveries.js';
import { Door } from '../doors/door.js';
import { lifecycleDoor } from '../doors/lifecycle-door.js';
import { AUDIT_KEY_ENTRY, BACKUP_KEY_ENTRY, openOwnKey, POLICY_KEY_ENTRY, policySeal } from '../doors/own-keys.js';
import { RotationDoor } from '../doors/rotation-door.js';
import { Acknowledgements } from '../fleet/acknowledgements.js';
import { Consumers } from '../fleet/consumers.js';
import { FailureReports } from '../fleet/failure-reports.js';
import { Instance } from '../fleet/instance.js';
import { InstanceWatch } from '../fleet/instance-watch.js';
import { systemProcesses } from '../fleet/process-identity.js';
import type { Clock } from '../foundation/clock.js';
import { SecretsError } from '../foundation/errors.js';
import type { Ids } from '../foundation/ids.js';
import type { Randomness } from '../foundation/randomness.js';
import { StoreIntegrity } from '../integrity/store-integrity.js';
import { refuseMovedStore } from '../store/move-records.js';
import { isMovingStore } from '../store/moving-store.js';
import { SecretReader } from '../manager/secret-reader.js';
import { SecretsManager } from '../manager/secrets-manager.js';
import { KeyManager } from '../keys/key-manager.js';
import { Lifecycle } from '../lifecycle/lifecycle.js';
import { RotationEngine } from '../rotation/rotation-engine.js';
import { RotationJournal } from '../rotation/rotation-journal.js';
import { RotationScheduler, type ScheduleTimers } from '../rotation/rotation-scheduler.js';
import { RotationTroubles } from '../rotation/rotation-troubles.js';
import type { Rotators } from '../rotation/rotators.js';
import type { SecretDefinitions } from '../versions/secret-definition.js';
import { sealedEntry, VersionStore } from '../versions/version-store.js';
import { openAudit } from './open-audit.js';
import type { JoinedAuditLog } from './shared-audit-log.js';
import { integrityEventOf, moveEventOf, noticeOf, type Notice } from './notices.js';
import { versionOptions } from './version-options.js';
import type { SecretsModuleOptions } from './secrets-options.js';

/** The manager's side: everything that stands on the store. */
export interface ManagerRuntime {
  readonly manager: SecretsManager;
  readonly engine: RotationEngine;
  readonly scheduler: RotationScheduler;
  readonly versions: VersionStore;
  /** Undefined when it was switched off. */
  readonly integrity: StoreIntegrity | undefined;
  readonly keys: KeyManager;
  readonly lifecycle: Lifecycle;
  readonly instance: Instance;
  readonly acknowledgements: Acknowledgements;
  readonly source: SecretSource;
  readonly troubles: RotationTroubles;
  readonly door: Door;
  readonly policies: PolicyStore;
  /** Undefined where nothing is audited. */
  readonly log: AuditLog | undefined;
  /** Takes this instance off the list, records what is left to be recorded, and closes log, store and keys. */
  close(): Promise<void>;
}

export interface Surroundings {
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly ids: Ids;
  readonly definitions: SecretDefinitions;
  readonly rotators: Rotators;
  readonly timers: ScheduleTimers;
  readonly tell: (notice: Notice) => void;
}

const DEFAULT_LEASE_MS = 10_000;
const SHORTEST_LEASE_MS = 300;
const DEFAULT_PRINCIPAL = 'app';

/**
 * Opens store, keys, audit log and policies, and wires the layers.
 * @throws SecretsError `MODULE_OPTIONS_INVALID`; what opening them throws
 */
export async function startManager(options: SecretsModuleOptions, surroundings: Surroundings): Promise<ManagerRuntime> {
  const { clock, randomness, ids, tell } = surroundings;
  const { store: driver, keys } = options;
  if (driver === undefined || keys === undefined) {
    throw new SecretsError(
      'MODULE_OPTIONS_INVALID',
      'SecretsModule.forRoot needs { store, keys }, or a { source } in place of both.',
    );
  }
  const { leaseMs = DEFAULT_LEASE_MS } = options.instance ?? {};
  if (!Number.isFinite(leaseMs) || leaseMs < SHORTEST_LEASE_MS) {
    throw new SecretsError(
      'MODULE_OPTIONS_INVALID',
      `SecretsModule.forRoot has the instance.leaseMs ${leaseMs}: give ${SHORTEST_LEASE_MS} ms or more.`,
    );
  }
  const integrity =
    options.integrity === false
      ? undefined
      : new StoreIntegrity({ store: driver, clock, randomness }, options.integrity);
  const store = integrity?.store ?? driver;
  const versions = new VersionStore({
    store,
    integrity,
    keys,
    clock,
    randomness,
    ids,
    sealedEntries: [AUDIT_KEY_ENTRY, POLICY_KEY_ENTRY, BACKUP_KEY_ENTRY].map(sealedEntry),
    ...versionOptions(options),
  });
  await versions.open();
  const principal = ownPrincipal(options, ids.next());
  let audit: JoinedAuditLog | undefined;
  const note = (event: AuditEventInput): void =>
    void audit?.log.record({ userIdentity: audit.identity, ...event }).catch(() => undefined);
  let policies: PolicyStore | undefined;
  try {
    const warn = (message: string): void => tell({ level: 'warn', message });
    if (options.audit === undefined) tell(NOT_AUDITED);
    else audit = await openAudit(options.audit, versions, { principal, integrity, clock, randomness, ids, warn });
    // What was found while the store was opened is told as well.
    integrity?.events$.subscribe((event) => note(integrityEventOf(event)));
    if (isMovingStore(driver))
      driver.moves$.subscribe((event) => {
        const told = moveEventOf(event);
        if (told !== undefined) note(told);
      });
    policies = await openPolicies(options, { principal, versions, clock, randomness }, (report) => {
      const { notice, event } = noticeOf(report, principal.id);
      tell(notice);
      note(event);
    });
    return await wire(options, surroundings, { versions, integrity, principal, audit, policies, leaseMs });
  } catch (error) {
    policies?.close();
    await audit?.close();
    await versions.close();
    throw error;
  }
}

const NOT_AUDITED: Notice = {
  level: 'log',
  message: 'Nothing is audited: give SecretsModule.forRoot({ audit: { folder } }) to have a log of who did what.',
};

function ownPrincipal({ principal = DEFAULT_PRINCIPAL }: SecretsModuleOptions, instanceId: string): Principal {
  const { name, attributes } = typeof principal === 'string' ? { name: principal } : { attributes: {}, ...principal };
  return principalOf('application', name, { instanceId, attributes });
}

async function openPolicies(
  { policies: wanted = {} }: SecretsModuleOptions,
  opened: Pick<Opened, 'principal' | 'versions'> & Pick<Surroundings, 'clock' | 'randomness'>,
  onReport: (report: PolicyReport) => void,
): Promise<PolicyStore> {
  const { principal, versions, clock, randomness } = opened;
  const key = await openOwnKey(versions, POLICY_KEY_ENTRY, randomness);
  const policies = new PolicyStore({
    ...wanted,
    store: versions.store,
    seal: policySeal(key, randomness),
    clock,
    // Without policies the engine may act for its rotators, as the application may for itself.
    own: ({ id, kind }) => id === principal.id || kind === 'rotator',
    onReport,
  });
  await policies.open();
  return policies;
}

interface Opened {
  readonly versions: VersionStore;
  readonly integrity: StoreIntegrity | undefined;
  readonly principal: Principal;
  readonly audit: JoinedAuditLog | undefined;
  readonly policies: PolicyStore;
  readonly leaseMs: number;
}

async function wire(
  options: SecretsModuleOptions,
  surroundings: Surroundings,
  opened: Opened,
): Promise<ManagerRuntime> {
  const { clock, randomness, ids, definitions, rotators, timers } = surroundings;
  const { versions, integrity, principal, audit, policies, leaseMs } = opened;
  const { store } = versions;
  const log = audit?.log;
  const caller = new Caller(principal);
  const door = new Door({ policies, log, versions, clock });
  const { processes = systemProcesses } = options.instance ?? {};
  const instance = new Instance({ store, clock, randomness, processes, id: principal.instanceId ?? '', leaseMs });
  const joining = { operation: 'renewInstance', resource: STORE_RESOURCE, parameters: { leaseMs } } as const;
  await door.write(caller, joining, () => instance.join());
  try {
    // Of a move that began after the store was opened, and before this instance was seen.
    await refuseMovedStore(store);
  } catch (error) {
    await instance.leave();
    throw error;
  }
  const instances = new InstanceWatch(store, clock, processes, leaseMs, () => instance.strainMs());
  const acknowledgements = new Acknowledgements(store, instance, clock, randomness);
  const reports = new FailureReports(store, instance.id);
  const journal = new RotationJournal(store, versions);
  const engine = new RotationEngine({
    versions,
    journal,
    rotators,
    instance,
    instances,
    consumers: new Consumers(store, instances, instance.id),
    reports,
    definitions,
    clock,
    randomness,
    ids,
    door: new RotationDoor(door, log, instance.id),
  });
  const troubles = new RotationTroubles(engine.events$, clock);
  const onSuspended = (name: string, failures: number): void => engine.tellSuspended(name, failures);
  const scheduler = new RotationScheduler({ engine, versions, clock, randomness, timers, onSuspended });
  const ends = lifecycleDoor(door, caller, policies, clock);
  const keys = new KeyManager({ versions, instance, instances, clock, randomness, ends });
  const lifecycle = new Lifecycle({ versions, journal, keys, clock, randomness, ends });
  const manager = new SecretsManager(
    {
      door,
      keys,
      lifecycle,
      versions,
      definitions,
      engine,
      scheduler,
      policies,
      journal,
      integrity,
      audit,
      clock,
      randomness,
    },
    caller,
  );
  const counts = log && new UseCounts({ log, clock, identity: caller.identity, everyMs: audit?.useCountsEveryMs });
  const acknowledging = new AcknowledgementDoor({ door, caller, acknowledgements, clock, randomness });
  const source = managerSource({
    reader: new SecretReader(versions),
    versions,
    instance,
    acknowledgements,
    acknowledging,
    deliveries: new Deliveries({ door, caller, counts }),
    reports,
    leases: engine.leases,
    clock,
  });
  const close = async (): Promise<void> => {
    await engine.leases.leave();
    acknowledging.close();
    await acknowledgements.leave();
    await instance.leave();
    policies.close();
    await counts?.close();
    await audit?.close();
    await versions.close();
  };
  return {
    manager,
    engine,
    scheduler,
    versions,
    integrity,
    keys,
    lifecycle,
    instance,
    acknowledgements,
    source,
    troubles,
    door,
    policies,
    log,
    close,
  };
}
