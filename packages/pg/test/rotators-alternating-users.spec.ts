import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { isSecretsError, type DatabaseCredentials } from '@nestjs-secrets/core';
import { freePort, startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import {
  postgresAlternatingUsers,
  type PostgresRotator,
  type PostgresAlternatingUsersOptions,
} from '../src/rotators/index.js';
import { connectAs, HandRotation, queryAs, sqlStateOf, version, type Version } from './rotators-fixture.js';

let server: PostgresServer;
let serial = 0;
/** Each test has a ring of its own on the one server. */
let base: string;

beforeAll(async () => {
  server = await startPostgres({ settings: { log_statement: 'all' } });
});
afterAll(() => server.stop());
beforeEach(() => {
  serial += 1;
  base = `app${serial}`;
});

function rotatorFor(options: Partial<PostgresAlternatingUsersOptions> = {}): PostgresRotator {
  const { host, port, database } = server;
  return postgresAlternatingUsers({
    connection: { host, port, database },
    admin: server.admin,
    baseName: base,
    ...options,
  });
}

/** The first version, on an empty target. */
async function firstVersion(rotator: PostgresRotator): Promise<Version> {
  return new HandRotation(rotator, undefined).upToPromotion();
}

async function rotated(rotator: PostgresRotator, current: Version): Promise<{ next: Version; rotation: HandRotation }> {
  const rotation = new HandRotation(rotator, current);
  return { next: await rotation.upToPromotion(), rotation };
}

const can = async (credentials: DatabaseCredentials, ...sql: string[]): Promise<string> =>
  (await sqlStateOf(queryAs(server, credentials, ...sql))) ?? 'yes';

describe('the ring', () => {
  it('takes turns in order, passes over busy roles, and says so when all are busy', async () => {
    const rotator = rotatorFor({ roles: 3 });
    expect(rotator.name).toBe('postgres/alternating-users');
    expect(rotator.strategy).toBe('alternating-users');
    expect(rotator.identities?.()).toEqual([`${base}_1`, `${base}_2`, `${base}_3`]);
    const at = (role: string): Version => version({ username: role, password: 'x' });
    const next = async (current: Version | undefined, busy: string[] = []): Promise<string> =>
      (await new HandRotation(rotator, current, busy).create()).value.username;
    expect(await next(undefined)).toBe(`${base}_1`);
    expect(await next(at(`${base}_1`))).toBe(`${base}_2`);
    expect(await next(at(`${base}_1`), [`${base}_2`])).toBe(`${base}_3`);
    expect(await next(at(`${base}_3`))).toBe(`${base}_1`);
    expect(await next(at('outsider'))).toBe(`${base}_1`);
    await expect(next(at(`${base}_1`), [`${base}_2`, `${base}_3`])).rejects.toMatchObject({ code: 'NO_FREE_IDENTITY' });
    expect(rotator.identityOf?.({ username: 'x', password: 'y' })).toBe('x');
  });

  it('draws a new password each time', async () => {
    const rotator = rotatorFor();
    const [one, two] = await Promise.all([
      new HandRotation(rotator, undefined).create(),
      new HandRotation(rotator, undefined).create(),
    ]);
    expect(one.value.password).not.toBe(two.value.password);
    expect(one.value.password).toHaveLength(32);
  });

  it.each([
    ['roles: 1', { roles: 1 }],
    ['roles: 51', { roles: 51 }],
    ['roles: 2.5', { roles: 2.5 }],
    ['an empty base name', { baseName: '' }],
    ['a base name past 63 bytes with its number', { baseName: 'é'.repeat(31) }],
    ['a reserved base name', { baseName: 'pg_app' }],
    ['an owner from the ring', { baseName: 'a', ownerRole: 'a_2' }],
    ['no database', { connection: { host: 'localhost' } }],
    ['a user in the connection', { connection: { database: 'd', user: 'u' } as never }],
    ['a connection string', { connection: { database: 'd', connectionString: 'postgres://u:canary-pw@h/d' } as never }],
    ['a negative lag limit', { replicaLagLimitMs: -1 }],
    ['no admin', { admin: undefined as never }],
  ])('refuses %s with one clear error', (_what, options) => {
    expect(() => rotatorFor(options)).toThrow(
      expect.objectContaining({ code: 'ROTATOR_OPTIONS_INVALID', message: expect.not.stringContaining('canary') }),
    );
  });
});

describe('a whole rotation', () => {
  it('makes the first role on an empty target, able to create, and run as the owner', async () => {
    const prepared: string[] = [];
    const first = await firstVersion(
      rotatorFor({
        prepare: async (client, owner) => {
          prepared.push(owner);
          await client.query(`CREATE SCHEMA IF NOT EXISTS "${base} s" AUTHORIZATION "${owner}"`);
        },
      }),
    );
    expect(prepared).toEqual([`${base}_owner`]);
    const rows = await queryAs(
      server,
      first.value,
      `CREATE TABLE ${base}_t (id serial PRIMARY KEY, v text)`,
      `CREATE TABLE "${base} s".t (id int)`,
      `SELECT current_user::text AS runs_as, session_user::text AS logs_in, tableowner::text FROM pg_tables WHERE tablename = '${base}_t'`,
    );
    expect(rows).toEqual([{ runs_as: `${base}_owner`, logs_in: `${base}_1`, tableowner: `${base}_owner` }]);
    // The owner role itself never logs in.
    expect(await server.query(`SELECT rolcanlogin FROM pg_roles WHERE rolname = '${base}_owner'`)).toEqual([
      { rolcanlogin: false },
    ]);
  });

  it('lets each role use, alter and drop what the other created, and goes round the ring', async () => {
    const rotator = rotatorFor();
    const one = await firstVersion(rotator);
    await queryAs(
      server,
      one.value,
      `CREATE TABLE ${base}_a (id int)`,
      `CREATE FUNCTION ${base}_f() RETURNS int LANGUAGE sql AS 'SELECT 1'`,
    );
    const { next: two, rotation } = await rotated(rotator, one);
    expect(two.value.username).toBe(`${base}_2`);
    await queryAs(
      server,
      two.value,
      `INSERT INTO ${base}_a VALUES (1)`,
      `ALTER TABLE ${base}_a ADD COLUMN v text`,
      `CREATE OR REPLACE FUNCTION ${base}_f() RETURNS int LANGUAGE sql AS 'SELECT 2'`,
      `CREATE TABLE ${base}_b (id int)`,
    );
    // Overlap: until it is retired, the old one works on, also on what the new one made.
    await queryAs(server, one.value, `ALTER TABLE ${base}_b ADD COLUMN w int`, `DROP TABLE ${base}_a`);
    expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });

    const { next: three, rotation: second } = await rotated(rotator, two);
    expect(three.value.username).toBe(`${base}_1`);
    expect(three.value.password).not.toBe(one.value.password);
    await queryAs(server, three.value, `DROP TABLE ${base}_b`, `DROP FUNCTION ${base}_f()`);
    await second.retire();
    expect(await can(two.value, 'SELECT 1')).toMatch(/^28/);
    expect(await can(one.value, 'SELECT 1')).toBe('28P01');
    expect(await can(three.value, 'SELECT 1')).toBe('yes');
  });

  it('comes to the same end when every step is done twice', async () => {
    const rotator = rotatorFor();
    const first = new HandRotation(rotator, undefined);
    await first.create();
    for (const step of ['apply', 'apply', 'verify', 'verify'] as const) await first[step]();
    const second = new HandRotation(rotator, first.pending);
    await second.create();
    for (const step of ['apply', 'verify', 'apply', 'verify'] as const) await second[step]();
    await second.retire();
    expect(await second.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
    // Retiring again must not have touched the one in use.
    expect(await can(second.pending?.value as DatabaseCredentials, 'SELECT 1')).toBe('yes');
  });

  it('makes nothing in the target before the value is stored, and goes on after a crash past apply', async () => {
    const rotator = rotatorFor();
    const crashed = new HandRotation(rotator, undefined);
    await crashed.create();
    expect(await server.query(`SELECT FROM pg_roles WHERE rolname LIKE '${base}%'`)).toHaveLength(0);
    await crashed.apply();
    // Another process, which knows the pending version from the store and nothing else.
    const resumed = new HandRotation(rotatorFor(), undefined);
    resumed.pending = crashed.pending;
    await resumed.apply();
    await resumed.verify();
    expect(await can(resumed.pending?.value as DatabaseCredentials, 'SELECT 1')).toBe('yes');
  });

  it('works with names of every kind', async () => {
    base = `Ring "${serial}" o'b\\ é密`;
    const rotator = rotatorFor({ ownerRole: `Owner'"${serial} %I $1` });
    const one = await firstVersion(rotator);
    await queryAs(server, one.value, `CREATE TABLE "odd ""${serial}""" (id int)`);
    await server.query(`GRANT SELECT ON pg_catalog.pg_authid TO "${one.value.username.replaceAll('"', '""')}"`);
    const { next, rotation } = await rotated(rotator, one);
    expect(await can(next.value, `DROP TABLE "odd ""${serial}"""`)).toBe('yes');
    const old = await connectAs(server, one.value);
    expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 1, sessionsLeft: 0 });
    await old.end();
  });

  it('names its connections, leaves none, and writes no password into any statement', async () => {
    const rotator = rotatorFor({
      probes: [
        async (client) =>
          void expect((await client.query('SHOW application_name')).rows).toEqual([
            { application_name: 'nestjs-secrets' },
          ]),
      ],
    });
    const one = await firstVersion(rotator);
    const { next, rotation } = await rotated(rotator, one);
    await rotation.retire();
    await rotation.undo().catch(() => undefined);
    expect(await server.query(`SELECT pid FROM pg_stat_activity WHERE application_name = 'nestjs-secrets'`)).toEqual(
      [],
    );
    const log = server.log();
    // The statements are there to be searched…
    expect(log).toContain(`ALTER ROLE "${base}_2" LOGIN PASSWORD 'SCRAM-SHA-256$4096:`);
    for (const secret of [one.value.password, next.value.password, server.admin.password])
      expect(log).not.toContain(secret);
  });
});

describe('retire', () => {
  it('ends every session of the old role, also inside a transaction, proves the refusal, and spares the new role', async () => {
    const rotator = rotatorFor();
    const one = await firstVersion(rotator);
    const { next, rotation } = await rotated(rotator, one);
    const old = await Promise.all([
      connectAs(server, one.value),
      connectAs(server, one.value),
      connectAs(server, one.value),
    ]);
    await old[0]?.query('BEGIN');
    const sleeping = old[1]?.query('SELECT pg_sleep(300)').then(
      () => 'finished',
      (error: { code?: string }) => error.code,
    );
    const fresh = await connectAs(server, next.value);
    expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 3, sessionsLeft: 0 });
    expect(await sleeping).toBe('57P01');
    expect((await fresh.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(await server.query(`SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = '${base}_1'`)).toEqual([
      { rolcanlogin: false, rolpassword: null },
    ]);
    await Promise.all([...old, fresh].map((client) => client.end()));
  });

  it('counts a role that was dropped meanwhile as refused', async () => {
    const rotator = rotatorFor();
    const one = await firstVersion(rotator);
    const { rotation } = await rotated(rotator, one);
    await server.query(`DROP ROLE ${base}_1`);
    expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
  });

  it('leaves the role alone when the current version has it', async () => {
    const rotator = rotatorFor();
    const one = await firstVersion(rotator);
    const rotation = new HandRotation(rotator, one);
    rotation.pending = one;
    await expect(rotation.retire(version({ username: `${base}_1`, password: 'older' }))).rejects.toMatchObject({
      code: 'ROLE_UNSUITABLE',
    });
    await expect(rotation.apply()).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
    await expect(rotation.undo()).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
    expect(await can(one.value, 'SELECT 1')).toBe('yes');
  });

  it('stops when it is told to', async () => {
    const rotator = rotatorFor();
    const one = await firstVersion(rotator);
    const { rotation } = await rotated(rotator, one);
    rotation.signal.abort();
    await expect(rotation.retire()).rejects.toMatchObject({ name: 'AbortError' });
    expect(await can(one.value, 'SELECT 1')).toBe('yes');
  });
});

describe('undo', () => {
  it('makes the pending role invalid and leaves the current one as it is', async () => {
    const rotator = rotatorFor();
    const one = await firstVersion(rotator);
    const { next, rotation } = await rotated(rotator, one);
    await rotation.undo();
    await rotation.undo();
    expect(await can(next.value, 'SELECT 1')).toBe('28P01');
    expect(await can(one.value, 'SELECT 1')).toBe('yes');
    // And the ring goes on.
    expect(await can((await rotated(rotator, one)).next.value, 'SELECT 1')).toBe('yes');
  });

  it('is harmless when the role was never made', async () => {
    const rotation = new HandRotation(rotatorFor(), undefined);
    await rotation.create();
    await rotation.undo();
    expect(await server.query(`SELECT FROM pg_roles WHERE rolname LIKE '${base}%'`)).toHaveLength(0);
  });
});

describe('what goes wrong', () => {
  it('tells a refused administrator, an unreachable server and a denied privilege apart, without a value', async () => {
    const password = 'canary-of-the-administrator';
    const refused = new HandRotation(rotatorFor({ admin: { username: 'postgres', password } }), undefined);
    await refused.create();
    const failure: unknown = await refused.apply().catch((error: unknown) => error);
    expect(isSecretsError(failure, 'TARGET_REFUSED')).toBe(true);
    expect(failure).toMatchObject({ sqlState: '28P01', message: expect.not.stringContaining(password) });

    const nobody = { host: '127.0.0.1', port: await freePort(), database: 'postgres' };
    const unreachable = new HandRotation(rotatorFor({ connection: nobody }), undefined);
    await unreachable.create();
    await expect(unreachable.apply()).rejects.toMatchObject({
      code: 'TARGET_UNREACHABLE',
      message: expect.stringContaining('ECONNREFUSED'),
    });

    await server.query(`CREATE ROLE ${base}_weak LOGIN PASSWORD 'weak-password'`);
    const denied = new HandRotation(
      rotatorFor({ admin: { username: `${base}_weak`, password: 'weak-password' } }),
      undefined,
    );
    await denied.create();
    await expect(denied.apply()).rejects.toMatchObject({
      code: 'TARGET_DENIED',
      message: expect.not.stringContaining('SCRAM'),
    });
    expect(await server.query(`SELECT FROM pg_roles WHERE rolname = '${base}_1'`)).toHaveLength(0);
  });

  it('takes the administrator from a secret or a function, and says when that is none', async () => {
    for (const admin of [() => server.admin, async () => server.admin, { value: server.admin } as never]) {
      await firstVersion(rotatorFor({ admin }));
    }
    const rotation = new HandRotation(rotatorFor({ admin: () => ({}) as never }), undefined);
    await rotation.create();
    await expect(rotation.apply()).rejects.toMatchObject({ code: 'ROTATOR_OPTIONS_INVALID' });
  });

  it('fails verify when the role was not made, when a probe throws, and when a standby never learns it', async () => {
    const unmade = new HandRotation(rotatorFor(), undefined);
    await unmade.create();
    await expect(unmade.verify()).rejects.toMatchObject({ code: 'TARGET_REFUSED' });

    const probe = new Error('orders are not readable');
    const probed = new HandRotation(rotatorFor({ probes: [() => Promise.reject(probe)] }), undefined);
    await probed.create();
    await probed.apply();
    await expect(probed.verify()).rejects.toBe(probe);
  });

  it('waits for a standby that lags, and gives up on one that never learns', async () => {
    const standby = await startPostgres();
    try {
      const replicas = [{ host: standby.host, port: standby.port, database: standby.database }];
      const rotation = new HandRotation(rotatorFor({ replicas }), undefined);
      const { value } = await rotation.create();
      await rotation.apply();
      const verified = rotation.verify();
      const refusedOnce = async (): Promise<boolean> =>
        standby.log().includes(`Role "${value.username}" does not exist`);
      const deadline = Date.now() + 20_000;
      while (!(await refusedOnce()) && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
      await standby.query(`CREATE ROLE ${value.username} LOGIN PASSWORD '${value.password}'`);
      await verified;

      const never = new HandRotation(
        rotatorFor({ replicas, replicaLagLimitMs: 0, baseName: `${base}_never` }),
        undefined,
      );
      await never.create();
      await never.apply();
      await expect(never.verify()).rejects.toMatchObject({
        code: 'TARGET_REFUSED',
        message: expect.stringContaining(`${standby.port}`),
      });
    } finally {
      await standby.stop();
    }
  });

  it('does not pass on the powers of a superuser', async () => {
    const rotation = new HandRotation(rotatorFor(), version(server.admin));
    await rotation.create();
    await expect(rotation.apply()).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
  });
});
