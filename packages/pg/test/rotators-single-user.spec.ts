import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { DatabaseCredentials } from '@nestjs-secrets/core';
import { freePort, startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { postgresSingleUser, type PostgresRotator, type PostgresSingleUserOptions } from '../src/rotators/index.js';
import { connectAs, HandRotation, queryAs, sqlStateOf, version, type Version } from './rotators-fixture.js';

let server: PostgresServer;
let serial = 0;
let username: string;

beforeAll(async () => {
  server = await startPostgres({ settings: { log_statement: 'all' } });
});
afterAll(() => server.stop());
beforeEach(() => {
  serial += 1;
  username = `Single "${serial}" o'user`;
});

function rotatorFor(options: Partial<PostgresSingleUserOptions> = {}): PostgresRotator {
  const { host, port, database } = server;
  return postgresSingleUser({ connection: { host, port, database }, ...options });
}

const name = (): string => `"${username.replaceAll('"', '""')}"`;

/** A role that exists, as the current version. */
async function existing(settings = ''): Promise<Version> {
  const password = `first-password-${serial}`;
  await server.query(`CREATE ROLE ${name()} LOGIN PASSWORD '${password}' ${settings}`);
  return version({ username, password });
}

const can = async (credentials: DatabaseCredentials): Promise<string> =>
  (await sqlStateOf(queryAs(server, credentials, 'SELECT 1'))) ?? 'yes';

const pendingOf = (rotation: HandRotation): DatabaseCredentials => {
  if (rotation.pending === undefined) throw new Error('nothing pending');
  return rotation.pending.value;
};

describe.each([
  ['by itself', () => ({})],
  ['by an administrator', () => ({ admin: server.admin })],
])('a password changed %s', (_who, options) => {
  it('goes over from the old to the new, and no password is ever in a statement', async () => {
    const one = await existing();
    const rotator = rotatorFor(options());
    expect([rotator.name, rotator.strategy, rotator.identities]).toEqual([
      'postgres/single-user',
      'single-user',
      undefined,
    ]);
    const rotation = new HandRotation(rotator, one);
    const two = await rotation.upToPromotion();
    expect(two.value.username).toBe(username);
    expect([await can(one.value), await can(two.value)]).toEqual(['28P01', 'yes']);
    expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
    const again = new HandRotation(rotator, two);
    const three = await again.upToPromotion();
    await again.retire();
    expect([await can(two.value), await can(three.value)]).toEqual(['28P01', 'yes']);
    expect(server.log()).toContain(" PASSWORD 'SCRAM-SHA-256$4096:");
    for (const secret of [two.value.password, three.value.password]) expect(server.log()).not.toContain(secret);
  });

  it('ends the sessions of the old password, and none of the new', async () => {
    const one = await existing();
    const old = await Promise.all([connectAs(server, one.value), connectAs(server, one.value)]);
    await old[0]?.query('BEGIN');
    const rotation = new HandRotation(rotatorFor(options()), one);
    const two = await rotation.upToPromotion();
    const fresh = await Promise.all([connectAs(server, two.value), connectAs(server, two.value)]);
    expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 2, sessionsLeft: 0 });
    expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
    for (const client of fresh) expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    for (const client of old) await expect(client.query('SELECT 1')).rejects.toThrow();
    await Promise.all([...old, ...fresh].map((client) => client.end()));
  });

  it('works for a role whose sessions run as another one', async () => {
    const one = await existing();
    await server.query(`CREATE ROLE runs_as_${serial}`);
    await server.query(`GRANT runs_as_${serial} TO ${name()}`);
    await server.query(`ALTER ROLE ${name()} SET role = runs_as_${serial}`);
    const old = await connectAs(server, one.value);
    const rotation = new HandRotation(rotatorFor(options()), one);
    await rotation.upToPromotion();
    expect(await rotation.retire()).toMatchObject({ sessionsEnded: 1 });
    await old.end();
  });

  it('ends sessions of the old password that began after the note of a process that died, and before its change', async () => {
    const one = await existing();
    let late: Awaited<ReturnType<typeof connectAs>> | undefined;
    const crash = new HandRotation(rotatorFor(options()), one, [], async (notes) => {
      if ('alteredAt' in notes) throw new Error('killed');
      crash.notes = notes;
      late = await connectAs(server, one.value);
    });
    await crash.create();
    await expect(crash.apply()).rejects.toThrow('killed');
    const resumed = new HandRotation(rotatorFor(options()), one);
    resumed.pending = crash.pending;
    resumed.notes = crash.notes;
    await resumed.apply();
    await resumed.verify();
    const fresh = await connectAs(server, pendingOf(resumed));
    expect(await resumed.retire()).toEqual({ refused: true, sessionsEnded: 1, sessionsLeft: 0 });
    expect((await fresh.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await expect(late?.query('SELECT 1')).rejects.toThrow();
    for (const client of [late, fresh]) await client?.end();
  });

  it.each([
    ['before the password changed', 'alteredAfter', '28P01'],
    ['after the password changed', 'alteredAt', 'yes'],
  ])('goes on after a crash just %s', async (_when, note, pendingWorks) => {
    const one = await existing();
    const crash = new HandRotation(rotatorFor(options()), one, [], (notes) => {
      if (note in notes) {
        // The note before the change is stored when the process dies, the one after it is not.
        if (note === 'alteredAfter') crash.notes = notes;
        throw new Error('killed');
      }
    });
    await crash.create();
    await expect(crash.apply()).rejects.toThrow('killed');
    expect(await can(pendingOf(crash))).toBe(pendingWorks);
    // One stored value opens the target at every instant.
    expect(await can(pendingWorks === 'yes' ? pendingOf(crash) : one.value)).toBe('yes');

    const resumed = new HandRotation(rotatorFor(options()), one);
    resumed.pending = crash.pending;
    resumed.notes = crash.notes;
    await resumed.apply();
    await resumed.apply();
    await resumed.verify();
    expect([await can(one.value), await can(pendingOf(resumed))]).toEqual(['28P01', 'yes']);
    expect(await resumed.retire()).toMatchObject({ refused: true, sessionsLeft: 0 });
  });

  it('is undone, whether or not it had been applied', async () => {
    const one = await existing();
    const rotation = new HandRotation(rotatorFor(options()), one);
    await rotation.create();
    await rotation.undo();
    expect(await can(one.value)).toBe('yes');
    await rotation.apply();
    expect(await can(one.value)).toBe('28P01');
    await rotation.undo();
    await rotation.undo();
    expect([await can(one.value), await can(pendingOf(rotation))]).toEqual(['yes', '28P01']);
    expect(server.log()).not.toContain(pendingOf(rotation).password);
  });
});

describe('the first version', () => {
  it('creates the role as the administrator, also after a crash, and is undone', async () => {
    const rotator = rotatorFor({ admin: server.admin, username });
    const rotation = new HandRotation(rotator, undefined);
    await rotation.create();
    await rotation.apply();
    await rotation.apply();
    await rotation.verify();
    expect(await can(pendingOf(rotation))).toBe('yes');
    await rotation.undo();
    await rotation.undo();
    expect(await can(pendingOf(rotation))).toBe('28P01');
  });

  it('needs no superuser: CREATEROLE is enough, from the first version to the retirement', async () => {
    const dba = { username: `dba_${serial}`, password: 'dba-password' };
    await server.query(`CREATE ROLE ${dba.username} LOGIN CREATEROLE PASSWORD '${dba.password}'`);
    const rotator = rotatorFor({ admin: dba, username });
    const one = await new HandRotation(rotator, undefined).upToPromotion();
    const old = await connectAs(server, one.value);
    const rotation = new HandRotation(rotator, one);
    const two = await rotation.upToPromotion();
    expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 1, sessionsLeft: 0 });
    expect([await can(one.value), await can(two.value)]).toEqual(['28P01', 'yes']);
    await old.end();
  });

  it('needs a user name and an administrator', async () => {
    await expect(new HandRotation(rotatorFor({ admin: server.admin }), undefined).create()).rejects.toMatchObject({
      code: 'ROTATOR_OPTIONS_INVALID',
    });
    await expect(new HandRotation(rotatorFor({ username }), undefined).create()).rejects.toMatchObject({
      code: 'ROTATOR_OPTIONS_INVALID',
    });
    await expect(
      new HandRotation(rotatorFor({ username: 'other' }), version({ username, password: 'x' })).create(),
    ).rejects.toMatchObject({
      code: 'ROTATOR_OPTIONS_INVALID',
    });
    expect(() => rotatorFor({ username: 'é'.repeat(32) })).toThrow(
      expect.objectContaining({ code: 'ROTATOR_OPTIONS_INVALID' }),
    );
  });
});

describe('what goes wrong', () => {
  it('decides nothing while the server does not answer', async () => {
    const connection = { host: '127.0.0.1', port: await freePort(), database: 'postgres' };
    const rotation = new HandRotation(rotatorFor({ connection }), version({ username, password: 'canary-password' }));
    await rotation.create();
    await expect(rotation.apply()).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    expect(rotation.notes).toEqual({});
    rotation.notes = { alteredAfter: '1' };
    await expect(rotation.apply()).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    await expect(rotation.undo()).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    await expect(rotation.retire()).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
  });

  it('says what to do when no stored value is accepted', async () => {
    const one = await existing();
    await server.query(`ALTER ROLE ${name()} PASSWORD 'set-by-somebody-else'`);
    const rotation = new HandRotation(rotatorFor(), one);
    await rotation.create();
    await expect(rotation.apply()).rejects.toMatchObject({
      code: 'TARGET_REFUSED',
      message: expect.stringContaining('admin'),
    });
    expect(rotation.notes).toEqual({});
    // With an administrator the same rotation goes through.
    const helped = new HandRotation(rotatorFor({ admin: server.admin }), one);
    await helped.upToPromotion();
    expect(await can(pendingOf(helped))).toBe('yes');
  });

  it('does not take a full server for a refusal', async () => {
    const one = await existing('CONNECTION LIMIT 1');
    const rotation = new HandRotation(rotatorFor({ admin: server.admin }), one);
    await rotation.create();
    await rotation.apply();
    const only = await connectAs(server, pendingOf(rotation));
    await expect(rotation.apply()).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE', sqlState: '53300' });
    await only.end();
  });

  it('says so when the old password still works, and ends nothing it cannot tell apart', async () => {
    const one = await existing();
    const session = await connectAs(server, one.value);
    const rotation = new HandRotation(rotatorFor(), one);
    rotation.pending = { ...one, versionId: 'v2' };
    await expect(rotation.retire()).rejects.toMatchObject({ code: 'OLD_CREDENTIAL_ALIVE' });
    rotation.notes = {};
    const next = new HandRotation(rotatorFor(), one);
    await next.upToPromotion();
    next.notes = {};
    expect(await next.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
    expect((await session.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await session.end();
  });

  it('retires another role as a whole, after a version for it was put by hand', async () => {
    const one = await existing();
    const session = await connectAs(server, one.value);
    const other = version({ username: `other_${serial}`, password: 'other-password' });
    await server.query(`CREATE ROLE other_${serial} LOGIN PASSWORD 'other-password'`);
    const rotation = new HandRotation(rotatorFor({ admin: server.admin }), one);
    rotation.pending = other;
    expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 1, sessionsLeft: 0 });
    expect(await can(other.value)).toBe('yes');
    await session.end();
  });

  it('fails verify when the new password does not log in, and runs the probes when it does', async () => {
    const one = await existing();
    const users: unknown[] = [];
    const rotation = new HandRotation(
      rotatorFor({
        probes: [async (client) => void users.push((await client.query('SELECT current_user::text AS u')).rows[0])],
      }),
      one,
    );
    await rotation.create();
    await expect(rotation.verify()).rejects.toMatchObject({ code: 'TARGET_REFUSED' });
    expect(users).toEqual([]);
    await rotation.apply();
    await rotation.verify();
    expect(users).toEqual([{ u: username }]);
  });
});
