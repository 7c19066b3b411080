import { describe, expect, it } from '@jest/globals';
import type { Decision } from '@nestjs-secrets/core';
import type { Expected } from './access-cases/case-table.js';
import { decideRow, expectedOf, policySetOf } from './access-cases/decide-case.js';
import { RandomPolicies, type World } from './access-cases/random-policies.js';
import { referenceVerdict } from './access-cases/reference-evaluator.js';
import { seededRandomness } from './seeded-randomness.js';

const POLICIES = 10_000;
const IN_A_WORLD = 4;
const REQUESTS = 8;

function sidsOf({ statements }: Decision): string[] {
  return statements.map(({ sid }) => sid ?? '').sort();
}

/** Calls `check` with many worlds and requests, all from one seed. */
function forWorlds(seed: string, worlds: number, check: (world: World, random: RandomPolicies) => void): void {
  const random = new RandomPolicies(seededRandomness(seed));
  for (let count = 0; count < worlds; count += 1) check(random.world(IN_A_WORLD), random);
}

describe('the evaluator and a naive one', () => {
  it(`agree on ${POLICIES} random policies`, () => {
    const seen: Record<Expected, number> = { allow: 0, none: 0, deny: 0, facts: 0 };
    forWorlds('agreement', POLICIES / IN_A_WORLD, (world, random) => {
      const policies = policySetOf(world);
      for (let count = 0; count < REQUESTS; count += 1) {
        const row = random.request();
        const verdict = expectedOf(decideRow(policies, row));
        if (verdict !== referenceVerdict(world, row))
          expect({ world, row, verdict }).toEqual({ world, row, verdict: referenceVerdict(world, row) });
        seen[verdict] += 1;
      }
    });
    const total = (POLICIES / IN_A_WORLD) * REQUESTS;
    // The comparison says something only when each verdict is common.
    for (const verdict of ['allow', 'none', 'deny'] as const) expect(seen[verdict]).toBeGreaterThan(total / 20);
    expect(seen.facts).toBe(0);
  });
});

describe('properties of decisions', () => {
  it('a statement that denies by itself denies in any company', () => {
    let denied = 0;
    forWorlds('deny wins', 1_000, (world, random) => {
      const row = random.request();
      const whole = decideRow(policySetOf(world), row);
      const alone = world.identity.flatMap(({ to, statements }) =>
        statements.map((statement) => decideRow(policySetOf({ identity: [{ to, statements: [statement] }] }), row)),
      );
      const denies = alone.filter(({ reason }) => reason === 'explicit-deny').flatMap(sidsOf);
      for (const sid of denies) expect(sidsOf(whole)).toContain(sid);
      if (denies.length > 0) expect(whole).toMatchObject({ allowed: false, reason: 'explicit-deny' });
      denied += denies.length;
    });
    expect(denied).toBeGreaterThan(50);
  });

  it('the order of statements and policies is irrelevant', () => {
    forWorlds('order', 400, (world, random) => {
      const other: World = {
        identity: random.shuffled(
          world.identity.map(({ to, statements }) => ({
            to: random.shuffled(to),
            statements: random.shuffled(statements),
          })),
        ),
        secrets: Object.fromEntries(
          random
            .shuffled(Object.entries(world.secrets))
            .map(([name, statements]) => [name, random.shuffled(statements)]),
        ),
      };
      const [one, shuffled] = [policySetOf(world), policySetOf(other)];
      for (let count = 0; count < REQUESTS; count += 1) {
        const row = random.request();
        const [before, after] = [decideRow(one, row), decideRow(shuffled, row)];
        expect(after.reason).toBe(before.reason);
        expect(sidsOf(after)).toEqual(sidsOf(before));
      }
    });
  });

  it('adding an allow never removes access, and adds some', () => {
    let added = 0;
    forWorlds('allow', 800, (world, random) => {
      const row = random.request();
      const more = {
        ...world,
        identity: [...world.identity, { to: [row[1]], statements: [random.statement('Allow')] }],
      };
      const [before, after] = [decideRow(policySetOf(world), row), decideRow(policySetOf(more), row)];
      if (before.allowed) expect(after.allowed).toBe(true);
      if (!before.allowed && after.allowed) added += 1;
    });
    expect(added).toBeGreaterThan(20);
  });

  it('adding a deny never adds access, and removes some', () => {
    let removed = 0;
    forWorlds('deny', 800, (world, random) => {
      const row = random.request();
      const more = {
        ...world,
        identity: [...world.identity, { to: [row[1]], statements: [random.statement('Deny')] }],
      };
      const [before, after] = [decideRow(policySetOf(world), row), decideRow(policySetOf(more), row)];
      if (!before.allowed) expect(after.allowed).toBe(false);
      if (before.allowed && !after.allowed) removed += 1;
    });
    expect(removed).toBeGreaterThan(10);
  });

  it('the same request gets the same answer again, and so does one that asks in between', () => {
    forWorlds('again', 100, (world, random) => {
      const policies = policySetOf(world);
      const rows = random.times(5, 5, () => random.request());
      const first = rows.map((row) => decideRow(policies, row));
      expect(rows.map((row) => decideRow(policies, row))).toEqual(first);
      expect(
        random
          .shuffled(rows)
          .map((row) => expectedOf(decideRow(policySetOf(world), row)))
          .sort(),
      ).toEqual(first.map(expectedOf).sort());
    });
  });
});
