import { SecretHandles } from '../client/secret-handles.js';
import type { SecretHandle } from '../client/secret-handle.js';
import { managerSource } from '../client/manager-source.js';
import type { SecretSource } from '../client/secret-source.js';
import { type Clock, systemClock } from '../foundation/clock.js';
import { SecretsError } from '../foundation/errors.js';
import { LogCensor } from '../foundation/log-censor.js';
import { type Ids, randomIds } from '../foundation/ids.js';
import { cryptoRandomness, type Randomness } from '../foundation/randomness.js';
import { SecretReader } from '../manager/secret-reader.js';
import type { WantedSecret } from '../manager/requests.js';
import { SecretsManager } from '../manager/secrets-manager.js';
import { Acknowledgements } from '../fleet/acknowledgements.js';
import { Consumers } from '../fleet/consumers.js';
import { FailureReports } from '../fleet/failure-reports.js';
import { Instance } from '../fleet/instance.js';
import { InstanceWatch } from '../fleet/instance-watch.js';
import { systemProcesses } from '../fleet/process-identity.js';
import { RotationEngine } from '../rotation/rotation-engine.js';
import { RotationJournal } from '../rotation/rotation-journal.js';
import { RotationScheduler, type ScheduleTimers } from '../rotation/rotation-scheduler.js';
import { RotationTroubles } from '../rotation/rotation-troubles.js';
import { Rotators } from '../rotation/rotators.js';
import { SecretDefinitions, type SecretDefinition } from '../versions/secret-definition.js';
import { VersionStore } from '../versions/version-store.js';
import type { SecretsModuleOptions } from './secrets-options.js';

/** The manager's side: everything that stands on the store. */
export interface ManagerRuntime {
  readonly manager: SecretsManager;
  readonly engine: RotationEngine;
  readonly scheduler: RotationScheduler;
  readonly versions: VersionStore;
  readonly instance: Instance;
  readonly acknowledgements: Acknowledgements;
  readonly source: SecretSource;
  readonly troubles: RotationTroubles;
}

/** What Nest injected for a definition. */
export type ResolvedDefinition = Pick<WantedSecret, 'initial' | 'rotation'>;

/** Everything behind one `SecretsModule.forRoot`, put together from its options. */
export class SecretsRuntime {
  #hasStarted = false;
  readonly #ensured = new Map<string, Promise<void>>();
  readonly #announced = new Map<string, { resolve: (done: Promise<void>) => void; done: Promise<void> }>();

  private constructor(
    readonly options: SecretsModuleOptions,
    readonly definitions: SecretDefinitions,
    readonly rotators: Rotators,
    readonly handles: SecretHandles,
    readonly censor: LogCensor,
    /** Undefined when secrets come from a foreign source. */
    readonly own: ManagerRuntime | undefined,
  ) {}

  /**
   * Opens store and keys and wires the layers.
   * @throws SecretsError `MODULE_OPTIONS_INVALID`; what `store.open()` and `keys.open()` throw
   */
  static async start(options: SecretsModuleOptions, timers: ScheduleTimers): Promise<SecretsRuntime> {
    const { clock = systemClock, randomness = cryptoRandomness, ids = randomIds } = options;
    // Of its own randomness, so that the sequence of a seeded one does not depend on it.
    const { censor = new LogCensor() } = options;
    const definitions = new SecretDefinitions();
    const rotators = new Rotators(censor);
    for (const rotator of options.rotators ?? []) rotators.add(rotator.name, rotator);
    const own =
      options.source === undefined
        ? await startManager(options, { clock, randomness, ids, definitions, rotators, timers })
        : undefined;
    const source = options.source ?? own?.source;
    if (source === undefined) throw new SecretsError('MODULE_OPTIONS_INVALID', 'There is no source of secrets.');
    const { bootTimeoutMs = 10_000, refreshIntervalMs = 60_000 } = options;
    const parts = { source, definitions, clock, randomness, censor };
    const handles = new SecretHandles({ ...parts, bootTimeoutMs, refreshIntervalMs });
    return new SecretsRuntime(options, definitions, rotators, handles, censor, own);
  }

  /**
   * Says that a provider will call `ensure` for this definition, so that whoever opens the secret by its name waits for it.
   * @throws SecretDefinedTwiceError
   */
  announce(definition: SecretDefinition): void {
    this.definitions.add(definition);
    if (this.#announced.has(definition.name)) return;
    let resolve: (done: Promise<void>) => void = () => undefined;
    const done = new Promise<void>((settle) => {
      resolve = settle;
    });
    // Whoever waits sees a failure; when nobody does, the caller of `ensure` has.
    done.catch(() => undefined);
    this.#announced.set(definition.name, { resolve, done });
  }

  /** Makes sure, once, that a defined secret is there. */
  ensure(definition: SecretDefinition, { initial, rotation }: ResolvedDefinition): Promise<void> {
    this.announce(definition);
    let ensured = this.#ensured.get(definition.name);
    if (ensured === undefined) {
      ensured = this.own?.manager.ensureSecret({ ...definition, initial, rotation }) ?? Promise.resolve();
      this.#ensured.set(definition.name, ensured);
      this.#announced.get(definition.name)?.resolve(ensured);
    }
    return ensured;
  }

  /** The handle of a secret, once what defines it has made sure that it is there. */
  async open(name: string): Promise<SecretHandle> {
    await this.#announced.get(name)?.done;
    await this.own?.engine.leases.open(name);
    return this.handles.open(name);
  }

  /**
   * Stops everything when the application cannot start: nobody will call its shutdown hooks, and an instance that goes on with its heartbeats would
   * keep others from what it has under way.
   */
  async giveUpStart(): Promise<void> {
    if (this.#hasStarted) return;
    await this.stopRotating();
    await this.close();
  }

  /** Goes on with what an earlier process left, and starts the schedule. */
  async startRotating(): Promise<void> {
    this.#hasStarted = true;
    if (this.own === undefined || this.options.rotate === false) return;
    await this.own.engine.resume();
    await this.own.scheduler.start();
  }

  /** Stops rotating; handles still serve. What is unfinished goes on after the next start. */
  async stopRotating(): Promise<void> {
    this.own?.scheduler.stop();
    await this.own?.engine.stop();
  }

  /** Completes the handles, takes this instance off the list, and closes store and keys. */
  async close(): Promise<void> {
    this.handles.close();
    await this.own?.engine.leases.leave();
    await this.own?.acknowledgements.leave();
    await this.own?.instance.leave();
    await this.own?.versions.close();
  }
}

interface Surroundings {
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly ids: Ids;
  readonly definitions: SecretDefinitions;
  readonly rotators: Rotators;
  readonly timers: ScheduleTimers;
}

const DEFAULT_LEASE_MS = 10_000;
const SHORTEST_LEASE_MS = 300;

async function startManager(options: SecretsModuleOptions, surroundings: Surroundings): Promise<ManagerRuntime> {
  const { clock, randomness, ids, definitions, rotators, timers } = surroundings;
  const { store, keys } = options;
  if (store === undefined || keys === undefined) {
    throw new SecretsError(
      'MODULE_OPTIONS_INVALID',
      'SecretsModule.forRoot needs { store, keys }, or a { source } in place of both.',
    );
  }
  const { leaseMs = DEFAULT_LEASE_MS, processes = systemProcesses } = options.instance ?? {};
  if (!Number.isFinite(leaseMs) || leaseMs < SHORTEST_LEASE_MS) {
    throw new SecretsError(
      'MODULE_OPTIONS_INVALID',
      `SecretsModule.forRoot has the instance.leaseMs ${leaseMs}: give ${SHORTEST_LEASE_MS} ms or more.`,
    );
  }
  const versions = new VersionStore({ store, keys, clock, randomness, ids });
  await versions.open();
  const instance = new Instance({ store, clock, randomness, processes, id: ids.next(), leaseMs });
  await instance.join();
  const instances = new InstanceWatch(store, clock, processes, leaseMs, () => instance.strainMs());
  const acknowledgements = new Acknowledgements(store, instance, clock, randomness);
  const consumers = new Consumers(store, instances, instance.id);
  const reports = new FailureReports(store, instance.id);
  const journal = new RotationJournal(store, versions);
  const engine = new RotationEngine({
    versions,
    journal,
    rotators,
    instance,
    instances,
    consumers,
    reports,
    definitions,
    clock,
    randomness,
    ids,
  });
  const troubles = new RotationTroubles(engine.events$, clock);
  const onSuspended = (name: string, failures: number): void => engine.tellSuspended(name, failures);
  const scheduler = new RotationScheduler({ engine, versions, clock, randomness, timers, onSuspended });
  const manager = new SecretsManager({ versions, definitions, engine, scheduler, clock, randomness });
  const reader = new SecretReader(versions);
  const source = managerSource({
    reader,
    versions,
    instance,
    acknowledgements,
    reports,
    leases: engine.leases,
    clock,
  });
  return { manager, engine, scheduler, versions, instance, acknowledgements, source, troubles };
}
