import { type Clock, systemClock } from '../foundation/clock.js';
import { isSecretsError, KeyMismatchError } from '../foundation/errors.js';
import { cryptoRandomness, type Randomness } from '../foundation/randomness.js';
import { copyOf, DataKeyCache } from './data-key-cache.js';
import { type CmkRef, isCmkRef, type KeyProvider, KeyProviderError, type KeyProviderStatus } from './key-provider.js';
import { type RemoteCallOptions, RemoteCalls } from './remote-calls.js';

/** What a provider over a remote service does with the data keys it has unwrapped, besides how it calls. */
export interface RemoteKeyOptions extends RemoteCallOptions {
  /** How many unwrapped data keys are kept in memory; 10,000 by default, 0 for none. */
  readonly cachedDataKeys?: number;
  /**
   * For how long a data key is used before the service is asked for it again, in milliseconds; 300,000 by default. So long may it take until a key
   * that was disabled, or a permission that was withdrawn, takes effect on reads.
   */
  readonly dataKeyMaxAgeMs?: number;
  /** How much longer than that a data key is used while the service gives no answer, in milliseconds; 86,400,000 (a day) by default. */
  readonly outageMs?: number;
}

/** A service that holds master keys, as its package sees it. Every method may be asked again after `KeyUnavailableError`. */
export interface RemoteKeyService {
  readonly name: string;
  /** The id of the key whose highest version wraps new data keys. */
  readonly defaultKey: string;
  /** Connects, if there is anything to connect. */
  open(signal: AbortSignal): Promise<void>;
  /** Disconnects; may be called twice, and without `open()`. */
  close(): Promise<void>;
  /** Every version of every key there is, the default key's among them. */
  list(signal: AbortSignal): Promise<readonly CmkRef[]>;
  /** Makes a key, or one more version of the one with this id, durably. Asked again after `KeyUnavailableError`, it may leave a version unused. */
  make?(id: string | undefined, signal: AbortSignal): Promise<CmkRef>;
  /** Destroys a version for ever; one that is gone already is none to complain about. */
  destroy?(cmk: CmkRef, signal: AbortSignal): Promise<void>;
  /**
   * @throws KeyUnavailableError when there was no answer: it is worth trying again
   * @throws KeyRefusedError when the answer was no
   */
  wrap(cmk: CmkRef, dataKey: Uint8Array, associatedData: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;
  /**
   * The data key, in a buffer that is given away.
   * @throws KeyUnavailableError, KeyRefusedError as above
   * @throws KeyMismatchError when it does not open under this key with this associated data
   */
  unwrap(cmk: CmkRef, wrappedKey: Uint8Array, associatedData: Uint8Array, signal: AbortSignal): Promise<Buffer>;
}

export interface RemoteKeySurroundings {
  readonly clock?: Clock;
  readonly randomness?: Randomness;
}

interface Flight {
  readonly answer: Promise<Buffer>;
  waiting: number;
}

const DEFAULT_CACHED = 10_000;
const DEFAULT_MAX_AGE_MS = 300_000;
const DEFAULT_OUTAGE_MS = 86_400_000;
const SWEEP_EVERY_MS = 60_000;

/**
 * A key provider over a service that is asked by calls: one call for each data key that is wrapped, and one for each that is unwrapped and not
 * known yet, whatever the number of those who ask at once. While the service is away, data keys unwrapped before serve on and wrapping fails.
 */
export function remoteKeyProvider(
  service: RemoteKeyService,
  options: RemoteKeyOptions = {},
  surroundings: RemoteKeySurroundings = {},
): KeyProvider {
  return new RemoteKeyProvider(service, options, surroundings);
}

class RemoteKeyProvider implements KeyProvider {
  readonly name: string;
  readonly make: KeyProvider['make'];
  readonly destroy: KeyProvider['destroy'];
  readonly #service: RemoteKeyService;
  readonly #clock: Clock;
  readonly #maxAgeMs: number;
  readonly #outageMs: number;
  readonly #cache: DataKeyCache;
  readonly #newCalls: () => RemoteCalls;
  readonly #flights = new Map<string, Flight>();
  #calls: RemoteCalls | undefined;
  #known: ReadonlySet<string> = new Set();
  #active: CmkRef = { id: '', version: 0 };
  #stopSweeping: () => void = () => undefined;

  constructor(service: RemoteKeyService, options: RemoteKeyOptions, surroundings: RemoteKeySurroundings) {
    const { clock = systemClock, randomness = cryptoRandomness } = surroundings;
    const {
      cachedDataKeys = DEFAULT_CACHED,
      dataKeyMaxAgeMs = DEFAULT_MAX_AGE_MS,
      outageMs = DEFAULT_OUTAGE_MS,
    } = options;
    this.name = service.name;
    for (const [option, value] of Object.entries({ cachedDataKeys, dataKeyMaxAgeMs, outageMs })) {
      if (Number.isSafeInteger(value) && value >= 0) continue;
      throw this.#invalid(`was given the ${option} ${String(value)}: give a whole number from 0.`);
    }
    this.#service = service;
    this.#clock = clock;
    this.#maxAgeMs = dataKeyMaxAgeMs;
    this.#outageMs = outageMs;
    this.#cache = new DataKeyCache(cachedDataKeys);
    this.#newCalls = () => new RemoteCalls(service.name, options, clock, randomness);
    // Options that cannot be used are told where they are given, not at the start of the application.
    this.#newCalls();
    if (service.make !== undefined) this.make = (id) => this.#make(id);
    if (service.destroy !== undefined) this.destroy = (cmk) => this.#destroy(cmk);
  }

  async open(): Promise<void> {
    const calls = this.#newCalls();
    try {
      await calls.run((signal) => this.#service.open(signal));
      await this.#look(calls);
    } catch (error) {
      calls.close();
      await this.#service.close();
      throw error;
    }
    this.#calls = calls;
    this.#sweepOnAndOn();
  }

  async close(): Promise<void> {
    this.#stopSweeping();
    this.#calls?.close();
    this.#calls = undefined;
    this.#cache.clear();
    await this.#service.close();
  }

  active(): CmkRef {
    this.#opened();
    return this.#active;
  }

  async list(): Promise<readonly CmkRef[]> {
    return this.#look(this.#opened());
  }

  async wrap(cmk: CmkRef, dataKey: Uint8Array, associatedData: Uint8Array): Promise<Uint8Array> {
    const calls = this.#opened();
    const own = copyOf(dataKey);
    try {
      await this.#find(calls, cmk);
      const wrappedKey = await calls.run((signal) => this.#service.wrap(cmk, own, associatedData, signal));
      // What was just written is read next.
      if (calls === this.#calls)
        this.#cache.put(DataKeyCache.slot(cmk, wrappedKey, associatedData), cmk, own, this.#clock.monotonic());
      return wrappedKey;
    } catch (error) {
      if (isSecretsError(error, 'KEY_REFUSED')) this.#cache.forgetAllOf(cmk);
      throw error;
    } finally {
      own.fill(0);
    }
  }

  unwrap(cmk: CmkRef, wrappedKey: Uint8Array, associatedData: Uint8Array): Buffer | Promise<Buffer> {
    const calls = this.#opened();
    const slot = DataKeyCache.slot(cmk, wrappedKey, associatedData);
    const found = this.#cache.find(slot, this.#clock.monotonic());
    if (found !== undefined && found.ageMs <= this.#maxAgeMs) return copyOf(found.dataKey);
    const asked = this.#ask(calls, slot, cmk, wrappedKey, associatedData);
    if (found === undefined || found.ageMs > this.#maxAgeMs + this.#outageMs) return asked;
    if (!calls.isAway) return this.#orElse(asked, slot);
    // Nobody has to wait for a service that is known to be away: one asks in the background, so that its return is noticed.
    asked.then((dataKey) => dataKey.fill(0)).catch(() => undefined);
    return copyOf(found.dataKey);
  }

  status(): KeyProviderStatus {
    return this.#calls?.status() ?? { state: 'available' };
  }

  async #make(id: string | undefined): Promise<CmkRef> {
    const calls = this.#opened();
    const made = await calls.run(async (signal) => this.#service.make?.(id, signal));
    await this.#look(calls);
    if (made === undefined || !this.#known.has(print(made)))
      throw this.#invalid('does not list the key it has just made.');
    return made;
  }

  async #destroy(cmk: CmkRef): Promise<void> {
    const calls = this.#opened();
    await calls.run(async (signal) => this.#service.destroy?.(cmk, signal));
    this.#cache.forgetAllOf(cmk);
    await this.#look(calls);
  }

  /** What was asked for; where there is no answer, what is known of before. */
  async #orElse(asked: Promise<Buffer>, slot: string): Promise<Buffer> {
    try {
      return await asked;
    } catch (error) {
      const known = isSecretsError(error, 'KEY_UNAVAILABLE')
        ? this.#cache.find(slot, this.#clock.monotonic())
        : undefined;
      if (known === undefined) throw error;
      return copyOf(known.dataKey);
    }
  }

  /** Asks the service, one call for all who ask for the same; each gets a copy. */
  async #ask(
    calls: RemoteCalls,
    slot: string,
    cmk: CmkRef,
    wrappedKey: Uint8Array,
    associatedData: Uint8Array,
  ): Promise<Buffer> {
    let flight = this.#flights.get(slot);
    if (flight === undefined) {
      flight = { answer: this.#fly(calls, slot, cmk, copyOf(wrappedKey), copyOf(associatedData)), waiting: 0 };
      this.#flights.set(slot, flight);
    }
    flight.waiting += 1;
    let dataKey: Buffer | undefined;
    try {
      dataKey = await flight.answer;
      return copyOf(dataKey);
    } finally {
      flight.waiting -= 1;
      if (flight.waiting === 0) dataKey?.fill(0);
    }
  }

  async #fly(
    calls: RemoteCalls,
    slot: string,
    cmk: CmkRef,
    wrappedKey: Uint8Array,
    associatedData: Uint8Array,
  ): Promise<Buffer> {
    try {
      await this.#find(calls, cmk);
      const dataKey = await calls.run((signal) => this.#service.unwrap(cmk, wrappedKey, associatedData, signal));
      if (calls === this.#calls) this.#cache.put(slot, cmk, dataKey, this.#clock.monotonic());
      return dataKey;
    } catch (error) {
      // A key that was disabled or withdrawn opens nothing here either, from now on.
      if (isSecretsError(error, 'KEY_REFUSED')) this.#cache.forgetAllOf(cmk);
      else if (!isSecretsError(error, 'KEY_UNAVAILABLE')) this.#cache.forget(slot);
      throw error;
    } finally {
      this.#flights.delete(slot);
    }
  }

  #sweepOnAndOn(): void {
    this.#stopSweeping = this.#clock.after(SWEEP_EVERY_MS, () => {
      this.#cache.forgetOlderThan(this.#maxAgeMs + this.#outageMs, this.#clock.monotonic());
      this.#sweepOnAndOn();
    });
  }

  #opened(): RemoteCalls {
    if (this.#calls !== undefined) return this.#calls;
    throw new KeyProviderError(
      'KEY_PROVIDER_CLOSED',
      this.name,
      'is not open: open() was not called yet, or the application is shutting down.',
    );
  }

  /** Makes sure that there is such a key; it may be one that another process has just made. */
  async #find(calls: RemoteCalls, cmk: CmkRef): Promise<void> {
    if (this.#known.has(print(cmk))) return;
    const known = await this.#look(calls);
    if (known.some((one) => print(one) === print(cmk))) return;
    throw new KeyMismatchError(
      `The data was sealed under key ${print(cmk)}; ${this.name} has ${known.map(print).join(', ')}. Point it to the key the store was sealed with.`,
    );
  }

  async #look(calls: RemoteCalls): Promise<readonly CmkRef[]> {
    const keys = await calls.run((signal) => this.#service.list(signal));
    const own = keys.filter(({ id }) => id === this.#service.defaultKey);
    const [first, ...others] = own;
    if (first === undefined || !keys.every(isCmkRef)) throw this.#invalid('has no master key that can be used.');
    this.#active = others.reduce((one, other) => (other.version > one.version ? other : one), first);
    this.#known = new Set(keys.map(print));
    return keys;
  }

  #invalid(message: string): KeyProviderError {
    return new KeyProviderError('KEY_PROVIDER_INVALID', this.name, message);
  }
}

function print({ id, version }: CmkRef): string {
  return `${id} version ${version}`;
}
