import { beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ephemeralKeys, type KeyProvider, type StoreDriver } from '@nestjs-secrets/core';
import { positionOf } from '../src/integrity/manifest-place.js';
import { openIntegrity, openMemory, put, read } from './support/sealed-store.js';

const NODE = 'integrity/node/';
const NAMES = Array.from({ length: 4000 }, (_, index) => `n-${index}`);

let store: StoreDriver;
let keys: KeyProvider;
/** How deep the node stands that names a secret. */
let depthOf: (name: string) => number;

beforeAll(async () => {
  store = await openMemory();
  keys = ephemeralKeys();
  const { sealed } = await openIntegrity(store, keys);
  for (let at = 0; at < NAMES.length; at += 200)
    await put(sealed, Object.fromEntries(NAMES.slice(at, at + 200).map((name) => [`secret/${name}`, name])));
  const paths = new Set<string>();
  for (const { key } of await store.list({ prefix: NODE, limit: 1000 })) paths.add(key.slice(key.lastIndexOf('/') + 1));
  depthOf = (name) => {
    const position = positionOf(name);
    for (let depth = 1; ; depth += 1) if (!paths.has(position.slice(0, depth))) return depth - 1;
  };
});

describe('a process that reads a few of many secrets', () => {
  let asked: string[];
  let held: (() => void)[] | undefined;
  let sealed: StoreDriver;

  beforeEach(async () => {
    asked = [];
    held = undefined;
    const watched: StoreDriver = {
      ...store,
      get: async (key) => {
        if (key.startsWith(NODE)) {
          asked.push(key.slice(key.lastIndexOf('/') + 1));
          await new Promise<void>((resolve) => (held === undefined ? resolve() : held.push(resolve)));
        }
        return store.get(key);
      },
    };
    ({ sealed } = await openIntegrity(watched, keys));
  });

  const readOne = async (name: string): Promise<string[]> => {
    asked.length = 0;
    expect(await read(sealed, `secret/${name}`)).toBe(name);
    return [...asked];
  };
  /** Secrets two nodes below the top, by the paths of the upper one and of both. */
  const deep = (upper: string, lower?: string): string[] =>
    NAMES.filter((name) => {
      const position = positionOf(name);
      const isBelow = position.startsWith(upper) && (lower === undefined || position[1] === lower);
      return isBelow && depthOf(name) === 2;
    });

  it('asks for the nodes of one once, and for those it shares with a second one once more, and no more after that', async () => {
    const [first] = NAMES.filter((name) => depthOf(name) === 2);
    const [upper, lower] = positionOf(first ?? '');
    const others = deep(upper ?? '').filter((name) => positionOf(name)[1] !== lower);
    const different = others.filter((name, index) => {
      const digit = positionOf(name)[1];
      return others.findIndex((other) => positionOf(other)[1] === digit) === index;
    });
    expect(different.length).toBeGreaterThan(2);
    expect(await readOne(first ?? '')).toEqual([upper, `${upper}${lower}`]);
    expect(await readOne(first ?? '')).toEqual([]);
    const [second = '', third = '', fourth = ''] = different;
    expect((await readOne(second)).toSorted()).toEqual([upper, positionOf(second).slice(0, 2)]);
    expect(await readOne(third)).toEqual([positionOf(third).slice(0, 2)]);
    expect(await readOne(fourth)).toEqual([positionOf(fourth).slice(0, 2)]);
    for (const name of [first, second, third, fourth]) expect(await readOne(name ?? '')).toEqual([]);
  });

  it('asks for all nodes that lead to a secret at once', async () => {
    const [first = ''] = NAMES.filter((name) => depthOf(name) === 2);
    const elsewhere = NAMES.filter((name) => depthOf(name) === 2 && positionOf(name)[0] !== positionOf(first)[0]);
    await readOne(first);
    asked.length = 0;
    held = [];
    const reading = read(sealed, `secret/${elsewhere[0]}`);
    while (held.length === 0) await nextTurn();
    const position = positionOf(elsewhere[0] ?? '');
    expect(asked.toSorted()).toEqual([position.slice(0, 1), position.slice(0, 2)]);
    for (const answer of held) answer();
    held = undefined;
    expect(await reading).toBe(elsewhere[0]);
  });

  it('sees what others change, whatever part it has kept', async () => {
    const names = NAMES.slice(0, 30);
    for (const name of names) await readOne(name);
    const { sealed: other } = await openIntegrity(store, keys);
    for (const name of names) {
      await put(other, { [`secret/${name}`]: 'newer' });
      expect(await read(sealed, `secret/${name}`)).toBe('newer');
      expect(await read(sealed, 'secret/nobody')).toBeUndefined();
      await put(sealed, { [`secret/${name}`]: name });
      expect(await read(other, `secret/${name}`)).toBe(name);
    }
  });
});
