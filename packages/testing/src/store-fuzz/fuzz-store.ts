import { ephemeralKeys, isSecretsError, type KeyProvider, SecretsRuntime, systemClock } from '@nestjs-secrets/core';
import { SeededRandom } from '../simulation/seeded-random.js';
import { FuzzedStore } from './fuzzed-store.js';
import { type History, mutateStore, type StoreMutation } from './mutate-store.js';

export interface FuzzOptions {
  readonly mutations: number;
  /** Of two runs of one seed, both do the same to a store of the same shape; 1 by default. */
  readonly seed?: number;
  /** True leaves out what is under test, to see that the fuzzer notices. */
  readonly withoutIntegrity?: boolean;
  /** Called now and then. */
  readonly onProgress?: (done: number) => void;
}

export interface FuzzFailure {
  readonly mutation: number;
  readonly what: string;
  readonly came: string;
}

export interface FuzzReport {
  readonly mutations: number;
  /** A secret was read with another value than its own. */
  readonly wrongValues: number;
  /** Something threw that is no error of this library, or was rejected with nobody to take it. */
  readonly crashes: number;
  /** A secret could not be read, or not be written, whose entries were as they should be. */
  readonly wedged: number;
  /** How many of the mutations somebody was told of. */
  readonly noticed: number;
  /** The first of those that went wrong. */
  readonly failures: readonly FuzzFailure[];
}

const SECRETS = 24;
/** So many processes start anew; the others have been running. Starting costs some twenty times as much as a look. */
const STARTS_ONE_IN = 10;
const VERIFIES_ONE_IN = 200;
const BETWEEN_PROGRESS = 1_000;
const MOST_FAILURES = 20;

type Wrong = 'wrongValues' | 'crashes' | 'wedged';

/** Changes the bytes of a store at random, one mutation at a time, and looks at what an application makes of it. */
export async function fuzzStore(options: FuzzOptions): Promise<FuzzReport> {
  const fuzzer = new StoreFuzzer(new SeededRandom(options.seed ?? 1), options.withoutIntegrity ?? false);
  return fuzzer.run(options);
}

class StoreFuzzer {
  readonly #store = new FuzzedStore();
  readonly #keys: KeyProvider = ephemeralKeys();
  readonly #values = new Map<string, string>();
  readonly #history = new Map<string, Uint8Array[]>();
  readonly #counts = { wrongValues: 0, crashes: 0, wedged: 0, noticed: 0 };
  readonly #failures: FuzzFailure[] = [];
  #mutation = 0;
  #what = '';
  #isNoticed = false;

  constructor(
    private readonly random: SeededRandom,
    private readonly isBare: boolean,
  ) {}

  async run({ mutations, onProgress }: FuzzOptions): Promise<FuzzReport> {
    const onRejection = (error: unknown): void => this.#wrong('crashes', `an unhandled rejection: ${String(error)}`);
    process.on('unhandledRejection', onRejection);
    const running = await this.#start();
    try {
      await this.#populate(running);
      this.#store.mark();
      for (this.#mutation = 1; this.#mutation <= mutations; this.#mutation += 1) {
        await this.#mutate(running);
        if (this.#mutation % BETWEEN_PROGRESS !== 0) continue;
        onProgress?.(this.#mutation);
        // A mutation leaves no room for anything else; this lets the process answer signals, and tells of rejections.
        await new Promise((resolve) => setImmediate(resolve));
      }
      await new Promise((resolve) => setImmediate(resolve));
    } finally {
      process.off('unhandledRejection', onRejection);
      await running.close();
    }
    return { mutations, ...this.#counts, failures: this.#failures };
  }

  async #populate({ own }: SecretsRuntime): Promise<void> {
    const manager = own?.manager;
    for (const round of ['older', 'newer', 'newest']) {
      for (let index = 0; index < SECRETS; index += 1) {
        const name = `team-${index % 5}/secret-${index}`;
        const value = `the ${round} value of ${name}`;
        if (round === 'older')
          await manager?.createSecret(
            name,
            value,
            index % 6 === 0 ? { rotation: { rotator: 'any', schedule: { every: '1h' } } } : {},
          );
        else await manager?.putSecretValue(name, value);
        this.#values.set(name, value);
      }
      if (round === 'newest') return;
      for (const key of this.#store.keys()) {
        const value = this.#store.get(key)?.value;
        if (value !== undefined) this.#history.set(key, [...(this.#history.get(key) ?? []), value]);
      }
    }
  }

  async #mutate(running: SecretsRuntime): Promise<void> {
    const { random } = this;
    const history: History = this.#history;
    const mutation = mutateStore(this.#store, random, history);
    this.#what = mutation.what;
    this.#isNoticed = false;
    const isNew = random.chance(1 / STARTS_ONE_IN);
    const runtime = isNew ? await this.#startAnew() : running;
    if (runtime !== undefined) {
      await this.#look(runtime, mutation, isNew);
      if (isNew) await runtime.close();
    }
    if (this.#isNoticed) this.#counts.noticed += 1;
    this.#store.undo();
  }

  async #look(runtime: SecretsRuntime, { keys }: StoreMutation, isNew: boolean): Promise<void> {
    const { random } = this;
    const names = [...this.#values.keys()];
    const touched = new Set(
      keys.flatMap((key) => names.filter((name) => key.split(/\/(.*)/s)[1]?.split(':')[0] === name)),
    );
    const looks = isNew ? names : [...touched, random.pick(names), random.pick(names), random.pick(names)];
    for (const name of new Set(looks)) await this.#read(runtime, name, touched.has(name));
    if (random.chance(isNew ? 0.5 : 0.02)) await this.#list(runtime, touched);
    if (isNew) await this.#write(runtime, random.pick(names.filter((name) => !touched.has(name))));
    if (random.chance(1 / VERIFIES_ONE_IN))
      await this.#attempt('verifyStore', () => runtime.own?.integrity?.verifyStore(), true);
  }

  async #read({ own }: SecretsRuntime, name: string, isTouched: boolean): Promise<void> {
    const read = await this.#attempt(`reading ${name}`, () => own?.manager.getSecretValue(name), isTouched);
    if (read !== undefined && read.value !== this.#values.get(name))
      this.#wrong('wrongValues', `${name} is read as another value`);
  }

  async #list({ own }: SecretsRuntime, touched: ReadonlySet<string>): Promise<void> {
    const page = await this.#attempt('listing', () => own?.manager.listSecrets({ limit: 100 }), false);
    const listed = new Set(page?.items.map(({ name }) => name));
    for (const name of this.#values.keys())
      if (page !== undefined && !touched.has(name) && !listed.has(name)) this.#wrong('wedged', `${name} is not listed`);
  }

  /** Goes away with the mutation. */
  async #write({ own }: SecretsRuntime, name: string): Promise<void> {
    await this.#attempt(`writing ${name}`, () => own?.manager.putSecretValue(name, 'a new value'), false);
    const read = await this.#attempt(`reading ${name} anew`, () => own?.manager.getSecretValue(name), false);
    if (read !== undefined && read.value !== 'a new value')
      this.#wrong('wrongValues', `${name} is not read as it was written`);
  }

  async #attempt<R>(what: string, work: () => Promise<R> | undefined, mayFail: boolean): Promise<R | undefined> {
    try {
      return await work();
    } catch (error) {
      if (!isSecretsError(error)) this.#wrong('crashes', `${what}: ${String(error)}`);
      else if (!mayFail) this.#wrong('wedged', `${what}: ${error.code}: ${error.message}`);
      return undefined;
    }
  }

  async #startAnew(): Promise<SecretsRuntime | undefined> {
    return this.#attempt('starting', () => this.#start(), false);
  }

  #start(): Promise<SecretsRuntime> {
    const noTimers = { set: () => () => undefined };
    return SecretsRuntime.start(
      {
        store: this.#store.driver(),
        keys: this.#keys,
        rotate: false,
        // No heartbeat comes in between.
        instance: { leaseMs: 86_400_000 },
        clock: { ...systemClock, after: () => () => undefined },
        integrity: !this.isBare && { onEvent: ({ type }) => (this.#isNoticed ||= type === 'found') },
      },
      noTimers,
    );
  }

  #wrong(kind: Wrong, came: string): void {
    this.#counts[kind] += 1;
    if (this.#failures.length < MOST_FAILURES)
      this.#failures.push({ mutation: this.#mutation, what: this.#what, came });
  }
}
