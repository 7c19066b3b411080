import type { DatabaseCredentials, KeyProvider, RotationPolicy, StoreCommit } from '@nestjs-secrets/core';
import { EventQueue } from './event-queue.js';
import { NO_FAULTS } from './fault-rates.js';
import { Invariants, type Violation } from './invariants.js';
import type { RotatorStatement, RotatorWorld } from './model-rotators.js';
import type { Mutation } from './mutations.js';
import { provoking, tamper } from './mutations.js';
import { type Assumptions, type Deed, drawScenario, type Scenario } from './scenario.js';
import { SeededRandom } from './seeded-random.js';
import { Instance } from './simulated-instance.js';
import type { SimulatedProcess } from './simulated-process.js';
import { SimulatedStore } from './simulated-store.js';
import { type Credentials, SimulatedTarget } from './simulated-target.js';

export const SECRET_NAME = 'DbCreds';

export interface WorldOptions {
  /** `within` by default. */
  readonly assumptions?: Assumptions;
  /** A mechanism to be broken on purpose. */
  readonly mutation?: Mutation;
  /** Called with each thing that happens, in words. */
  readonly onTrace?: (line: string) => void;
}

export interface WorldResult {
  readonly seed: number;
  readonly violations: readonly Violation[];
  readonly events: number;
  /** Of two runs of one seed the same. */
  readonly fingerprint: number;
}

/** How long everything may take to come to rest once nothing fails any more. Pauses between tries grow to a minute. */
const REST_LIMIT_MS = 600_000;
/** Some fifty times what a world takes: more is a loop that never waits. */
const EVENT_LIMIT = 20_000;

/** Runs the world of one seed to its end. */
export async function runWorld(seed: number, options: WorldOptions = {}): Promise<WorldResult> {
  return new World(seed, options).run();
}

class World implements RotatorWorld {
  readonly queue = new EventQueue();
  readonly random: SeededRandom;
  readonly scenario: Scenario;
  readonly invariants: Invariants;
  readonly store: SimulatedStore;
  readonly target: SimulatedTarget;
  readonly instances: Instance[] = [];
  readonly assertsHolder: boolean;
  readonly appliesEarly: boolean;
  #started = 0;
  #passwords = 0;
  #isTroubled = true;

  constructor(
    readonly seed: number,
    readonly options: WorldOptions,
  ) {
    const { assumptions = 'within', mutation } = options;
    this.random = new SeededRandom(seed);
    const drawn = drawScenario(this.random, assumptions);
    this.scenario = mutation === undefined ? drawn : provoking(mutation, drawn);
    this.assertsHolder = mutation !== 'no fencing';
    this.appliesEarly = mutation === 'no write-ahead';
    const { scenario, queue, random } = this;
    this.invariants = new Invariants({
      secretName: SECRET_NAME,
      target: () => this.target,
      events: () => queue.events,
      consumers: () => this.instances,
      isStrict: assumptions === 'within',
    });
    this.store = new SimulatedStore(
      {
        queue,
        random,
        latency: { usualMs: scenario.storeMs, slowestMs: scenario.slowestCommitMs },
        timeoutMs: scenario.leaseMs * 0.3,
        onCommit: (commit, process) => this.#committed(commit, process),
        ...(mutation === undefined ? {} : { tamper: tamper(mutation) }),
      },
      NO_FAULTS,
    );
    this.target = new SimulatedTarget(
      {
        queue,
        random,
        latency: { usualMs: scenario.targetMs, slowestMs: scenario.slowestStatementMs },
        timeoutMs: scenario.leaseMs * 0.3,
        observer: {
          loggedIn: (process, credentials, accepted) => {
            this.invariants.loggedIn(process, credentials);
            this.trace(process, `log-in of ${credentials.username} ${accepted ? 'accepted' : 'refused'}`);
          },
          killed: (session) => this.trace(session.process, `session of ${session.username} ended by the server`),
          changed: () => this.invariants.targetChanged(),
        },
      },
      NO_FAULTS,
    );
  }

  async run(): Promise<WorldResult> {
    const { queue, scenario, invariants, store, target } = this;
    this.options.onTrace?.(JSON.stringify(scenario));
    for (let count = 0; count < scenario.processes; count += 1) this.#spawn();
    queue.after(scenario.leaseMs * 0.2, 'trouble', () => {
      store.faults = scenario.storeFaults;
      target.faults = scenario.targetFaults;
    });
    for (const deed of scenario.deeds) queue.after(scenario.leaseMs * 0.2 + deed.atMs, deed.type, () => this.#do(deed));
    queue.after(scenario.leaseMs * 0.2 + scenario.troubleMs, 'calm', () => this.#calm());
    await queue.run(() => {
      invariants.check();
      if (queue.events > EVENT_LIMIT) invariants.unsettled(`${EVENT_LIMIT} events, and no end`);
      return invariants.violations.length > 0 || (!this.#isTroubled && this.#isAtRest());
    });
    for (const instance of this.instances) instance.process.kill();
    const { events, fingerprint } = queue;
    return { seed: this.seed, violations: invariants.violations, events, fingerprint };
  }

  trace(process: SimulatedProcess | undefined, what: string): void {
    this.options.onTrace?.(
      `${String(this.queue.events).padStart(6)} ${this.queue.now.toFixed(1).padStart(10)} ms  ${process?.name ?? 'world'}: ${what}`,
    );
  }

  // What the model rotators ask.

  newPassword(username: string): string {
    this.#passwords += 1;
    const password = `password-${this.#passwords}`;
    this.invariants.made({ username, password });
    return password;
  }

  bind(versionId: string, credentials: Credentials): void {
    this.invariants.bind(versionId, credentials);
  }

  tenureOf(process: SimulatedProcess): number {
    return this.invariants.tenureOf(process);
  }

  onStatement(process: SimulatedProcess, statement: RotatorStatement): void {
    this.trace(process, `${statement.kind} ${statement.versionId} under tenure ${statement.tenure}`);
    this.invariants.statement(process, statement);
    this.#disturb(process);
  }

  failsAt(step: 'create' | 'apply' | 'verify' | 'retire' | 'undo'): boolean {
    const fails = this.#isTroubled && this.random.chance(this.scenario.stepFails);
    if (fails) this.trace(undefined, `${step} is made to fail`);
    return fails;
  }

  // What an instance asks.

  get keys(): KeyProvider {
    return plainKeys;
  }

  get isTroubled(): boolean {
    return this.#isTroubled;
  }

  /** The first value, where it is put by hand: the target knows it already. */
  initialValue(): DatabaseCredentials {
    const username = this.scenario.rotator.strategy === 'alternating-users' ? 'app_1' : 'app';
    const value = { username, password: 'password-0' };
    this.invariants.made(value);
    this.bind('v1', value);
    if (this.target.role(username) === undefined)
      this.target.setRole(username, { passwords: [value.password], mayLogIn: true, isPermitted: true });
    return value;
  }

  policy(): RotationPolicy {
    const { everyMs } = this.scenario;
    if (everyMs === undefined) return { rotator: 'model' };
    return { rotator: 'model', schedule: { every: everyMs }, enabled: this.#isTroubled };
  }

  /** A process ended by itself, or was killed: an orchestrator starts another in its place. */
  ended(): void {
    this.queue.after(this.scenario.leaseMs * this.random.between(0.05, 2), 'respawn', () => this.#spawn());
  }

  // What happens.

  #spawn(): void {
    const { clocks, distances } = this.scenario;
    const clock = clocks[this.#started % clocks.length] ?? { skewMs: 0, rate: 1 };
    const distance = distances[this.#started % distances.length] ?? 1;
    this.#started += 1;
    const instance = new Instance(`p${this.#started}`, clock, distance, this);
    this.instances.push(instance);
    this.trace(instance.process, 'starts');
    instance.start();
  }

  #kill(instance: Instance): void {
    if (!instance.process.isAlive) return;
    this.trace(instance.process, 'killed');
    instance.process.kill();
    this.target.dropProcess(instance.process);
    this.instances.splice(this.instances.indexOf(instance), 1);
    this.ended();
  }

  /** Ends a process that could not start. */
  give(instance: Instance): void {
    this.#kill(instance);
  }

  #stop(instance: Instance, forMs: number): void {
    if (!instance.process.isRunning) return;
    this.trace(instance.process, `stopped for ${forMs.toFixed(0)} ms`);
    instance.process.stop();
    this.queue.after(forMs, 'go on', () => {
      this.trace(instance.process, 'goes on');
      instance.process.goOn();
    });
  }

  #do(deed: Deed): void {
    const instance = this.instances.length === 0 ? undefined : this.random.pick(this.instances);
    if (deed.type !== 'rotate') this.trace(instance?.process, deed.type);
    if (deed.type === 'store down' || deed.type === 'target down') {
      const service = deed.type === 'store down' ? this.store : this.target;
      service.isDown = true;
      this.queue.after(deed.forMs, 'up', () => (service.isDown = false));
    } else if (deed.type === 'join') this.#spawn();
    else if (instance === undefined) return;
    else if (deed.type === 'rotate') instance.rotate(deed.emergencyMs);
    else if (deed.type === 'stop') this.#stop(instance, deed.forMs);
    else if (deed.type === 'cut off') {
      this.store.cutOff.add(instance.process);
      this.queue.after(deed.forMs, 'up', () => this.store.cutOff.delete(instance.process));
    } else this.#kill(instance);
  }

  /** Trouble comes where it hurts: right after something that other processes will find. */
  #disturb(process: SimulatedProcess): void {
    if (!this.#isTroubled) return;
    const { killedInStep, stoppedInStep, longestStopMs } = this.scenario;
    const instance = this.instances.find((other) => other.process === process);
    if (instance === undefined) return;
    if (this.random.chance(killedInStep)) this.queue.after(0, 'kill', () => this.#kill(instance));
    else if (this.random.chance(stoppedInStep)) {
      const forMs = this.random.between(0, longestStopMs);
      this.queue.after(0, 'stop', () => this.#stop(instance, forMs));
    }
  }

  #committed(commit: StoreCommit, process: SimulatedProcess): void {
    const promoted = this.invariants.mirror.current(SECRET_NAME);
    this.invariants.committed(commit, process);
    this.options.onTrace?.(
      `${String(this.queue.events).padStart(6)} ${this.queue.now.toFixed(1).padStart(10)} ms  ${process.name}: commits ${describeCommit(commit)}`,
    );
    if (commit.writes.some(({ key }) => key.startsWith('rotation/'))) this.#disturb(process);
    const current = this.invariants.mirror.current(SECRET_NAME);
    if (current !== undefined && current !== promoted) this.#promoted(current);
  }

  #promoted(versionId: string): void {
    const credentials = this.invariants.credentialsOf(versionId);
    if (!this.#isTroubled || credentials === undefined || !this.random.chance(this.scenario.spoiled)) return;
    const role = this.target.role(credentials.username);
    if (role === undefined || this.scenario.rotator.strategy !== 'alternating-users') return;
    this.trace(undefined, `${versionId} loses what it may do`);
    this.invariants.spoil(versionId);
    this.target.setRole(credentials.username, { ...role, isPermitted: false });
  }

  #calm(): void {
    this.trace(undefined, 'nothing fails any more');
    this.#isTroubled = false;
    this.store.faults = NO_FAULTS;
    this.target.faults = NO_FAULTS;
    this.store.isDown = false;
    this.target.isDown = false;
    this.store.cutOff.clear();
    for (const { process } of this.instances) process.goOn();
    if (this.scenario.everyMs !== undefined) this.#endSchedule();
    this.queue.after(REST_LIMIT_MS, 'limit', () => this.invariants.unsettled(this.#unrest() ?? 'it only just settled'));
  }

  /** Asks until it is so: whoever was asked may have died of it. */
  #endSchedule(): void {
    if (this.invariants.mirror.records.get(SECRET_NAME)?.rotation?.enabled === false) return;
    this.instances.find(({ isUp }) => isUp)?.updatePolicy();
    this.queue.after(1_000, 'ask again', () => this.#endSchedule());
  }

  #isAtRest(): boolean {
    return this.#unrest() === undefined;
  }

  /** What still has to happen; undefined when nothing has. */
  #unrest(): string | undefined {
    const { mirror } = this.invariants;
    const journal = mirror.journals.get(SECRET_NAME);
    if (journal?.active !== undefined) return `the rotation ${journal.active.rotationId} is at ${journal.active.step}`;
    if (journal !== undefined && journal.obligations.length > 0)
      return journal.obligations.map(({ versionId, step }) => `${versionId} is at ${step}`).join();
    const current = mirror.current(SECRET_NAME);
    if (current === undefined) return 'there is no current version';
    if (this.instances.length < this.scenario.processes) return 'a process is not up again';
    for (const { process, versionId, isUp } of this.instances) {
      if (!isUp) return `${process.name} has not started`;
      if (versionId !== current) return `${process.name} runs on ${versionId ?? 'nothing'} while ${current} is current`;
    }
    return undefined;
  }
}

function describeCommit({ writes }: StoreCommit): string {
  return writes
    .map(({ key, value }) => {
      if (value === null) return `${key} removed`;
      const isOpen = /^(rotation|ack|instance|report|borrow|unfinished)\//.test(key);
      return isOpen ? `${key} ${Buffer.from(value).toString('utf8')}` : key;
    })
    .join('; ');
}

/** Keys that keep nothing secret, since nothing here is, and cost nothing. */
const plainKeys: KeyProvider = {
  name: 'plain keys',
  open: async () => undefined,
  close: async () => undefined,
  active: () => ({ id: 'plain', version: 1 }),
  wrap: (_cmk, dataKey) => new Uint8Array(dataKey),
  unwrap: (_cmk, wrapped) => {
    const dataKey = Buffer.alloc(wrapped.length);
    dataKey.set(wrapped);
    return dataKey;
  },
};
