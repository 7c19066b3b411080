import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  type CmkRef,
  ephemeralKeys,
  isSecretsError,
  KeyRefusedError,
  type KeyProvider,
  KeyUnavailableError,
  type RemoteKeyOptions,
  remoteKeyProvider,
  type RemoteKeyService,
} from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { seededRandomness } from './seeded-randomness.js';

const DATA_KEY = Buffer.alloc(32, 'data key');
const PLACE = Buffer.from('store/secret/v1');

/** A service over keys in the process, whose behaviour a test sets. */
class ScriptedService implements RemoteKeyService {
  readonly name = 'scripted service';
  readonly defaultKey: string;
  readonly #keys = ephemeralKeys();
  readonly #active: CmkRef;
  wraps = 0;
  unwraps = 0;
  lists = 0;
  running = 0;
  mostRunning = 0;
  readonly aborted: string[] = [];
  /** What happens to each call before it is answered. */
  behave: (signal: AbortSignal) => Promise<void> = async () => undefined;

  constructor() {
    this.#active = this.#keys.active() as CmkRef;
    this.defaultKey = this.#active.id;
  }

  async open(): Promise<void> {}
  async close(): Promise<void> {}

  async list(): Promise<CmkRef[]> {
    this.lists += 1;
    return [this.#active];
  }

  async wrap(cmk: CmkRef, dataKey: Uint8Array, place: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    this.wraps += 1;
    return this.#answer(signal, async () => this.#keys.wrap(cmk, dataKey, place));
  }

  async unwrap(cmk: CmkRef, wrapped: Uint8Array, place: Uint8Array, signal: AbortSignal): Promise<Buffer> {
    this.unwraps += 1;
    return this.#answer(signal, async () => this.#keys.unwrap(cmk, wrapped, place));
  }

  async #answer<T>(signal: AbortSignal, answer: () => Promise<T>): Promise<T> {
    this.running += 1;
    this.mostRunning = Math.max(this.mostRunning, this.running);
    signal.addEventListener('abort', () => this.aborted.push(signal.aborted ? 'aborted' : ''));
    try {
      await this.behave(signal);
      return await answer();
    } finally {
      this.running -= 1;
    }
  }
}

const away = async (): Promise<void> => {
  throw new KeyUnavailableError('scripted service', 'is unplugged.');
};
const hangs = (signal: AbortSignal): Promise<void> =>
  new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(new Error('aborted')));
  });

let clock: SimulatedClock;
let service: ScriptedService;
let provider: KeyProvider;

const start = async (options: RemoteKeyOptions = {}): Promise<void> => {
  provider = remoteKeyProvider(service, options, { clock, randomness: seededRandomness('one') });
  await provider.open();
};
const active = (): CmkRef => provider.active() as CmkRef;
const wrap = (place = PLACE): Promise<Uint8Array> => Promise.resolve(provider.wrap(active(), DATA_KEY, place));
const unwrap = async (wrapped: Uint8Array, place = PLACE): Promise<Buffer> => provider.unwrap(active(), wrapped, place);
const wrapElsewhere = async (): Promise<Uint8Array> => {
  const other = remoteKeyProvider(service, {}, { clock, randomness: seededRandomness('other') });
  await other.open();
  const wrapped = await other.wrap(active(), DATA_KEY, PLACE);
  await other.close();
  return wrapped;
};
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'none',
    (error: unknown) => (isSecretsError(error) ? error.code : String(error)),
  );
/** Moves time on until the work is done, and says how much it took. */
const throughTime = async (work: Promise<unknown>): Promise<number> => {
  const startedAt = clock.now();
  let done = false;
  const settled = work.then(
    () => (done = true),
    () => (done = true),
  );
  while (!done) await clock.advance(10);
  await settled;
  return clock.now() - startedAt;
};
/** Lets four attempts fail, after which the service counts as away. */
const goAway = async (): Promise<void> => {
  service.behave = away;
  const failed = Array.from({ length: 4 }, (_, index) => wrap(Buffer.from(`away ${index}`)));
  for (const one of failed) one.catch(() => undefined);
  await throughTime(Promise.allSettled(failed));
  expect(provider.status?.()).toMatchObject({ state: 'away' });
};

beforeEach(() => {
  clock = new SimulatedClock();
  service = new ScriptedService();
});

afterEach(() => provider.close());

describe('a key provider over a service', () => {
  it('unwraps what it has wrapped without asking, and what another has wrapped with one call', async () => {
    await start();
    const own = await wrap();
    expect(await unwrap(own)).toEqual(DATA_KEY);
    expect(service.unwraps).toBe(0);
    const others = await wrapElsewhere();
    expect(await unwrap(others)).toEqual(DATA_KEY);
    expect(await unwrap(others)).toEqual(DATA_KEY);
    expect(service.unwraps).toBe(1);
  });

  it('asks once for all who ask at once, and gives each a buffer of its own', async () => {
    await start();
    const wrapped = await wrapElsewhere();
    const keys = await Promise.all(Array.from({ length: 100 }, () => unwrap(wrapped)));
    expect(service.unwraps).toBe(1);
    keys[0]?.fill(0);
    expect(keys[1]).toEqual(DATA_KEY);
    expect(await unwrap(wrapped)).toEqual(DATA_KEY);
    expect(service.unwraps).toBe(1);
  });

  it('finds a data key for the place it was wrapped for, and for no other', async () => {
    await start();
    const wrapped = await wrap();
    expect(await codeOf(unwrap(wrapped, Buffer.from('store/secret/v2')))).toBe('KEY_MISMATCH');
    const changed = Buffer.from(wrapped);
    changed[20] = (changed[20] ?? 0) ^ 1;
    expect(await codeOf(unwrap(changed))).toBe('KEY_MISMATCH');
    expect(await codeOf(Promise.resolve(provider.unwrap({ ...active(), version: 2 }, wrapped, PLACE)))).toBe(
      'KEY_MISMATCH',
    );
  });

  it('never has more calls under way than it may', async () => {
    await start({ concurrency: 3 });
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    service.behave = () => held;
    const wraps = Array.from({ length: 50 }, (_, index) => wrap(Buffer.from(`place ${index}`)));
    for (let turn = 0; turn < 20; turn += 1) await nextTurn();
    expect(service.running).toBe(3);
    release();
    await Promise.all(wraps);
    expect([service.wraps, service.mostRunning]).toEqual([50, 3]);
  });

  it('lets nobody wait for longer than the deadline, for a turn either', async () => {
    await start({ concurrency: 2, deadlineMs: 1_000, attemptMs: 1_000 });
    service.behave = hangs;
    const wraps = Array.from({ length: 10 }, (_, index) => wrap(Buffer.from(`place ${index}`)));
    const codes = Promise.all(wraps.map(codeOf));
    expect(await throughTime(codes)).toBeLessThanOrEqual(1_010);
    expect(new Set(await codes)).toEqual(new Set(['KEY_UNAVAILABLE']));
    expect(service.running).toBe(0);
    expect(service.aborted.length).toBe(2);
  });

  it('tries again what was not answered, and gets through', async () => {
    await start();
    let failures = 2;
    service.behave = async () => {
      if (failures-- > 0) await away();
    };
    const wrapping = wrap();
    const took = await throughTime(wrapping);
    expect(await unwrap(await wrapping)).toEqual(DATA_KEY);
    expect(service.wraps).toBe(3);
    expect(took).toBeGreaterThan(0);
    expect(provider.status?.()).toEqual({ state: 'available' });
  });

  it('keeps the process alive while somebody waits, and no longer', async () => {
    await start();
    let release = (): void => undefined;
    service.behave = () => new Promise((resolve) => (release = resolve));
    const wrapping = wrap();
    await nextTurn();
    expect(clock.holds).toBe(1);
    release();
    await wrapping;
    expect(clock.holds).toBe(0);
  });

  it('does not try again what was refused', async () => {
    await start();
    service.behave = async () => {
      throw new KeyRefusedError('scripted service', 'says no.');
    };
    expect(await codeOf(wrap())).toBe('KEY_REFUSED');
    expect(service.wraps).toBe(1);
  });

  it('asks again for a data key that is too old, so that a key that was disabled stops opening', async () => {
    await start({ dataKeyMaxAgeMs: 60_000 });
    const [one, other] = [await wrap(), await wrap(Buffer.from('other'))];
    await clock.advance(61_000);
    expect(await unwrap(one)).toEqual(DATA_KEY);
    expect(service.unwraps).toBe(1);
    await clock.advance(61_000);
    service.behave = async () => {
      throw new KeyRefusedError('scripted service', 'says that the key is disabled.');
    };
    expect(await codeOf(unwrap(one))).toBe('KEY_REFUSED');
    service.behave = hangs;
    // The refusal was about the key, so nothing else of it is at hand either.
    const refused = codeOf(unwrap(other, Buffer.from('other')));
    await throughTime(refused);
    expect(await refused).toBe('KEY_UNAVAILABLE');
  });

  it('forgets the data key used longest ago when there are too many', async () => {
    await start({ cachedDataKeys: 2 });
    const places = ['a', 'b', 'c'].map((place) => Buffer.from(place));
    const wrapped: Uint8Array[] = [];
    for (const place of places.slice(0, 2)) wrapped.push(await wrap(place));
    await unwrap(wrapped[0] ?? PLACE, places[0]);
    wrapped.push(await wrap(places[2]));
    await unwrap(wrapped[0] ?? PLACE, places[0]);
    await unwrap(wrapped[2] ?? PLACE, places[2]);
    expect(service.unwraps).toBe(0);
    await unwrap(wrapped[1] ?? PLACE, places[1]);
    expect(service.unwraps).toBe(1);
  });

  it('keeps none when told to', async () => {
    await start({ cachedDataKeys: 0 });
    const wrapped = await wrap();
    await unwrap(wrapped);
    await unwrap(wrapped);
    expect(service.unwraps).toBe(2);
  });

  it('knows no key after close(), and ends what is under way', async () => {
    await start();
    const wrapped = await wrap();
    service.behave = hangs;
    const codes = Array.from({ length: 20 }, (_, index) => codeOf(wrap(Buffer.from(`place ${index}`))));
    for (let turn = 0; turn < 5; turn += 1) await nextTurn();
    await provider.close();
    expect(new Set(await Promise.all(codes))).toEqual(new Set(['KEY_PROVIDER_CLOSED']));
    expect(await codeOf(unwrap(wrapped))).toBe('KEY_PROVIDER_CLOSED');
    expect(clock.pending).toBe(0);
  });

  it.each<RemoteKeyOptions>([
    { concurrency: 0 },
    { deadlineMs: -1 },
    { attemptMs: Number.NaN },
    { cachedDataKeys: 0.5 },
    { outageMs: -1 },
  ])('does not take %p', (options) => {
    expect(() => remoteKeyProvider(service, options)).toThrow(
      expect.objectContaining({ code: 'KEY_PROVIDER_INVALID' }),
    );
    provider = ephemeralKeys();
  });
});

describe('while the service is away', () => {
  it('serves the data keys it has unwrapped, at once, and wraps none', async () => {
    await start({ dataKeyMaxAgeMs: 1_000, outageMs: 3_600_000 });
    const wrapped = await wrap();
    await goAway();
    await clock.advance(1_800_000);
    const answers = Array.from({ length: 1_000 }, () => unwrap(wrapped));
    expect(new Set((await Promise.all(answers)).map(String))).toEqual(new Set([String(DATA_KEY)]));
    await clock.advance(20_000);
    expect(await codeOf(wrap())).toBe('KEY_UNAVAILABLE');
    expect(provider.status?.()).toMatchObject({ state: 'away', reason: expect.stringContaining('is unplugged') });
    expect(provider.status?.().since).toBeLessThan(clock.now() - 1_800_000);
  });

  it('does not serve them for longer than stated', async () => {
    await start({ dataKeyMaxAgeMs: 1_000, outageMs: 60_000 });
    const wrapped = await wrap();
    await goAway();
    await clock.advance(50_000);
    expect(await unwrap(wrapped)).toEqual(DATA_KEY);
    await clock.advance(12_000);
    expect(await codeOf(unwrap(wrapped))).toBe('KEY_UNAVAILABLE');
  });

  it('serves an old one also to the first who asks, after the service was tried', async () => {
    await start({ dataKeyMaxAgeMs: 1_000 });
    const wrapped = await wrap();
    await clock.advance(2_000);
    service.behave = hangs;
    const asked = unwrap(wrapped);
    expect(await throughTime(asked)).toBeLessThanOrEqual(5_010);
    expect(await asked).toEqual(DATA_KEY);
    expect(service.unwraps).toBeGreaterThan(0);
  });

  it('is asked by one caller at a time, with pauses that grow, and not by every caller', async () => {
    await start({ concurrency: 50 });
    await goAway();
    const before = service.wraps;
    // Ten callers a second for five minutes.
    for (let tick = 0; tick < 300; tick += 1) {
      await Promise.all(Array.from({ length: 10 }, (_, index) => codeOf(wrap(Buffer.from(`${tick}/${index}`)))));
      await clock.advance(1_000);
    }
    const probes = service.wraps - before;
    expect(probes).toBeGreaterThan(20);
    expect(probes).toBeLessThan(200);
    service.mostRunning = 0;
    service.behave = hangs;
    await clock.advance(10_000);
    const codes = Array.from({ length: 50 }, (_, index) => codeOf(wrap(Buffer.from(`late ${index}`))));
    for (let turn = 0; turn < 10; turn += 1) await nextTurn();
    expect(service.mostRunning).toBe(1);
    await throughTime(Promise.all(codes));
  });

  it('is found to be back by the first call that comes through', async () => {
    await start({ dataKeyMaxAgeMs: 1_000 });
    const wrapped = await wrap();
    await goAway();
    service.behave = async () => undefined;
    await clock.advance(10_000);
    expect(await unwrap(wrapped)).toEqual(DATA_KEY);
    for (let turn = 0; turn < 10; turn += 1) await nextTurn();
    expect(provider.status?.()).toEqual({ state: 'available' });
    expect(await unwrap(await wrap(), PLACE)).toEqual(DATA_KEY);
  });
});
