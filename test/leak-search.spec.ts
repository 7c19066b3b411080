import { inspect } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { canary } from './support/canary-life.js';
import { formsOf, leaks } from './support/leak-search.js';
import { Needles } from './support/needles.js';

const written: Readonly<Record<string, (text: string) => string | Buffer>> = {
  plain: (text) => text,
  'in JSON': (text) => JSON.stringify({ text }),
  'in JSON in JSON': (text) => JSON.stringify(JSON.stringify({ text })),
  'in JSON, escaped to ASCII': (text) =>
    JSON.stringify(text).replaceAll(/[^ -~]/g, (one) => `\\u00${one.charCodeAt(0).toString(16)}`),
  inspected: (text) => inspect({ text }),
  'in SQL': (text) => `SELECT '${text.replaceAll("'", "''")}'`,
  'URL-encoded': (text) => `?q=${encodeURIComponent(text)}`,
  'URL-encoded, in lower case': (text) => encodeURIComponent(text).replaceAll(/%../g, (code) => code.toLowerCase()),
  'URL-encoded, as a form': (text) => encodeURIComponent(text).replaceAll('%20', '+'),
  hex: (text) => Buffer.from(text).toString('hex'),
  HEX: (text) => Buffer.from(text).toString('hex').toUpperCase(),
  // Node prints the first 50 bytes.
  'as a printed buffer': (text) => inspect(Buffer.from(text)),
  base64: (text) => Buffer.from(text).toString('base64'),
  'base64 in the midst': (text) => Buffer.from(`{"x":"${text}","y":1}`).toString('base64'),
  'base64 of Basic': (text) => Buffer.from(`user:${text}`).toString('base64'),
  base64url: (text) => Buffer.from(`ab${text}c`).toString('base64url'),
  'in UTF-16': (text) => Buffer.from(text, 'utf16le'),
  'in UTF-16, the other way round': (text) => Buffer.from(text, 'utf16le').swap16(),
  'in UTF-16, at an odd place': (text) => Buffer.concat([Buffer.alloc(1), Buffer.from(text, 'utf16le')]),
  'in Latin-1': (text) => Buffer.from(text, 'latin1'),
  'its first half': (text) => text.slice(0, text.length / 2),
  'its second half': (text) => text.slice(text.length / 2),
  'its second half in UTF-16 of JSON': (text) => Buffer.from(JSON.stringify(text.slice(text.length / 2)), 'utf16le'),
};

describe('the search for canaries', () => {
  it.each(Object.keys(written))('finds one that is planted %s', (how) => {
    // Of any length modulo 3, as base64 depends on it.
    for (const name of ['planted', 'planted.', 'planted..']) {
      const text = canary(name);
      const plant = Buffer.from(written[how]?.(text) ?? '');
      const places = new Map([['a log', Buffer.concat([Buffer.from('before '), plant, Buffer.from(' after')])]]);
      expect(leaks(new Map([['planted', text]]), places)).toHaveLength(1);
      expect(leaks(new Map([['another', canary(name)]]), places)).toEqual([]);
    }
  });

  it('finds it at the beginning and at the end, and each of several in several places', () => {
    const [one, other] = [canary('one'), canary('other')];
    const texts = new Map([
      ['one', one],
      ['other', other],
    ]);
    const places = new Map([
      ['a', `${one} ${other}`],
      ['b', other],
      ['c', ''],
    ]);
    expect(leaks(texts, places).map((found) => found.split(':')[0])).toEqual(['one in a', 'other in a', 'other in b']);
  });

  it('looks for no form so short that it could be anywhere', () => {
    expect(Math.min(...[...formsOf(canary(''))].map(({ length }) => length))).toBeGreaterThan(20);
    expect(() => new Needles().add('short', Buffer.from('abc'))).toThrow(RangeError);
  });

  it('finds what a search by hand finds', () => {
    const content = Buffer.from(
      Array.from({ length: 20_000 }, (_, index) => 'abcd'[((index * 7919) % 13) % 4] ?? '').join(''),
    );
    for (let at = 0; at < 200; at += 1) {
      const bytes = content.subarray(at, at + 4 + (at % 9));
      const needles = new Needles();
      needles.add('needle', bytes);
      expect(needles.findIn(content).get('needle')).toBe(content.indexOf(bytes));
    }
  });
});
