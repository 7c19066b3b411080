import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  ephemeralKeys,
  type KeyProvider,
  type StoreCommit,
  type StoreDriver,
  type StoreEntry,
} from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { openIntegrity, openMemory, type OpenedIntegrity, put, read } from './support/sealed-store.js';

const MANY = Array.from({ length: 400 }, (_, index) => `secret/many-${index}`);

/** What an attacker with the database does. */
async function overwrite(store: StoreDriver, key: string, value: Uint8Array | null): Promise<void> {
  await store.commit({ conditions: [], writes: [{ key, value }] });
}

async function stored(store: StoreDriver, key: string): Promise<StoreEntry> {
  const entry = await store.get(key);
  if (entry === undefined) throw new Error(`no entry ${key}`);
  return entry;
}

async function everything(store: StoreDriver): Promise<StoreEntry[]> {
  const entries: StoreEntry[] = [];
  for (;;) {
    const after = entries.at(-1)?.key;
    const page = await store.list({ prefix: '', limit: 1000, ...(after === undefined ? {} : { after }) });
    entries.push(...page);
    if (page.length < 1000) return entries;
  }
}

/** Puts the whole store back to what it was. */
async function restore(store: StoreDriver, entries: readonly StoreEntry[]): Promise<void> {
  const kept = new Set(entries.map(({ key }) => key));
  const gone = (await everything(store)).filter(({ key }) => !kept.has(key)).map(({ key }) => ({ key, value: null }));
  await store.commit({ conditions: [], writes: [...entries.map(({ key, value }) => ({ key, value })), ...gone] });
}

let store: StoreDriver;
let keys: KeyProvider;
let first: OpenedIntegrity;

beforeEach(async () => {
  store = await openMemory();
  keys = ephemeralKeys();
  first = await openIntegrity(store, keys);
});

const found = ({ events }: OpenedIntegrity): string[] =>
  events.flatMap((event) => (event.type === 'found' ? [`${event.finding.kind} ${event.finding.key}`] : []));

describe('a sealed store', () => {
  it('shows entries as they were written, and nothing of its own', async () => {
    await put(first.sealed, { 'secret/A': 'head', 'value/A:v1': 'sealed', 'instance/1': 'beat', zzz: 'last' });
    const second = await openIntegrity(store, keys);
    for (const { sealed } of [first, second]) {
      expect(await read(sealed, 'secret/A')).toBe('head');
      expect(await read(sealed, 'instance/1')).toBe('beat');
      const all = await everything(sealed);
      expect(all.map(({ key }) => key)).toEqual(['instance/1', 'secret/A', 'store', 'value/A:v1', 'zzz']);
      expect(all.every(({ key, value }) => key === 'store' || Buffer.from(value).length < 7)).toBe(true);
      expect(await sealed.get('integrity/root')).toBeUndefined();
      expect(await sealed.list({ prefix: 'integrity/', limit: 10 })).toEqual([]);
    }
    expect([...found(first), ...found(second)]).toEqual([]);
  });

  it('follows what other processes write, also while the tree grows and shrinks', async () => {
    const second = await openIntegrity(store, keys);
    for (let at = 0; at < MANY.length; at += 40)
      await put(
        at % 80 === 0 ? first.sealed : second.sealed,
        Object.fromEntries(MANY.slice(at, at + 40).map((key) => [key, key])),
      );
    for (const { sealed } of [first, second, await openIntegrity(store, keys)]) {
      for (const key of MANY) expect(await read(sealed, key)).toBe(key);
      const listed = await sealed.list({ prefix: 'secret/', limit: 1000 });
      expect(listed.length).toBe(MANY.length);
    }
    await Promise.all(MANY.slice(1).map((key) => put(second.sealed, { [key]: null })));
    expect(await read(first.sealed, MANY[0] ?? '')).toBe(MANY[0]);
    expect(await first.sealed.list({ prefix: 'secret/', limit: 1000 })).toHaveLength(1);
    const { findings, entries } = await first.integrity.verifyStore();
    expect({ findings, entries }).toEqual({ findings: [], entries: 1 });
  });

  it('keeps the number of entries a write touches logarithmic', async () => {
    const counts: number[] = [];
    const counting: StoreDriver = {
      ...store,
      commit: (commit) => {
        counts.push(commit.writes.length);
        return store.commit(commit);
      },
    };
    const { sealed } = await openIntegrity(counting, keys);
    for (let at = 0; at < 4000; at += 200)
      await put(sealed, Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`secret/n-${at + index}`, 'x'])));
    counts.length = 0;
    for (let at = 0; at < 50; at += 1) await put(sealed, { [`secret/n-${at * 7}`]: 'y' });
    // The entry, the root, the top, and at most a node for each further factor of 32.
    expect(Math.max(...counts)).toBeLessThanOrEqual(5);
  });

  it('shares one commit among those who write at once, and judges each on its own', async () => {
    let commits = 0;
    const counting: StoreDriver = {
      ...store,
      commit: (commit) => {
        commits += 1;
        return store.commit(commit);
      },
    };
    const { sealed } = await openIntegrity(counting, keys);
    const revision = await put(sealed, { 'secret/A': '1' });
    commits = 0;
    const results = await Promise.all([
      ...Array.from({ length: 64 }, (_, index) => put(sealed, { [`secret/g-${index}`]: 'x' })),
      sealed.commit({
        conditions: [{ key: 'secret/A', revision: revision + 1 }],
        writes: [{ key: 'secret/A', value: Buffer.from('lost') }],
      }),
      sealed.commit({
        conditions: [{ key: 'secret/A', revision }],
        writes: [{ key: 'secret/A', value: Buffer.from('2') }],
      }),
    ]);
    expect(results.filter((result) => result === undefined)).toHaveLength(1);
    expect(await read(sealed, 'secret/A')).toBe('2');
    expect(commits).toBeLessThan(12);
  });

  it('loses nothing when eight processes write at once', async () => {
    const processes = await Promise.all(Array.from({ length: 8 }, () => openIntegrity(store, keys)));
    await Promise.all(
      processes.flatMap(({ sealed }, at) =>
        Array.from({ length: 10 }, (_, index) => put(sealed, { [`secret/p-${at}-${index}`]: 'x' })),
      ),
    );
    const { findings, entries } = await first.integrity.verifyStore();
    expect({ findings, entries }).toEqual({ findings: [], entries: 80 });
  });

  it('does not make anew what somebody made vanish', async () => {
    await put(first.sealed, { 'secret/A': 'head' });
    await overwrite(store, 'secret/A', null);
    const create = first.sealed.commit({
      conditions: [{ key: 'secret/A', revision: 0 }],
      writes: [{ key: 'secret/A', value: Buffer.from('new') }],
    });
    await expect(create).rejects.toMatchObject({ code: 'RECORD_CORRUPT', finding: { kind: 'record-hidden' } });
  });
});

describe('a list', () => {
  it('is as long as it should be, whatever was put among its entries', async () => {
    await put(first.sealed, { 'secret/b': 'gone' });
    const gone = await stored(store, 'secret/b');
    await put(first.sealed, { 'secret/b': null, 'secret/a': 'a', 'secret/c': 'c', 'secret/d': 'd', 'secret/e': 'e' });
    await overwrite(store, gone.key, gone.value);
    await overwrite(store, 'secret/d', Buffer.from('garbage'));
    const names: string[] = [];
    for (let after: string | undefined; ;) {
      const page = await first.sealed.list({ prefix: 'secret/', limit: 2, ...(after === undefined ? {} : { after }) });
      names.push(...page.map(({ key, value }) => `${key}:${Buffer.from(value).toString()}`));
      after = page.at(-1)?.key;
      if (page.length < 2) break;
    }
    expect(names).toEqual(['secret/a:a', 'secret/c:c', 'secret/d:', 'secret/e:e']);
    expect(found(first)).toEqual(['record-resurrected secret/b', 'record-downgraded secret/d']);
  });
});

describe('what is damaged', () => {
  beforeEach(async () => {
    await put(first.sealed, Object.fromEntries(MANY.map((key) => [key, key])));
  });

  it.each(['root', 'top', 'key', 'key-copy', 'store'])(
    'in one place, integrity/%s, is found and made anew',
    async (name) => {
      const key = `integrity/${name}`;
      for (const value of [null, Buffer.from('garbage')]) {
        await overwrite(store, key, value);
        const process = await openIntegrity(store, keys);
        for (const secret of MANY.slice(0, 5)) expect(await read(process.sealed, secret)).toBe(secret);
        await put(process.sealed, { 'secret/another': 'one' });
        expect(await read(process.sealed, 'secret/another')).toBe('one');
        expect(await read(first.sealed, 'secret/another')).toBe('one');
        // A copy that is missing is not missed: a store made before it was kept has none.
        if (name !== 'store' || value !== null) expect(found(process)).toContainEqual(`manifest-damaged ${key}`);
      }
    },
  );

  it('in the first entry of the store is put right from its copy', async () => {
    await overwrite(store, 'store', Buffer.from('{}'));
    const process = await openIntegrity(store, keys);
    expect(await read(process.sealed, MANY[0] ?? '')).toBe(MANY[0]);
    expect(found(process)).toEqual(['manifest-damaged store']);
    expect(found(await openIntegrity(store, keys))).toEqual([]);
  });

  it('in a node is made anew with proof', async () => {
    const nodes = await store.list({ prefix: 'integrity/node/', limit: 1000 });
    expect(nodes.length).toBeGreaterThan(10);
    for (const { key, value } of nodes.slice(0, 3)) {
      const changed = Uint8Array.from(value);
      changed[5] = (changed[5] ?? 0) ^ 1;
      await overwrite(store, key, changed);
      const process = await openIntegrity(store, keys);
      for (const secret of MANY) expect(await read(process.sealed, secret)).toBe(secret);
      expect(found(process)).toEqual([`manifest-damaged ${key}`]);
      expect(process.events.at(-1)).toMatchObject({ type: 'repaired', key });
      expect(Buffer.from((await stored(store, key)).value)).toEqual(Buffer.from(value));
    }
  });

  it('together with a record below it: those in the same leaf are refused, and all others go on', async () => {
    const [node] = await store.list({ prefix: 'integrity/node/', limit: 1 });
    const before = await stored(store, MANY[0] ?? '');
    await put(first.sealed, { [MANY[0] ?? '']: 'newer' });
    for (const { key } of await store.list({ prefix: 'integrity/node/', limit: 1000 })) {
      if (Buffer.from((await stored(store, key)).value).includes('many-0'))
        await overwrite(store, key, Buffer.from('x'));
    }
    await overwrite(store, before.key, before.value);
    expect(node).toBeDefined();
    const process = await openIntegrity(store, keys);
    await expect(process.sealed.get(before.key)).rejects.toMatchObject({ code: 'RECORD_CORRUPT' });
    let refused = 0;
    for (const secret of MANY) await process.sealed.get(secret).catch(() => (refused += 1));
    expect(refused).toBeLessThan(64);
    const { findings } = await process.integrity.verifyStore();
    expect(findings.map(({ kind }) => kind)).toContain('manifest-damaged');
  });
});

describe('a store that was put back as a whole', () => {
  it('is refused by those who saw it newer, until it is accepted', async () => {
    await put(first.sealed, { 'secret/A': 'old' });
    const backup = await everything(store);
    const head = await first.integrity.storeHead();
    await put(first.sealed, { 'secret/A': 'new' });
    const anchor = await first.integrity.storeHead();
    expect(anchor.sequence).toBe(head.sequence + 1);
    await restore(store, backup);

    await expect(first.sealed.get('secret/A')).rejects.toMatchObject({ code: 'STORE_ROLLED_BACK' });
    await expect(put(first.sealed, { 'secret/B': 'x' })).rejects.toMatchObject({ code: 'STORE_ROLLED_BACK' });
    expect(found(first)).toEqual(['store-rolled-back integrity/root']);

    const second = await openIntegrity(store, keys);
    expect((await second.integrity.verifyStore()).findings).toEqual([]);
    const { findings } = await second.integrity.verifyStore({ anchors: [anchor] });
    expect(findings.map(({ kind }) => kind)).toEqual(['store-rolled-back']);

    expect(await second.integrity.acceptRestore({ reason: 'ticket 7', anchors: [anchor] })).toEqual([]);
    expect(second.events.at(-1)).toMatchObject({ type: 'restore-accepted', reason: 'ticket 7' });
    for (const { sealed } of [first, second]) expect(await read(sealed, 'secret/A')).toBe('old');
    expect((await first.integrity.verifyStore({ anchors: [anchor] })).findings).toEqual([]);
  });

  it('and went on by itself is a fork', async () => {
    await put(first.sealed, { 'secret/A': 'old' });
    const backup = await everything(store);
    await put(first.sealed, { 'secret/A': 'new' });
    await restore(store, backup);
    const second = await openIntegrity(store, keys);
    await put(second.sealed, { 'secret/A': 'other' });
    await expect(first.sealed.get('secret/A')).rejects.toMatchObject({ code: 'STORE_FORKED' });
  });

  it('in both places of its root only is still noticed, by records that are newer', async () => {
    await put(first.sealed, { 'secret/A': 'old' });
    const [root, top] = [await stored(store, 'integrity/root'), await stored(store, 'integrity/top')];
    await put(first.sealed, { 'secret/A': 'new' });
    await store.commit({ conditions: [], writes: [root, top].map(({ key, value }) => ({ key, value })) });
    const second = await openIntegrity(store, keys);
    await expect(second.sealed.get('secret/A')).rejects.toMatchObject({ finding: { kind: 'store-rolled-back' } });
  });
});

describe('an answer that is older than what came meanwhile', () => {
  it('is not mistaken for a store that was put back', async () => {
    let isSlow = false;
    const delivered: (() => void)[] = [];
    const slow = {
      ...store,
      get: async (key: string) => {
        const entry = await store.get(key);
        if (isSlow && key === 'integrity/root') await new Promise<void>((resolve) => delivered.push(resolve));
        return entry;
      },
    };
    const { sealed, events } = await openIntegrity(slow, keys);
    await put(sealed, { 'secret/A': 'same' });
    isSlow = true;
    const reading = read(sealed, 'secret/A');
    let text: string | undefined;
    void reading.then((value) => (text = value)).catch(() => undefined);
    for (let change = 0; text === undefined && change < 10; change += 1) {
      await put(sealed, { 'secret/B': `change ${change}` });
      for (const deliver of delivered.splice(0)) deliver();
      await new Promise(setImmediate);
    }
    expect(await reading).toBe('same');
    expect(events).toEqual([]);
  });
});

describe('a store without a manifest', () => {
  it('is not believed unless it is adopted, and then sealed', async () => {
    const raw = await openMemory();
    await put(raw, { 'secret/A': 'head', 'value/A:v1': 'envelope', 'instance/1': 'beat' });
    await expect(openIntegrity(raw, keys)).rejects.toMatchObject({ code: 'STORE_NOT_SEALED' });
    const adopted = await openIntegrity(raw, keys, { adopt: true });
    expect(adopted.events.map(({ type }) => type)).toEqual(['restore-accepted']);
    const next = await openIntegrity(raw, keys);
    expect(await read(next.sealed, 'secret/A')).toBe('head');
    expect(await read(next.sealed, 'instance/1')).toBe('beat');
    expect((await next.integrity.verifyStore()).findings).toEqual([]);
  });

  it('that once had one is refused', async () => {
    await put(first.sealed, { 'secret/A': 'head' });
    await overwrite(store, 'integrity/root', null);
    await overwrite(store, 'integrity/top', null);
    const process = await openIntegrity(store, keys);
    await expect(process.sealed.get('secret/A')).rejects.toMatchObject({ code: 'MANIFEST_LOST' });
    await process.integrity.acceptRestore({ reason: 'looked through it' });
    expect(await read(process.sealed, 'secret/A')).toBe('head');
  });
});

describe('a write that others keep being faster than', () => {
  it('keeps the process alive while it waits for its next attempt, and no longer', async () => {
    let refusals = 0;
    const beaten = {
      ...store,
      commit: async (commit: StoreCommit) => ((refusals -= 1) < 0 ? store.commit(commit) : undefined),
    };
    const clock = new SimulatedClock();
    const { sealed } = await openIntegrity(beaten, keys, {}, clock);
    refusals = 6;
    let isWritten = false;
    const writing = put(sealed, { 'secret/slow': 'at last' }).finally(() => (isWritten = true));
    const held = new Set<number>();
    while (!isWritten) {
      if (clock.pending > 0) held.add(clock.holds);
      await clock.advance(1);
    }
    await writing;
    expect([...held]).toEqual([1]);
    expect(clock.holds).toBe(0);
    expect(await read(sealed, 'secret/slow')).toBe('at last');
  });
});
