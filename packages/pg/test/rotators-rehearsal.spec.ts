import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { DatabaseCredentials, SecretRotator } from '@nestjs-secrets/core';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import {
  postgresAlternatingUsers,
  postgresLease,
  postgresSingleUser,
  type PostgresProbe,
  type PostgresRotator,
} from '../src/rotators/index.js';
import { connectAs, HandRotation, queryAs, sqlStateOf, version, type Version } from './rotators-fixture.js';

let server: PostgresServer;
let serial = 0;

beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server.stop());

const connection = () => ({ host: server.host, port: server.port, database: server.database });

/** Everything in the target that a rotation might touch. */
const everything = async (): Promise<unknown> =>
  server.query(`
    SELECT 'role' AS what, to_jsonb(r)::text AS it FROM pg_authid r
    UNION ALL SELECT 'comment', to_jsonb(d)::text FROM pg_shdescription d
    UNION ALL SELECT 'member', to_jsonb(m)::text FROM pg_auth_members m
    UNION ALL SELECT 'setting', to_jsonb(s)::text FROM pg_db_role_setting s
    UNION ALL SELECT 'default', to_jsonb(a)::text FROM pg_default_acl a
    UNION ALL SELECT 'class', format('%s %s', relname, pg_get_userbyid(relowner)) FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'schema', format('%s %s', nspname, pg_get_userbyid(nspowner)) FROM pg_namespace
    UNION ALL SELECT 'depends', format('%s %s %s', pg_describe_object(classid, objid, objsubid), deptype, pg_get_userbyid(refobjid))
      FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    ORDER BY 1, 2`);

interface Case {
  readonly rotator: PostgresRotator;
  readonly current: Version | undefined;
  /** How often the probe ran. */
  readonly probed: () => number;
  readonly lease?: boolean;
}

type Make = () => Promise<Case>;

/** Looks at what the application has, and leaves something behind. */
function probeOn(table: string | undefined): { probe: PostgresProbe; probed: () => number } {
  let runs = 0;
  const probe: PostgresProbe = async (client) => {
    runs += 1;
    if (table !== undefined) await client.query(`SELECT * FROM ${table}`);
    await client.query(`CREATE TABLE public.left_by_a_probe (id int)`);
    await client.query('GRANT SELECT ON left_by_a_probe TO PUBLIC');
    await client.query('ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC');
  };
  return { probe, probed: () => runs };
}

const alternating =
  (kind: 'first' | 'ring' | 'outsider'): Make =>
  async () => {
    serial += 1;
    const base = `reh${serial}`;
    const outsider = version({ username: `${base}_outsider`, password: 'first' });
    const table = `t${serial}`;
    const { probe, probed } = probeOn(kind === 'first' ? undefined : table);
    const options = { connection: connection(), admin: server.admin, baseName: base };
    const rotator = postgresAlternatingUsers({ ...options, probes: [probe] });
    if (kind === 'first') return { rotator, current: undefined, probed };
    if (kind === 'outsider') {
      await server.query(`CREATE ROLE ${outsider.value.username} LOGIN PASSWORD 'first'`);
      await server.query(`GRANT CREATE ON SCHEMA public TO ${outsider.value.username} WITH GRANT OPTION`);
      await server.query(`ALTER ROLE ${outsider.value.username} SET work_mem = '5MB'`);
      await queryAs(
        server,
        outsider.value,
        `CREATE TABLE ${table} (id int)`,
        'ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC',
      );
      return { rotator, current: outsider, probed };
    }
    const current = await new HandRotation(postgresAlternatingUsers(options), undefined).upToPromotion();
    await queryAs(server, current.value, `CREATE TABLE ${table} (id int)`);
    await server.query(`GRANT pg_monitor TO ${current.value.username}`);
    await server.query(`ALTER ROLE ${current.value.username} SET search_path = public`);
    return { rotator, current, probed };
  };

const single: Make = async () => {
  serial += 1;
  const username = `reh${serial}`;
  const { probe, probed } = probeOn(`t${serial}`);
  await server.query(`CREATE ROLE ${username} LOGIN PASSWORD 'first'`);
  await server.query(`GRANT CREATE ON SCHEMA public TO ${username}`);
  await server.query(`ALTER ROLE ${username} SET search_path = public`);
  const current = version({ username, password: 'first' });
  await queryAs(server, current.value, `CREATE TABLE t${serial} (id int)`);
  const rotator = postgresSingleUser({ connection: connection(), admin: server.admin, probes: [probe] });
  return { rotator, current, probed };
};

const lease: Make = async () => {
  serial += 1;
  const { probe, probed } = probeOn(undefined);
  await server.query(`CREATE ROLE reh${serial}_template`);
  await server.query(`GRANT CREATE ON SCHEMA public TO reh${serial}_template`);
  // What a session of a lease creates belongs to the template, and so does what a probe creates.
  const tidy: PostgresProbe = async (client, on) => {
    await client.query('BEGIN');
    await probe(client, on);
    await client.query('ROLLBACK');
  };
  const rotator = postgresLease({
    connection: connection(),
    admin: server.admin,
    baseName: `reh${serial}`,
    templateRole: `reh${serial}_template`,
    probes: [tidy],
  });
  return { rotator, current: undefined, probed, lease: true };
};

function rehearsalOf({ rotator }: Pick<Case, 'rotator'>): SecretRotator<DatabaseCredentials> {
  const rehearsal = rotator.rehearsal?.();
  if (rehearsal === undefined) throw new Error('it rehearses nothing');
  return rehearsal;
}

const cases: [string, Make][] = [
  ['alternating users, before the first version', alternating('first')],
  ['alternating users', alternating('ring')],
  ['alternating users that take over a role', alternating('outsider')],
  ['a single user', single],
  ['leases', lease],
];

describe('a rehearsal', () => {
  it.each(cases)('goes through every step, probes included, and leaves nothing: %s', async (_what, make) => {
    const made = await make();
    const before = await everything();
    const rehearsal = new HandRotation(rehearsalOf(made), made.current);
    const { value } = await rehearsal.upToPromotion();
    expect(value.username).toMatch(/_rehearsal$/);
    expect(made.probed()).toBe(1);
    expect(await sqlStateOf(queryAs(server, value, 'SELECT 1'))).toBeUndefined();
    if (made.current !== undefined)
      expect(await sqlStateOf(queryAs(server, made.current.value, 'SELECT 1'))).toBeUndefined();
    const session = await connectAs(server, value);
    await rehearsal.undo();
    expect(await everything()).toEqual(before);
    await session.end();
    expect(await sqlStateOf(queryAs(server, value, 'SELECT 1'))).toBe('28P01');
    // And the real thing goes through afterwards.
    if (made.lease) return;
    const real = new HandRotation(made.rotator, made.current);
    await real.upToPromotion();
    if (made.current !== undefined) expect(await real.retire()).toMatchObject({ refused: true, sessionsLeft: 0 });
    await server.query('DROP TABLE left_by_a_probe');
  });

  it.each(cases)('is cleaned up after a crash at any statement, and again: %s', async (_what, make) => {
    const made = await make();
    const before = await everything();
    const crash = new Error('crashed');
    let crashes = 0;
    for (let crashAt = 1; crashAt <= 40; crashAt += 1) {
      const rehearsal = new HandRotation(rehearsalOf(made), made.current);
      await rehearsal.create();
      let changes = 0;
      rehearsal.onAssert = () => {
        changes += 1;
        if (changes === crashAt) throw crash;
      };
      let crashed = false;
      for (const step of ['apply', 'verify', 'undo'] as const) {
        if (crashed) continue;
        await rehearsal[step]().catch((error: unknown) => {
          expect(error).toBe(crash);
          crashed = true;
        });
      }
      crashes += crashed ? 1 : 0;
      // Another process, which knows the pending value and nothing else.
      const resumed = new HandRotation(rehearsalOf(made), made.current);
      resumed.pending = rehearsal.pending;
      await resumed.undo();
      await resumed.undo();
      expect(await everything()).toEqual(before);
      if (!crashed) break;
    }
    expect(crashes).toBeGreaterThanOrEqual(3);
  });

  it('finds out that tonight the administrator may not do what it must', async () => {
    serial += 1;
    const dba = { username: `dba_reh${serial}`, password: 'dba-password' };
    await server.query(`CREATE ROLE ${dba.username} LOGIN CREATEROLE PASSWORD '${dba.password}'`);
    const base = `reh${serial}`;
    const options = { connection: connection(), baseName: base };
    const current = await new HandRotation(
      postgresAlternatingUsers({ ...options, admin: server.admin }),
      undefined,
    ).upToPromotion();
    // It may make roles of its own, so only the real role's turn shows that it may not alter those.
    const rotator = postgresAlternatingUsers({ ...options, admin: dba });
    const before = await everything();
    const rehearsal = new HandRotation(rehearsalOf({ rotator }), current);
    await rehearsal.create();
    await expect(rehearsal.apply()).rejects.toMatchObject({ code: 'TARGET_DENIED' });
    await rehearsal.undo();
    expect(await everything()).toEqual(before);
  });

  it.each([
    ['alternating users', postgresAlternatingUsers],
    ['a single user', postgresSingleUser],
  ])('needs no superuser: %s', async (_what, create) => {
    serial += 1;
    const dba = { username: `dba_reh${serial}`, password: 'dba-password' };
    await server.query(`CREATE ROLE ${dba.username} LOGIN CREATEROLE PASSWORD '${dba.password}'`);
    await server.query(`GRANT ALL ON DATABASE ${server.database} TO ${dba.username} WITH GRANT OPTION`);
    await server.query(`GRANT ALL ON SCHEMA public TO ${dba.username} WITH GRANT OPTION`);
    const names = { baseName: `reh${serial}`, username: `reh${serial}` };
    const options = { connection: connection(), admin: dba, ...names };
    const current = await new HandRotation(create(options), undefined).upToPromotion();
    const before = await everything();
    const rehearsal = new HandRotation(rehearsalOf({ rotator: create(options) }), current);
    const { value } = await rehearsal.upToPromotion();
    const session = await connectAs(server, value);
    await rehearsal.undo();
    expect(await everything()).toEqual(before);
    await session.end();
  });

  it('finds out that a probe fails', async () => {
    const { current } = await alternating('ring')();
    const failing = new Error('orders are not readable');
    const probed = postgresAlternatingUsers({
      connection: connection(),
      admin: server.admin,
      baseName: `reh${serial}`,
      probes: [() => Promise.reject(failing)],
    });
    const rehearsal = new HandRotation(rehearsalOf({ rotator: probed }), current);
    await rehearsal.create();
    await rehearsal.apply();
    await expect(rehearsal.verify()).rejects.toBe(failing);
    await rehearsal.undo();
  });

  it('tries what `prepare` does as well, and takes it back', async () => {
    serial += 1;
    const prepared: string[] = [];
    const base = `reh${serial}`;
    const rotator = postgresAlternatingUsers({
      connection: connection(),
      admin: server.admin,
      baseName: base,
      prepare: async (client, owner) => {
        prepared.push(owner);
        await client.query(`CREATE SCHEMA ${base} AUTHORIZATION ${owner}`);
      },
      probes: [async (client) => void (await client.query(`CREATE TABLE ${base}.t (id int)`))],
    });
    const before = await everything();
    const rehearsal = new HandRotation(rehearsalOf({ rotator }), undefined);
    await rehearsal.upToPromotion();
    await rehearsal.undo();
    expect(prepared).toEqual([`${base}_owner`]);
    expect(await everything()).toEqual(before);
  });

  it('leaves a role alone that happens to bear the name', async () => {
    const made = await alternating('ring')();
    const name = `reh${serial}_rehearsal`;
    await server.query(`CREATE ROLE ${name} LOGIN PASSWORD 'kept'`);
    const rehearsal = new HandRotation(rehearsalOf(made), made.current);
    await rehearsal.create();
    const before = await everything();
    await expect(rehearsal.apply()).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
    await expect(rehearsal.undo()).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
    expect(await everything()).toEqual(before);
  });

  it('fits its names into 63 bytes, and keeps different bases apart', async () => {
    const usernameFor = async (baseName: string): Promise<string> => {
      const rotator = postgresAlternatingUsers({
        connection: connection(),
        admin: server.admin,
        baseName,
        ownerRole: 'o',
      });
      return (await new HandRotation(rehearsalOf({ rotator }), undefined).create()).value.username;
    };
    const [one, two] = [await usernameFor(`${'é'.repeat(29)}a`), await usernameFor(`${'é'.repeat(29)}b`)];
    expect([Buffer.byteLength(one) <= 63, Buffer.byteLength(two) <= 63, one === two]).toEqual([true, true, false]);
    expect(await usernameFor('app')).toBe('app_rehearsal');
  });

  it('of a single user needs an administrator', () => {
    const rotator = postgresSingleUser({ connection: connection() });
    expect(() => rehearsalOf({ rotator })).toThrow(expect.objectContaining({ code: 'ROTATOR_OPTIONS_INVALID' }));
  });
});
