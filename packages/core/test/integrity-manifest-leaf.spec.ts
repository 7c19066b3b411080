import { describe, expect, it } from '@jest/globals';
import { groupOf } from '../src/integrity/entry-kinds.js';
import { type GroupChange, Leaf, MOST_GROUPS } from '../src/integrity/manifest-leaf.js';
import { Inner, readNode } from '../src/integrity/manifest-node.js';
import { digitAt, positionOf } from '../src/integrity/manifest-place.js';
import { seededRandomness } from './seeded-randomness.js';

const TAG_BYTES = 16;
/** Names that begin with each other, or are what keys begin with, and a key that is the name of a secret. */
const GROUPS = ['A', 'AB', 'a', 'team/x', 'team/x+', 'secret', 'value', 'value/', 'cmk/default', '~'];
const KEYS = [
  ...GROUPS.flatMap((name) => [
    `secret/${name}`,
    `gone/${name}`,
    `rotation/${name}`,
    `value/${name}:v1`,
    `value/${name}:v10`,
    `value/${name}:v2`,
  ]),
  'cmk/default',
  'cmk/default:1',
  'zzz',
];

const byText = ([one]: readonly [string, unknown], [other]: readonly [string, unknown]): number =>
  one < other ? -1 : 1;

/** The bytes of a leaf, as docs and comments describe them, worked out the plain way. */
function plainly(entries: ReadonlyMap<string, Buffer>): Buffer {
  const groups = new Map<string, [string, Buffer][]>();
  for (const [key, tag] of [...entries].toSorted(byText))
    groups.set(groupOf(key), [...(groups.get(groupOf(key)) ?? []), [key, tag]]);
  const two = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
  const parts = [Buffer.from([1]), two(groups.size)];
  for (const [group, tags] of [...groups].toSorted(byText)) {
    parts.push(two(group.length), Buffer.from(group, 'latin1'), two(tags.length));
    for (const [key, tag] of tags) {
      const lead = key.indexOf(group);
      const [before, after] = [key.slice(0, lead), key.slice(lead + group.length)];
      parts.push(Buffer.from([lead]), Buffer.from(before), two(after.length), Buffer.from(after), tag);
    }
  }
  return Buffer.concat(parts);
}

const hex = (bytes: Buffer | undefined): string | undefined => bytes?.toString('hex');

function changesOf(tags: readonly (readonly [string, Buffer | undefined])[]): GroupChange[] {
  const groups = new Map<string, (readonly [string, Buffer | undefined])[]>();
  for (const [key, tag] of tags) groups.set(groupOf(key), [...(groups.get(groupOf(key)) ?? []), [key, tag]]);
  return [...groups].map(([group, own]) => ({ group, position: positionOf(group), tags: own }));
}

describe('a leaf of the manifest', () => {
  it('after any change has the bytes that its entries have when they are written down at once', () => {
    const randomness = seededRandomness('leaf 4');
    const entries = new Map<string, Buffer>();
    let leaf = Leaf.empty();
    const sizes = new Set<number>();
    for (let round = 0; round < 500; round += 1) {
      // Some rounds remove more than they add, and some everything.
      const removes = Math.floor(round / 60) % 2 === 0 ? 3 : 8;
      const tags = new Map<string, Buffer | undefined>();
      for (let left = 1 + randomness.below(6); left > 0; left -= 1) {
        const key = KEYS[randomness.below(KEYS.length)] ?? '';
        tags.set(key, randomness.below(10) < removes ? undefined : randomness.bytes(TAG_BYTES));
      }
      if (round % 100 === 99) for (const key of KEYS) tags.set(key, undefined);
      for (const [key, tag] of tags) {
        if (tag === undefined) entries.delete(key);
        else entries.set(key, tag);
      }
      const [before, bytesBefore] = [leaf, hex(leaf.encoded)];
      leaf = leaf.with(changesOf([...tags]));
      expect(hex(before.encoded)).toBe(bytesBefore);
      expect(hex(leaf.encoded)).toBe(hex(plainly(entries)));
      expect(leaf.isEmpty).toBe(entries.size === 0);
      sizes.add(entries.size);
      const found = KEYS.map((key) => hex(leaf.tag(groupOf(key), key)));
      expect(found).toEqual(KEYS.map((key) => hex(entries.get(key))));
      expect(leaf.keys().toSorted()).toEqual([...entries.keys()].toSorted());
      const group = GROUPS[round % GROUPS.length];
      expect(leaf.keys(group)).toEqual([...entries.keys()].filter((key) => groupOf(key) === group).toSorted());
    }
    expect(sizes.has(0)).toBe(true);
    expect(Math.max(...sizes)).toBeGreaterThan(30);
  });

  it('is made of entries at once, unless they are too many groups', () => {
    const randomness = seededRandomness('leaf 5');
    const entries = new Map(KEYS.map((key) => [key, randomness.bytes(TAG_BYTES)]));
    const leaf = Leaf.of(entries);
    expect(leaf?.encoded).toEqual(plainly(entries));
    const many = (count: number) => Array.from({ length: count }, (_, at) => [`k${at}`, Buffer.alloc(16)] as const);
    expect(Leaf.of(many(MOST_GROUPS))?.isTooLarge('')).toBe(true);
    expect(Leaf.of(many(MOST_GROUPS + 1))).toBeUndefined();
  });

  it('is cut into leaves of whole groups, by their positions', () => {
    const randomness = seededRandomness('leaf 6');
    const entries = new Map(KEYS.map((key) => [key, randomness.bytes(TAG_BYTES)]));
    const parts = Leaf.of(entries)?.cut(1, positionOf) ?? [];
    expect(parts.filter((part) => part !== undefined).length).toBeGreaterThan(3);
    for (const [digit, part] of parts.entries()) {
      const own = new Map([...entries].filter(([key]) => digitAt(positionOf(groupOf(key)), 1) === digit));
      expect(part?.encoded).toEqual(own.size === 0 ? undefined : plainly(own));
    }
  });

  it('of one group is never too large', () => {
    const entries = Array.from({ length: 400 }, (_, at) => [`value/A:v${at}`, Buffer.alloc(TAG_BYTES)] as const);
    expect(Leaf.of(entries)?.isTooLarge('')).toBe(false);
    expect(Leaf.of([...entries, ['secret/B', Buffer.alloc(TAG_BYTES)]])?.isTooLarge('')).toBe(true);
  });
});

describe('an inner node of the manifest', () => {
  it('after any change has the children that it should have, in order', () => {
    const randomness = seededRandomness('leaf 7');
    const children: (Buffer | undefined)[] = Array.from({ length: 32 }, () => undefined);
    let node = Inner.of(children);
    for (let round = 0; round < 300; round += 1) {
      const digits = [...new Set([randomness.below(32), randomness.below(32)])].toSorted((one, other) => one - other);
      const changes = digits.map((digit) => ({
        digit,
        digest: randomness.below(10) < (round % 50 < 25 ? 3 : 8) ? undefined : randomness.bytes(TAG_BYTES),
      }));
      for (const { digit, digest } of changes) children[digit] = digest;
      node = node.with(changes);
      expect(node.children().map(hex)).toEqual(children.map(hex));
      expect(node.isEmpty).toBe(children.every((child) => child === undefined));
      const parts = children.flatMap((digest, digit) => (digest === undefined ? [] : [Buffer.from([digit]), digest]));
      expect(hex(node.encoded)).toBe(hex(Buffer.concat([Buffer.from([2]), ...parts])));
    }
  });
});

describe('a node that was read', () => {
  it('keeps nothing of the larger piece of memory that it was read from', () => {
    const answer = Buffer.alloc(100_000);
    const leaf = Leaf.of([['secret/A', Buffer.alloc(TAG_BYTES, 7)]]);
    if (leaf === undefined) throw new Error('no leaf');
    const encoded = leaf.encoded;
    answer.set(encoded, 500);
    const node = readNode(answer.subarray(500, 500 + encoded.length));
    expect(node?.encoded).toEqual(encoded);
    expect(node?.bytes.buffer.byteLength).toBe(encoded.length + TAG_BYTES);
  });

  it('is none when its bytes are none', () => {
    for (const bytes of [[], [0], [3, 0, 0], [2, 1]]) expect(readNode(Uint8Array.from(bytes))).toBeUndefined();
  });
});
