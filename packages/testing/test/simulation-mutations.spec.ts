import { describe, expect, it } from '@jest/globals';
import { type Invariant, MUTATIONS, type Mutation, runWorld, simulate } from '@nestjs-secrets/testing';

/** What must be violated when a mechanism is broken. */
const SHOWS: Readonly<Record<Mutation, readonly Invariant[]>> = {
  'no fencing': ['I2'],
  'no write-ahead': ['I1'],
  'retire before settle': ['I5'],
  'torn pair': ['I3'],
  'no candidate retry': ['no failed query'],
  'no borrow': ['I5', 'no failed query'],
  'no acknowledgement before the first read': ['I5', 'no failed query'],
};

const SEEDS = 600;

describe('a mechanism broken on purpose is noticed:', () => {
  it.each(MUTATIONS)(
    '%s',
    async (mutation) => {
      const { failures } = await simulate({ schedules: SEEDS, mutation, stopAtFirst: true });
      expect(failures.map(({ violations }) => violations[0]?.invariant)).toEqual([
        expect.stringMatching(new RegExp(`^(${SHOWS[mutation].join('|')})$`)),
      ]);
    },
    300_000,
  );

  it.each(MUTATIONS)(
    '%s: and the failing seed comes to the same end again',
    async (mutation) => {
      const { failures } = await simulate({ schedules: SEEDS, mutation, stopAtFirst: true });
      for (const failure of failures) expect(await runWorld(failure.seed, { mutation })).toEqual(failure);
      expect(failures).toHaveLength(1);
    },
    300_000,
  );
});
