import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { secretResource } from '@nestjs-secrets/core';
import {
  ADMIN,
  ALICE,
  documentOf,
  FACTS,
  macSeal,
  PolicyWorld,
  readPolicy,
  type Instance,
} from './support/policy-world.js';

const code = (code: string): unknown => expect.objectContaining({ code });
const HEAD = 'policy/head';
const SECRET_A = { name: 'a', facts: FACTS };
const ALICE_READS = { Effect: 'Allow', Action: 'secrets:GetSecretValue', Principal: ALICE.id } as const;
const flipped = (value: Uint8Array): Uint8Array => {
  const copy = Uint8Array.from(value);
  copy[copy.length - 3] = (copy[copy.length - 3] ?? 0) ^ 1;
  return copy;
};

let world: PolicyWorld;
beforeEach(() => {
  world = new PolicyWorld();
});
afterEach(() => world.stop());

describe('a policy that somebody with the database in hand touched', () => {
  let app: Instance;
  beforeEach(async () => {
    app = await world.startGoverned();
    await app.policies.putPolicy(world.author(ADMIN), readPolicy('alice', ALICE.id));
    await app.policies.putPolicy(world.author(ADMIN), readPolicy('bots', 'remote/*'));
  });

  const WAYS: readonly (readonly [string, (key: string) => Promise<void>])[] = [
    ['changed', (key) => world.tamper(key, flipped)],
    ['removed', (key) => world.tamper(key, () => null)],
    ['cut short', (key) => world.tamper(key, (value) => value.subarray(0, 7))],
    [
      'replaced by another of ours',
      async (key) => {
        const other = await world.store.get('policy/identity/bots');
        await world.tamper(key, () => other?.value ?? null);
      },
    ],
  ];

  it.each(WAYS)('%s, denies whomever it governs, and nobody else', async (_way, tamper) => {
    await tamper('policy/identity/alice');
    for (const instance of [await world.start()]) {
      expect(world.reads(instance, ALICE)).toEqual({ allowed: false, reason: 'policy-corrupt', statements: [] });
      expect(world.reads(instance, ADMIN).allowed).toBe(true);
      expect(instance.reports).toContainEqual({ type: 'policies-corrupt', policies: ['policy/alice'] });
      expect(instance.policies.listPolicies()).toEqual({ names: ['admins', 'alice', 'bots'], corrupt: ['alice'] });
      expect(instance.policies.getPolicy('alice')).toBeUndefined();
    }
  });

  it('put back as it was before an honest change, is noticed', async () => {
    const old = await world.store.get('policy/identity/alice');
    await app.policies.putPolicy(world.author(ADMIN), readPolicy('alice', ALICE.id, 'secret/only'));
    await world.tamper('policy/identity/alice', () => old?.value ?? null);
    const instance = await world.start();
    expect(world.reads(instance, ALICE, 'a')).toMatchObject({ allowed: false, reason: 'policy-corrupt' });
    expect(world.reads(instance, ALICE, 'only').allowed).toBe(false);
  });

  it('slipped in, is not there', async () => {
    const extra = { sequence: 9, updatedAt: 0, updatedBy: 'x', ...readPolicy('extra', ALICE.id) };
    const sealed = await macSeal.seal('policy/identity/extra', Buffer.from(JSON.stringify(extra)));
    await world.tamper('policy/identity/extra', () => sealed);
    const instance = await world.start();
    expect(instance.policies.listPolicies().names).not.toContain('extra');
  });

  it('can be set anew by whoever the others allow', async () => {
    await world.tamper('policy/identity/alice', flipped);
    const instance = await world.start();
    await instance.policies.putPolicy(world.author(ADMIN), readPolicy('alice', ALICE.id));
    expect(world.reads(instance, ALICE).allowed).toBe(true);
    expect(instance.policies.listPolicies().corrupt).toEqual([]);
  });

  it('is noticed to be whole again without any change of policies', async () => {
    const good = await world.store.get('policy/identity/alice');
    await world.tamper('policy/identity/alice', flipped);
    const instance = await world.start();
    expect(world.reads(instance, ALICE).allowed).toBe(false);
    await world.tamper('policy/identity/alice', () => good?.value ?? null);
    expect(world.reads(instance, ALICE).allowed).toBe(true);
  });

  it('that governs its own repairer does not keep it from being repaired', async () => {
    await app.policies.putPolicy(world.author(ADMIN), {
      ...readPolicy('rail', '*'),
      document: documentOf({ Effect: 'Deny', Action: 'secrets:DestroyKey', Resource: '*' }),
    });
    await world.tamper('policy/identity/rail', flipped);
    const instance = await world.start();
    expect(world.reads(instance, ADMIN)).toMatchObject({ allowed: false, reason: 'policy-corrupt' });
    const asks = (name: string): boolean =>
      instance.policies.decide(ADMIN, 'secrets:DeletePolicy', { id: `policy/${name}` }, { time: world.clock.now() })
        .allowed;
    expect([asks('rail'), asks('alice')]).toEqual([true, false]);
    await instance.policies.deletePolicy(world.author(ADMIN), 'rail');
    expect(world.reads(instance, ADMIN).allowed).toBe(true);
  });

  it('of a secret, denies everyone that secret until it is set anew, and no other secret', async () => {
    await app.policies.setSecretPolicy(world.author(ADMIN), SECRET_A, documentOf(ALICE_READS));
    await world.tamper('policy/secret/a', flipped);
    const instance = await world.start();
    expect(instance.reports).toContainEqual({ type: 'policies-corrupt', policies: ['secret/a'] });
    for (const who of [ADMIN, ALICE]) {
      expect(world.reads(instance, who, 'a').reason).toBe('policy-corrupt');
      expect(world.reads(instance, who, 'b').allowed).toBe(true);
    }
    const context = { time: world.clock.now() };
    expect(
      instance.policies.decide(ADMIN, 'secrets:SetSecretPolicy', secretResource('a', FACTS), context).allowed,
    ).toBe(true);
    expect(
      instance.policies.decide(ALICE, 'secrets:SetSecretPolicy', secretResource('a', FACTS), context).allowed,
    ).toBe(false);
    await instance.policies.deleteSecretPolicy(world.author(ADMIN), SECRET_A);
    expect(world.reads(instance, ADMIN, 'a').allowed).toBe(true);
  });
});

describe('the head of the policies', () => {
  const touch: readonly (readonly [string, (old: Uint8Array) => Uint8Array | null])[] = [
    ['changed', flipped],
    ['removed', () => null],
    ['gone back', (old) => old],
  ];

  it.each([touch[0], touch[2]].flatMap((way) => (way === undefined ? [] : [way])))(
    '%s, is no start',
    async (way, edit) => {
      const app = await world.startGoverned();
      const old = await world.store.get(HEAD);
      await app.policies.putPolicy(world.author(ADMIN), readPolicy('alice', ALICE.id));
      await world.tamper(HEAD, (now) => edit(way === 'gone back' ? flipped(old?.value ?? now) : now));
      await expect(world.start()).rejects.toEqual(code('RECORD_CORRUPT'));
    },
  );

  it.each(touch)(
    '%s under a running instance, leaves the last policies in force until they are too old',
    async (way, edit) => {
      const app = await world.startGoverned({ maxStalenessMs: 60_000, refreshIntervalMs: 10_000 });
      const old = await world.store.get(HEAD);
      await app.policies.putPolicy(world.author(ADMIN), {
        ...readPolicy('guard', '*'),
        document: documentOf({ Effect: 'Deny', Action: 'secrets:GetSecretValue', Resource: 'secret/root' }),
      });
      await world.tamper(HEAD, (now) => edit(way === 'gone back' ? (old?.value ?? now) : now));
      expect(app.reports.at(-1)).toEqual({ type: 'policies-unreadable', error: code('RECORD_CORRUPT') });
      expect(world.reads(app, ADMIN, 'root').reason).toBe('explicit-deny');
      expect(world.reads(app, ADMIN, 'a').allowed).toBe(true);
      await expect(app.policies.putPolicy(world.author(ADMIN), readPolicy('alice', ALICE.id))).rejects.toEqual(
        code('RECORD_CORRUPT'),
      );
      await world.clock.advance(60_001);
      expect(world.reads(app, ADMIN, 'a')).toEqual({ allowed: false, reason: 'policies-stale', statements: [] });
    },
  );
});

describe('an outage of the store', () => {
  it('leaves the last policies in force, denies after the stated time, and ends by itself', async () => {
    const app = await world.startGoverned({ maxStalenessMs: 120_000, refreshIntervalMs: 30_000 });
    app.link.isDown = true;
    await world.clock.advance(119_000);
    expect(world.reads(app, ADMIN).allowed).toBe(true);
    expect(app.reports.at(-1)).toEqual({ type: 'policies-unreadable', error: code('STORE_UNAVAILABLE') });
    await world.clock.advance(2000);
    expect(world.reads(app, ADMIN).reason).toBe('policies-stale');
    const simulated = app.policies.simulate(
      ADMIN,
      'secrets:GetRandomPassword',
      { id: 'store' },
      { time: world.clock.now() },
    );
    expect(simulated.wouldChange).toEqual([{ change: 'reach-store', statement: undefined, conditions: [] }]);
    app.link.isDown = false;
    await world.clock.advance(30_000);
    expect(world.reads(app, ADMIN).allowed).toBe(true);
  });

  it('at start is an error', async () => {
    await world.startGoverned();
    await expect(world.start({}, (link) => (link.isDown = true))).rejects.toEqual(code('STORE_UNAVAILABLE'));
  });

  it('during a change is told to whoever makes it', async () => {
    const app = await world.startGoverned();
    app.link.isDown = true;
    await expect(app.policies.putPolicy(world.author(ADMIN), readPolicy('p', ALICE.id))).rejects.toEqual(
      code('STORE_UNAVAILABLE'),
    );
    expect(app.policies.getPolicy('p')).toBeUndefined();
  });
});

describe('close', () => {
  it('leaves no timer and no watch', async () => {
    const app = await world.startGoverned();
    expect(world.clock.pending).toBe(1);
    app.policies.close();
    expect(world.clock.pending).toBe(0);
    const other = await world.start();
    await other.policies.putPolicy(world.author(ADMIN), readPolicy('p', ALICE.id));
    await world.clock.advance(0);
    expect(app.policies.sequence).toBe(1);
  });
});
