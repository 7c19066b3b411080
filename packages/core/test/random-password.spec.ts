import { describe, expect, it } from '@jest/globals';
import {
  cryptoRandomness,
  isSecretsError,
  type PasswordOptions,
  randomPassword,
  type Randomness,
} from '@nestjs-secrets/core';
import { seededRandomness } from './seeded-randomness.js';

const PUNCTUATION = '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~';
const CLASSES = { lower: /[a-z]/, upper: /[A-Z]/, number: /[0-9]/, punctuation: /[!-/:-@[-`{-~]/ };

const many = (options: PasswordOptions, count = 300): string[] => {
  const randomness = seededRandomness('many');
  return Array.from({ length: count }, () => randomPassword(options, randomness));
};

describe('randomPassword', () => {
  it('has 32 characters unless told otherwise, and exactly as many as told', () => {
    expect(randomPassword({}, cryptoRandomness)).toHaveLength(32);
    for (const length of [8, 9, 64, 4096]) expect(randomPassword({ length }, cryptoRandomness)).toHaveLength(length);
  });

  it('holds one of each class, even at the shortest length', () => {
    for (const password of many({ length: 8 })) {
      for (const characters of Object.values(CLASSES)) expect(password).toMatch(characters);
    }
  });

  it('leaves a class out by chance when it is not required', () => {
    const passwords = many({ length: 8, requireEachIncludedType: false });
    expect(passwords.some((password) => !CLASSES.number.test(password))).toBe(true);
  });

  it.each([
    ['excludeLowercase', CLASSES.lower],
    ['excludeUppercase', CLASSES.upper],
    ['excludeNumbers', CLASSES.number],
    ['excludePunctuation', CLASSES.punctuation],
  ] as const)('%s keeps that class out and the others in', (option, excluded) => {
    for (const password of many({ length: 12, [option]: true })) {
      for (const characters of Object.values(CLASSES)) {
        if (characters === excluded) expect(password).not.toMatch(characters);
        else expect(password).toMatch(characters);
      }
    }
  });

  it('never draws an excluded character', () => {
    const text = many({ excludeCharacters: '@:/\\"\'%aA0' }).join('');
    expect(text).not.toMatch(/[@:/\\"'%aA0]/);
    expect(text).toContain('b');
  });

  it('does not include a class whose every character is excluded', () => {
    for (const password of many({ length: 8, excludeCharacters: '0123456789' })) {
      expect(password).toMatch(/^[^0-9]{8}$/);
      expect(password).toMatch(CLASSES.lower);
    }
  });

  it('draws from what little is left', () => {
    const options = {
      length: 8,
      excludeLowercase: true,
      excludeUppercase: true,
      excludePunctuation: true,
      excludeCharacters: '0123456',
    };
    expect(new Set(many(options).join(''))).toEqual(new Set('789'));
  });

  it('draws the space only when asked to', () => {
    expect(many({}).join('')).not.toContain(' ');
    expect(many({ includeSpace: true }).join('')).toContain(' ');
    expect(many({ includeSpace: true, excludeCharacters: ' ' }).join('')).not.toContain(' ');
  });

  it('draws every character about equally often, in every place', () => {
    const alphabet = [...Array(10).keys()].join('');
    const options = { length: 8, excludeLowercase: true, excludeUppercase: true, excludePunctuation: true };
    const counts = Array.from({ length: 8 }, () => new Map([...alphabet].map((character) => [character, 0])));
    const passwords = many(options, 10_000);
    for (const password of passwords) {
      for (const [place, character] of [...password].entries()) {
        counts[place]?.set(character, (counts[place].get(character) ?? 0) + 1);
      }
    }
    // Chi-squared with 9 degrees of freedom passes 33.7 once in 10,000; the seed makes the outcome the same each time.
    for (const inPlace of counts) {
      const statistic = [...inPlace.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
      expect(statistic).toBeLessThan(33.7);
    }
  });

  it('puts the required characters anywhere', () => {
    // Numbers occur once each, as required and nowhere else: the place of the only number shows where required ones land.
    const places = new Set<number>();
    for (const password of many({ length: 8 }, 2000)) {
      const numbers = [...password.matchAll(/[0-9]/g)];
      if (numbers.length === 1) places.add(numbers[0]?.index ?? -1);
    }
    expect([...places].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('draws without rejection: one number for each character, one for each place', () => {
    const limits: number[] = [];
    const counting: Randomness = {
      bytes: cryptoRandomness.bytes,
      below: (limit) => {
        limits.push(limit);
        return limit - 1;
      },
    };
    expect(randomPassword({ length: 8 }, counting)).toBe('zZ9~~~~~');
    const everything = 26 + 26 + 10 + PUNCTUATION.length;
    expect(limits).toEqual([26, 26, 10, 32, everything, everything, everything, everything, 1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it.each([
    ['too short', { length: 7 }],
    ['too long', { length: 4097 }],
    ['not whole', { length: 8.5 }],
    ['not a number', { length: Number.NaN }],
    [
      'nothing included',
      {
        excludeLowercase: true,
        excludeUppercase: true,
        excludeNumbers: true,
        excludePunctuation: true,
        includeSpace: true,
      },
    ],
    [
      'everything excluded',
      { excludeLowercase: true, excludeUppercase: true, excludePunctuation: true, excludeCharacters: '0123456789' },
    ],
  ] satisfies [string, PasswordOptions][])('refuses options: %s', (_name, options) => {
    let thrown: unknown;
    try {
      randomPassword(options, cryptoRandomness);
    } catch (error) {
      thrown = error;
    }
    expect(isSecretsError(thrown, 'PASSWORD_OPTIONS_INVALID')).toBe(true);
  });
});
