import { describe, expect, it } from '@jest/globals';
import { canMatch, Glob, globFault, LONGEST_SEARCHED_PART, type Characters } from '../src/access/glob.js';
import { seededRandomness } from './seeded-randomness.js';

/** A text that counts how often it is read: every step of the matcher reads one character. */
class CountingText implements Characters {
  reads = 0;
  constructor(private readonly text: string) {}
  get length(): number {
    return this.text.length;
  }
  charCodeAt(index: number): number {
    this.reads += 1;
    return this.text.charCodeAt(index);
  }
}

function regular(pattern: string): RegExp {
  const source = pattern.replaceAll(/[\\^$.|+()[\]{}/-]/g, String.raw`\$&`);
  return new RegExp(`^${source.replaceAll(/\*+/g, '[^]*').replaceAll('?', '[^]')}$`);
}

const a = (times: number): string => 'a'.repeat(times);

describe('globs', () => {
  it.each([
    ['', '', true],
    ['', 'a', false],
    ['*', '', true],
    ['**', 'a/b', true],
    ['?', '', false],
    ['?*?', 'a', false],
    ['?*?', 'ab', true],
    ['a*a', 'a', false],
    ['a*a', 'aa', true],
    ['*ab*ab*', 'abab', true],
    ['*ab*ab*', 'aab', false],
    ['*aab*', 'aaab', true],
    ['*a?b*', 'aacab', false],
    ['*a?b*', 'aaacb', true],
    ['*a*b', 'ab\n', false],
    ['a\nb*', 'a\nbc', true],
    ['[a-z]+', '[a-z]+', true],
    ['[a-z]+', 'aaa', false],
    ['*??', 'a', false],
  ])('%j on %j: %s', (pattern, text, expected) => {
    expect(new Glob(pattern).matches(text)).toBe(expected);
  });

  it('agree with regular expressions on 60,000 random pairs', () => {
    const { below } = seededRandomness('globs');
    const draw = (alphabet: string, most: number): string =>
      Array.from({ length: below(most + 1) }, () => alphabet.charAt(below(alphabet.length))).join('');
    let matched = 0;
    for (let count = 0; count < 20_000; count += 1) {
      const pattern = draw('aab**?', 8);
      const [glob, expression] = [new Glob(pattern), regular(pattern)];
      for (let again = 0; again < 3; again += 1) {
        const text = draw('aab', 12);
        const expected = expression.test(text);
        if (glob.matches(text) !== expected)
          expect({ pattern, text, matches: !expected }).toEqual({ pattern, text, matches: expected });
        if (expected) matched += 1;
      }
    }
    expect(matched).toBeGreaterThan(5_000);
  });

  it.each([
    ['*a*a*a*a*a*a*a*a*a*a*a*a*b', `${a(500)}c`],
    [`${'*a'.repeat(100)}*b`, a(5_000)],
    [`*${a(250)}b*`, a(5_000)],
    [`*${'ab'.repeat(120)}c*`, 'ab'.repeat(2_500)],
    [`*${a(30)}?b*`.replace(a(30), a(29)), a(5_000)],
    ['*?a?a?a?a?a?a?a?b*', a(5_000)],
    [`${'?'.repeat(200)}*${'?'.repeat(200)}`, a(5_000)],
    [`${'*?'.repeat(150)}*`, a(5_000)],
    [`*${'a*'.repeat(200)}z`, a(5_000)],
  ])('are linear: %#', (pattern, text) => {
    const counting = new CountingText(text);
    new Glob(pattern).matches(counting);
    expect(counting.reads).toBeLessThanOrEqual(2 * (text.length + pattern.length));
  });

  it('are linear in the length of the text: twice the text is at most twice the steps', () => {
    const glob = new Glob(`*${a(60)}b*${a(20)}?c*`);
    const stepsFor = (length: number): number => {
      const text = new CountingText(a(length));
      expect(glob.matches(text)).toBe(false);
      return text.reads;
    };
    expect(stepsFor(8_000)).toBeLessThanOrEqual(2 * stepsFor(4_000) + 200);
  });

  it('are linear on random patterns and texts of few letters', () => {
    const { below } = seededRandomness('steps');
    for (let count = 0; count < 5_000; count += 1) {
      const pattern = Array.from({ length: 40 }, () => 'aaab**?'.charAt(below(7))).join('');
      if (globFault(pattern) !== undefined) continue;
      const text = new CountingText(Array.from({ length: 200 }, () => 'aaab'.charAt(below(4))).join(''));
      new Glob(pattern).matches(text);
      expect(text.reads).toBeLessThanOrEqual(2 * (text.length + pattern.length));
    }
  });

  it('refuse a part that cannot be searched in one integer, and take the longest that can', () => {
    const longest = `${a(LONGEST_SEARCHED_PART - 1)}?`;
    expect(globFault(`*${longest}*`)).toBeUndefined();
    expect(new Glob(`*${longest}*`).matches(`b${a(LONGEST_SEARCHED_PART)}b`)).toBe(true);
    expect(new Glob(`*${longest}*`).matches(`b${a(LONGEST_SEARCHED_PART - 1)}`)).toBe(false);
    expect(globFault(`*a${longest}*`)).toMatch(/32 characters/);
    expect(() => new Glob(`*a${longest}*`)).toThrow(expect.objectContaining({ code: 'PATTERN_INVALID' }));
    expect(globFault(`a${longest}*`)).toBeUndefined();
  });

  it.each([
    ['secret/*', 'secret/', 0, true],
    ['s*', 'secret/', 0, true],
    ['secre', 'secret/', 0, false],
    ['key/*', 'secret/', 0, false],
    ['?ecret?a', 'secret/', 1, true],
    ['secret/', 'secret/', 1, false],
    ['*audit', 'audit', undefined, true],
    ['audit/*', 'audit', undefined, false],
    ['***', 'audit', undefined, true],
  ])('%j can match what begins with %j and %s more: %s', (pattern, start, more, expected) => {
    expect(canMatch(pattern, start, more)).toBe(expected);
  });
});
