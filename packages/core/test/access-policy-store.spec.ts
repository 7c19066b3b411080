import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { principalOf, STORE_RESOURCE, type PolicyStatement } from '@nestjs-secrets/core';
import { ADMIN, ADMINS, ALICE, documentOf, FACTS, OWN, PolicyWorld, readPolicy } from './support/policy-world.js';

const code = (code: string): unknown => expect.objectContaining({ code });
const ALL = { Effect: 'Allow', Action: 'secrets:*', Resource: '*' } as const;
const SECRET_A = { name: 'a', facts: FACTS };

let world: PolicyWorld;
beforeEach(() => {
  world = new PolicyWorld();
});
afterEach(() => world.stop());

describe('without policies', () => {
  it('the application itself may do everything, nobody else anything, and it is said', async () => {
    const app = await world.start();
    expect(app.reports).toEqual([{ type: 'policies-off' }]);
    expect(world.reads(app, OWN)).toEqual({ allowed: true, reason: 'policies-off', statements: [] });
    expect(world.reads(app, ALICE)).toMatchObject({ allowed: false, reason: 'policies-off' });
  });

  it('the first policy turns them on, for good', async () => {
    const app = await world.startGoverned();
    expect(world.reads(app, OWN)).toMatchObject({ allowed: false, reason: 'no-allow' });
    await app.policies.deletePolicy(world.author(ADMIN), 'admins', { force: true });
    expect(world.reads(app, OWN).allowed).toBe(false);
    expect(world.reads(await world.start(), OWN).allowed).toBe(false);
  });

  it('a first policy that would lock out its author is refused', async () => {
    const app = await world.start();
    await expect(app.policies.putPolicy(world.author(OWN), readPolicy('readers', ALICE.id))).rejects.toEqual(
      code('POLICY_LOCKOUT'),
    );
    expect(world.reads(app, OWN).allowed).toBe(true);
    expect(app.policies.sequence).toBe(0);
  });

  it('nothing is allowed under `always`, but for what code allows', async () => {
    const app = await world.start({ enforce: 'always' });
    expect(world.reads(app, OWN)).toMatchObject({ allowed: false, reason: 'no-allow' });
    const other = await world.start({ builtIn: [readPolicy('own', OWN.id, 'secret/a')] });
    expect(other.reports).toEqual([]);
    expect(world.reads(other, OWN, 'a').allowed).toBe(true);
    expect(world.reads(other, OWN, 'b').allowed).toBe(false);
  });

  it('`off` lets the application back in, but not past the lockout check', async () => {
    const app = await world.startGoverned();
    await app.policies.deletePolicy(world.author(ADMIN), 'admins', { force: true });
    const repair = await world.start({ enforce: 'off' });
    expect(world.reads(repair, OWN).allowed).toBe(true);
    await expect(repair.policies.putPolicy(world.author(OWN), ADMINS)).rejects.toEqual(code('POLICY_LOCKOUT'));
    await repair.policies.putPolicy(world.author(OWN), ADMINS, { force: true });
    await world.rest();
    expect(world.reads(app, ADMIN).allowed).toBe(true);
  });
});

describe('changes', () => {
  it('govern every instance by hint, and by looking where hints are lost', async () => {
    const [app, near, deaf] = [
      await world.startGoverned(),
      await world.start(),
      await world.start({ refreshIntervalMs: 5000 }),
    ];
    deaf.link.isDeaf = true;
    await app.policies.putPolicy(world.author(ADMIN), readPolicy('readers', ALICE.id));
    expect(world.reads(app, ALICE).allowed).toBe(true);
    await world.clock.advance(0);
    expect([near, deaf].map((instance) => world.reads(instance, ALICE).allowed)).toEqual([true, false]);
    await world.clock.advance(5000);
    expect(world.reads(deaf, ALICE).allowed).toBe(true);
    expect(near.reports).toContainEqual({ type: 'policies-changed', sequence: 2 });
  });

  it('of many writers on several instances all take place', async () => {
    const one = await world.startGoverned();
    const instances = [one, await world.start(), await world.start()];
    const names = Array.from({ length: 24 }, (_, index) => `p${index}`);
    await Promise.all(
      names.map((name, index) =>
        (instances[index % 3] ?? one).policies.putPolicy(
          world.author(ADMIN),
          readPolicy(name, ALICE.id, `secret/${name}`),
        ),
      ),
    );
    await world.rest();
    for (const instance of instances) {
      expect(instance.policies.sequence).toBe(25);
      expect(instance.policies.listPolicies('p').names).toEqual(names.toSorted());
      for (const name of names) expect(world.reads(instance, ALICE, name).allowed).toBe(true);
    }
  });

  it('with a sequence happen only on top of it', async () => {
    const [one, other] = [await world.startGoverned(), await world.start()];
    const author = world.author(ADMIN);
    const first = await one.policies.putPolicy(author, readPolicy('p', ALICE.id), { ifSequence: 0 });
    await expect(other.policies.putPolicy(author, readPolicy('p', ALICE.id), { ifSequence: 0 })).rejects.toEqual(
      code('POLICY_CHANGED'),
    );
    const outcomes = await Promise.allSettled(
      [one, other].map(({ policies }) =>
        policies.putPolicy(author, readPolicy('p', ALICE.id, 'secret/b'), { ifSequence: first.sequence }),
      ),
    );
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    await expect(one.policies.deletePolicy(author, 'p', { ifSequence: first.sequence })).rejects.toEqual(
      code('POLICY_CHANGED'),
    );
  });

  it('say who made them, when, and are told as they are', async () => {
    const app = await world.startGoverned();
    const written = await app.policies.putPolicy(world.author(ADMIN), {
      ...readPolicy('p', ALICE.id),
      document: JSON.stringify(documentOf(ALL)),
    });
    expect(written).toMatchObject({
      name: 'p',
      sequence: 2,
      updatedBy: 'operator/admin',
      updatedAt: world.clock.now(),
    });
    expect(app.policies.getPolicy('p')).toEqual(written);
    expect((await world.start()).policies.getPolicy('p')).toEqual(written);
    expect(app.policies.getPolicy('q')).toBeUndefined();
    await expect(app.policies.deletePolicy(world.author(ADMIN), 'q')).rejects.toEqual(code('POLICY_NOT_FOUND'));
    await expect(app.policies.deleteSecretPolicy(world.author(ADMIN), SECRET_A)).rejects.toEqual(
      code('POLICY_NOT_FOUND'),
    );
  });

  it('that are invalid change nothing', async () => {
    const app = await world.startGoverned({ builtIn: [readPolicy('from-code', OWN.id)] });
    const invalid = { ...readPolicy('p', ALICE.id), document: '{"Version":"1","Statement":[{}]}' };
    await expect(app.policies.putPolicy(world.author(ADMIN), invalid)).rejects.toEqual(code('POLICY_INVALID'));
    await expect(app.policies.setSecretPolicy(world.author(ADMIN), SECRET_A, documentOf(ALL))).rejects.toEqual(
      code('POLICY_INVALID'),
    );
    await expect(app.policies.putPolicy(world.author(ADMIN), readPolicy('from-code', OWN.id))).rejects.toEqual(
      code('POLICY_INVALID'),
    );
    expect(app.policies.sequence).toBe(1);
  });

  it('end where the list of policies would not fit under one key', async () => {
    const app = await world.startGoverned();
    const principals = Array.from({ length: 100 }, (_, index) => `remote/${String(index).padStart(180, 'x')}`);
    const put = async (): Promise<void> => {
      for (let count = 0; count < 100; count += 1)
        await app.policies.putPolicy(world.author(ADMIN), { ...readPolicy(`p${count}`, ''), principals });
    };
    await expect(put()).rejects.toEqual(code('POLICY_LIMIT'));
    expect(world.reads(app, ADMIN).allowed).toBe(true);
  });
});

describe('locking oneself out', () => {
  const denyAll: PolicyStatement = { Effect: 'Deny', Action: 'secrets:*Policy', Principal: 'operator/*' };

  it('is refused without force, by identity policies', async () => {
    const app = await world.startGoverned();
    const author = world.author(ADMIN);
    await expect(app.policies.deletePolicy(author, 'admins')).rejects.toEqual(code('POLICY_LOCKOUT'));
    await expect(app.policies.putPolicy(author, readPolicy('admins', ADMIN.id))).rejects.toEqual(
      code('POLICY_LOCKOUT'),
    );
    const freeze = {
      name: 'freeze',
      principals: ['*'],
      document: documentOf({ Effect: 'Deny', Action: 'secrets:PutPolicy', Resource: '*' } as const),
    };
    await expect(app.policies.putPolicy(author, freeze)).rejects.toEqual(code('POLICY_LOCKOUT'));
    expect(app.policies.sequence).toBe(1);
    await app.policies.putPolicy(author, freeze, { force: true });
    expect(app.policies.sequence).toBe(2);
  });

  it('is refused without force, by the policy of a secret', async () => {
    const app = await world.startGoverned();
    const author = world.author(ADMIN);
    await expect(app.policies.setSecretPolicy(author, SECRET_A, documentOf(denyAll))).rejects.toEqual(
      code('POLICY_LOCKOUT'),
    );
    const stored = await app.policies.setSecretPolicy(author, SECRET_A, documentOf(denyAll), { force: true });
    expect(app.policies.getSecretPolicy('a')).toEqual(stored);
    // Another secret, and another action on this one, are none of its business.
    await app.policies.setSecretPolicy(
      author,
      { name: 'b', facts: FACTS },
      documentOf({ ...denyAll, Principal: 'remote/*' }),
    );
    expect(world.reads(app, ADMIN, 'a').allowed).toBe(true);
    await app.policies.deleteSecretPolicy(author, SECRET_A);
    expect(app.policies.getSecretPolicy('a')).toBeUndefined();
  });

  it('does not happen to two who each rely on what the other takes away', async () => {
    const [one, other] = [await world.startGoverned(), await world.start()];
    const author = world.author(ADMIN);
    await one.policies.putPolicy(author, { ...ADMINS, name: 'admins-too' });
    await world.rest();
    const outcomes = await Promise.allSettled([
      one.policies.deletePolicy(author, 'admins'),
      other.policies.deletePolicy(author, 'admins-too'),
    ]);
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(refused).toEqual([expect.objectContaining({ reason: code('POLICY_LOCKOUT') })]);
    await world.rest();
    for (const instance of [one, other]) expect(world.reads(instance, ADMIN).allowed).toBe(true);
  });

  it('counts the conditions as they are for the author now', async () => {
    const app = await world.startGoverned();
    const onlyFromHome = {
      ...ADMINS,
      document: documentOf({ ...ALL, Condition: { IpAddress: { 'secrets:SourceIp': '10.0.0.0/8' } } }),
    };
    const from = (sourceAddress: string): Parameters<typeof app.policies.putPolicy>[0] => ({
      principal: ADMIN,
      context: { time: world.clock.now(), sourceAddress },
    });
    await expect(app.policies.putPolicy(from('203.0.113.1'), onlyFromHome)).rejects.toEqual(code('POLICY_LOCKOUT'));
    await app.policies.putPolicy(from('10.0.0.1'), onlyFromHome);
    await expect(app.policies.putPolicy(from('nonsense'), onlyFromHome)).rejects.toEqual(
      code('ACCESS_REQUEST_INVALID'),
    );
  });
});

describe('never by half of a change', () => {
  it('someone with one of two policies at any time may always read', async () => {
    const writer = await world.startGoverned();
    const author = world.author(ADMIN);
    await writer.policies.putPolicy(author, readPolicy('left', ALICE.id));
    const reader = await world.start();
    const seen: { sequence: number; allowed: boolean }[] = [];
    let turns = 0;
    // Reads take their time, each another, so that the writer moves on between any two of them; and each of them decides.
    reader.link.pause = async () => {
      turns = (turns * 7 + 3) % 11;
      for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
      seen.push({ sequence: reader.policies.sequence, allowed: world.reads(reader, ALICE).allowed });
    };
    for (let round = 0; round < 60; round += 1) {
      const [next, last] = round % 2 === 0 ? ['right', 'left'] : ['left', 'right'];
      await writer.policies.putPolicy(author, readPolicy(next, ALICE.id));
      if (round % 4 === 3) await world.clock.advance(0);
      await writer.policies.deletePolicy(author, last);
    }
    await reader.policies.refresh();
    expect(seen.filter(({ allowed }) => !allowed)).toEqual([]);
    expect(new Set(seen.map(({ sequence }) => sequence)).size).toBeGreaterThan(10);
    expect(reader.policies.sequence).toBe(122);
    expect(reader.reports.filter(({ type }) => type !== 'policies-changed')).toEqual([]);
  });
});

describe('simulate', () => {
  const asks = (world: PolicyWorld, sourceAddress: string): { time: number; sourceAddress: string } => ({
    time: world.clock.now(),
    sourceAddress,
  });

  it('tells a condition that is not met, with what was found', async () => {
    const app = await world.startGoverned();
    await app.policies.putPolicy(world.author(ADMIN), {
      ...readPolicy('home', ALICE.id),
      document: documentOf({
        ...ALL,
        Sid: 'fromHome',
        Condition: { IpAddress: { 'secrets:SourceIp': ['10.0.0.0/8'] } },
      }),
    });
    const refused = app.policies.simulate(ALICE, 'secrets:GetRandomPassword', STORE_RESOURCE, asks(world, '11.0.0.1'));
    expect(refused).toMatchObject({ allowed: false, reason: 'no-allow', principal: 'operator/alice', matched: [] });
    expect(refused.wouldChange).toEqual([
      {
        change: 'meet-conditions',
        statement: { policy: 'policy/home', index: 0, sid: 'fromHome', effect: 'Allow' },
        conditions: [{ operator: 'IpAddress', key: 'secrets:SourceIp', wanted: ['10.0.0.0/8'], found: '11.0.0.1' }],
      },
    ]);
    const allowed = app.policies.simulate(ALICE, 'secrets:GetRandomPassword', STORE_RESOURCE, asks(world, '10.0.0.1'));
    expect(allowed).toMatchObject({ allowed: true, wouldChange: [{ change: 'drop-allow' }] });
  });

  it('tells what denies, what nearly allows and that nothing does', async () => {
    const app = await world.startGoverned();
    const author = world.author(ADMIN);
    await app.policies.putPolicy(author, readPolicy('b', ALICE.id, 'secret/b'));
    await app.policies.setSecretPolicy(
      author,
      SECRET_A,
      documentOf(
        { Effect: 'Allow', Action: 'secrets:DescribeSecret', Principal: ALICE.id },
        { Effect: 'Allow', Action: 'secrets:GetSecretValue', Principal: 'operator/bob' },
      ),
    );
    const changes = (who: typeof ALICE, secret: string): string[] =>
      app.policies
        .simulate(who, 'secrets:GetSecretValue', { id: `secret/${secret}`, facts: FACTS }, { time: world.clock.now() })
        .wouldChange.map(({ change, statement }) => `${change} ${statement?.policy ?? ''}`.trim());
    expect(changes(ALICE, 'a')).toEqual([
      'widen-resources policy/b',
      'widen-actions secret/a',
      'widen-principals secret/a',
    ]);
    expect(changes(principalOf('remote', 'x'), 'b')).toEqual(['add-allow']);
    await app.policies.putPolicy(author, {
      name: 'freeze',
      principals: ['*'],
      document: documentOf({ Effect: 'Deny', Action: 'secrets:GetSecretValue', Resource: 'secret/b' }),
    });
    expect(changes(ALICE, 'b')).toEqual(['lift-deny policy/freeze']);
    expect(changes(principalOf('remote', 'x'), 'b')).toEqual(['lift-deny policy/freeze', 'add-allow']);
  });
});
