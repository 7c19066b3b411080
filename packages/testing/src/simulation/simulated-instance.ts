import {
  type DatabaseCredentials,
  defineSecret,
  type KeyProvider,
  type RotationPolicy,
  type Secret,
  SecretsRuntime,
  unknownProcesses,
} from '@nestjs-secrets/core';
import type { EventQueue } from './event-queue.js';
import type { Invariants } from './invariants.js';
import { modelRotator, type RotatorWorld } from './model-rotators.js';
import type { Mutation } from './mutations.js';
import { PoolModel } from './pool-model.js';
import type { Scenario } from './scenario.js';
import type { SeededRandom } from './seeded-random.js';
import { type ClockFault, SimulatedProcess } from './simulated-process.js';
import type { SimulatedStore } from './simulated-store.js';
import type { SimulatedTarget } from './simulated-target.js';
import { tornSecret } from './torn-secret.js';

/** The world as an instance sees it. */
export interface InstanceWorld extends RotatorWorld {
  readonly queue: EventQueue;
  readonly random: SeededRandom;
  readonly scenario: Scenario;
  readonly invariants: Invariants;
  readonly store: SimulatedStore;
  readonly target: SimulatedTarget;
  readonly keys: KeyProvider;
  readonly options: { readonly mutation?: Mutation };
  readonly isTroubled: boolean;
  trace(process: SimulatedProcess, what: string): void;
  initialValue(): DatabaseCredentials;
  policy(): RotationPolicy;
  /** An instance could not start. */
  give(instance: Instance): void;
}

const SECRET = 'DbCreds';

/** A process with the whole of the library in it, as `SecretsModule.forRoot` puts it together, and a pool that does work. */
export class Instance {
  readonly process: SimulatedProcess;
  #secret: Secret<DatabaseCredentials> | undefined;
  #pool: PoolModel | undefined;
  #runtime: SecretsRuntime | undefined;
  #isUp = false;

  constructor(
    name: string,
    clock: ClockFault,
    distance: number,
    private readonly world: InstanceWorld,
  ) {
    this.process = new SimulatedProcess(name, world.queue, clock, distance);
  }

  get versionId(): string | undefined {
    return this.#secret?.versionId;
  }

  /** Whether it has started to the end. */
  get isUp(): boolean {
    return this.#isUp;
  }

  holds(versionId: string): boolean {
    return this.#pool?.versionIds().has(versionId) ?? false;
  }

  start(): void {
    const { world, process } = this;
    this.#start().catch((error: unknown) => {
      world.trace(process, `could not start: ${String(error)}`);
      world.give(this);
    });
  }

  rotate(emergencyMs: number | undefined): void {
    const { world, process } = this;
    const manager = this.#runtime?.own?.manager;
    if (manager === undefined) return;
    world.trace(
      process,
      emergencyMs === undefined ? 'is asked to rotate' : `is asked to rotate within ${emergencyMs} ms`,
    );
    const emergency = emergencyMs === undefined ? {} : { emergency: true, deadline: emergencyMs };
    manager.rotateSecret(SECRET, emergency).then(
      ({ versionId }) => world.trace(process, `rotated to ${versionId}`),
      (error: unknown) => world.trace(process, `did not rotate: ${String(error)}`),
    );
  }

  /** Writes the policy anew, as a deployment does. */
  updatePolicy(): void {
    const updated = this.#runtime?.own?.manager.updateRotationPolicy(SECRET, this.world.policy());
    updated?.catch((error: unknown) => this.world.trace(this.process, `did not update the policy: ${String(error)}`));
  }

  async #start(): Promise<void> {
    const { world, process } = this;
    const { scenario, random, invariants } = world;
    let ids = 0;
    const { clock } = process;
    const runtime = await SecretsRuntime.start(
      {
        store: world.store.connect(process),
        keys: world.keys,
        // The faults of this world are those of networks and processes. Its checks and mutations read and change what is written.
        integrity: false,
        rotators: [modelRotator(scenario.rotator, process, world.target, world)],
        clock,
        randomness: random,
        ids: { next: () => `${process.name}-${(ids += 1)}` },
        refreshIntervalMs: scenario.refreshIntervalMs,
        bootTimeoutMs: scenario.leaseMs * 2,
        instance: { leaseMs: scenario.leaseMs, processes: unknownProcesses },
      },
      { set: (_name, delayMs, task) => clock.after(delayMs, task) },
    );
    this.#runtime = runtime;
    runtime.own?.engine.events$.subscribe((event) => {
      const failure = 'message' in event ? `: ${event.message}` : '';
      const step = 'step' in event ? ` ${event.step ?? ''}` : '';
      const version = 'versionId' in event ? ` ${event.versionId ?? ''}` : '';
      const holders = 'holders' in event ? ` held by ${event.holders.join()}` : '';
      world.trace(process, `[${event.type}${step}${version}${holders}${failure}]`);
    });
    const definition = defineSecret<DatabaseCredentials>(SECRET);
    const stored = scenario.initial === 'stored';
    const initial = stored ? async () => world.initialValue() : 'rotator';
    await runtime.ensure(definition, { initial, rotation: world.policy() });
    const handle = (await runtime.open(SECRET)) as Secret<DatabaseCredentials>;
    let last: string | undefined;
    handle.changes$.subscribe(({ versionId, rolledBack }) => {
      world.trace(process, `runs on ${versionId}`);
      invariants.moved(process, last, versionId, rolledBack);
      last = versionId;
    });
    const { mutation } = world.options;
    this.#secret = mutation === 'torn pair' ? tornSecret(handle) : handle;
    this.#pool = new PoolModel(process, this.#secret, world.target, {
      size: scenario.poolSize,
      triesCandidates: mutation !== 'no candidate retry',
      thinkMs: () => random.between(0, scenario.thinkMs),
      onFailure: (failure, versionIds) => {
        world.trace(process, `work failed: ${failure} with ${versionIds.join()}`);
        invariants.failed(process, failure, versionIds);
      },
    });
    this.#work(this.#pool);
    await runtime.startRotating();
    this.#isUp = true;
  }

  #work(pool: PoolModel): void {
    const { random, scenario } = this.world;
    this.process.clock.after(random.between(0, 2 * scenario.workEveryMs), () => {
      void pool.work(1 + random.below(2));
      this.#work(pool);
    });
  }
}
