import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { DatabaseCredentials } from '@nestjs-secrets/core';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import {
  postgresAlternatingUsers,
  type PostgresRotator,
  type PostgresAlternatingUsersOptions,
} from '../src/rotators/index.js';
import { connectAs, HandRotation, queryAs, sqlStateOf, version, type Version } from './rotators-fixture.js';

let server: PostgresServer;
let serial = 0;
let base: string;

beforeAll(async () => {
  server = await startPostgres();
  await server.query('CREATE DATABASE elsewhere');
});
afterAll(() => server.stop());
beforeEach(() => {
  serial += 1;
  base = `g${serial}`;
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

async function admin(...statements: string[]): Promise<void> {
  for (const statement of statements) await server.query(statement);
}

async function rotate(rotator: PostgresRotator, current?: Version): Promise<Version> {
  const rotation = new HandRotation(rotator, current);
  const next = await rotation.upToPromotion();
  if (current !== undefined) await rotation.retire();
  return next;
}

const can = async (credentials: DatabaseCredentials, ...sql: string[]): Promise<string> =>
  (await sqlStateOf(queryAs(server, credentials, ...sql))) ?? 'yes';

/** One of each kind of thing a role can be granted, and the question whether a role has it. */
const GRANTS: readonly [
  what: string,
  make: (b: string) => string[],
  grant: (b: string, role: string) => string,
  has: (b: string, role: string) => string,
][] = [
  [
    'a table',
    (b) => [`CREATE TABLE ${b}_o (id int)`],
    (b, r) => `GRANT SELECT, INSERT ON ${b}_o TO ${r}`,
    (b, r) =>
      `has_table_privilege('${r}', '${b}_o', 'SELECT') AND has_table_privilege('${r}', '${b}_o', 'INSERT') AND NOT has_table_privilege('${r}', '${b}_o', 'DELETE')`,
  ],
  [
    'a table with grant option',
    (b) => [`CREATE TABLE ${b}_o (id int)`],
    (b, r) => `GRANT UPDATE ON ${b}_o TO ${r} WITH GRANT OPTION`,
    (b, r) => `has_table_privilege('${r}', '${b}_o', 'UPDATE WITH GRANT OPTION')`,
  ],
  [
    'a view with an odd name',
    (b) => [`CREATE VIEW "${b} ""o" AS SELECT 1 AS one`],
    (b, r) => `GRANT SELECT ON "${b} ""o" TO ${r}`,
    (b, r) => `has_table_privilege('${r}', '"${b} ""o"', 'SELECT')`,
  ],
  [
    'a column',
    (b) => [`CREATE TABLE ${b}_o (id int, "Odd col" text, hidden text)`],
    (b, r) => `GRANT SELECT (id, "Odd col") ON ${b}_o TO ${r}`,
    (b, r) =>
      `has_column_privilege('${r}', '${b}_o', 'Odd col', 'SELECT') AND NOT has_column_privilege('${r}', '${b}_o', 'hidden', 'SELECT')`,
  ],
  [
    'a sequence',
    (b) => [`CREATE SEQUENCE ${b}_o`],
    (b, r) => `GRANT USAGE ON SEQUENCE ${b}_o TO ${r}`,
    (b, r) => `has_sequence_privilege('${r}', '${b}_o', 'USAGE')`,
  ],
  [
    'a schema',
    (b) => [`CREATE SCHEMA "${b} Odd"`],
    (b, r) => `GRANT USAGE ON SCHEMA "${b} Odd" TO ${r}`,
    (b, r) => `has_schema_privilege('${r}', '${b} Odd', 'USAGE')`,
  ],
  [
    'a function',
    (b) => [
      `CREATE FUNCTION ${b}_o(a int, b text[]) RETURNS int LANGUAGE sql AS 'SELECT 1'`,
      `REVOKE ALL ON FUNCTION ${b}_o FROM PUBLIC`,
    ],
    (b, r) => `GRANT EXECUTE ON FUNCTION ${b}_o TO ${r}`,
    (b, r) => `has_function_privilege('${r}', '${b}_o(int, text[])', 'EXECUTE')`,
  ],
  [
    'a procedure',
    (b) => [`CREATE PROCEDURE ${b}_o(a int) LANGUAGE sql AS 'SELECT 1'`, `REVOKE ALL ON PROCEDURE ${b}_o FROM PUBLIC`],
    (b, r) => `GRANT EXECUTE ON PROCEDURE ${b}_o TO ${r}`,
    (b, r) => `has_function_privilege('${r}', '${b}_o(int)', 'EXECUTE')`,
  ],
  [
    'an aggregate',
    (b) => [
      `CREATE AGGREGATE ${b}_o(int) (sfunc = int4pl, stype = int, initcond = '0')`,
      `REVOKE ALL ON ROUTINE ${b}_o(int) FROM PUBLIC`,
    ],
    (b, r) => `GRANT EXECUTE ON ROUTINE ${b}_o(int) TO ${r}`,
    (b, r) => `has_function_privilege('${r}', '${b}_o(int)', 'EXECUTE')`,
  ],
  [
    'an enum',
    (b) => [`CREATE TYPE ${b}_o AS ENUM ('a')`, `REVOKE ALL ON TYPE ${b}_o FROM PUBLIC`],
    (b, r) => `GRANT USAGE ON TYPE ${b}_o TO ${r}`,
    (b, r) => `has_type_privilege('${r}', '${b}_o', 'USAGE')`,
  ],
  [
    'a domain',
    (b) => [`CREATE DOMAIN ${b}_o AS int`, `REVOKE ALL ON DOMAIN ${b}_o FROM PUBLIC`],
    (b, r) => `GRANT USAGE ON DOMAIN ${b}_o TO ${r}`,
    (b, r) => `has_type_privilege('${r}', '${b}_o', 'USAGE')`,
  ],
  [
    'a language',
    () => [],
    (_b, r) => `GRANT USAGE ON LANGUAGE plpgsql TO ${r}`,
    (_b, r) =>
      `EXISTS (SELECT FROM pg_language, aclexplode(lanacl) WHERE lanname = 'plpgsql' AND grantee = '${r}'::regrole)`,
  ],
  [
    'another database',
    () => [],
    (_b, r) => `GRANT CREATE ON DATABASE elsewhere TO ${r}`,
    (_b, r) => `has_database_privilege('${r}', 'elsewhere', 'CREATE')`,
  ],
  [
    'a tablespace',
    () => [],
    (_b, r) => `GRANT CREATE ON TABLESPACE pg_default TO ${r}`,
    (_b, r) => `has_tablespace_privilege('${r}', 'pg_default', 'CREATE')`,
  ],
  [
    'a large object',
    (b) => [`SELECT lo_create(${b.slice(1)}0000)`],
    (b, r) => `GRANT SELECT ON LARGE OBJECT ${b.slice(1)}0000 TO ${r}`,
    (b, r) => `has_largeobject_privilege('${r}', ${b.slice(1)}0000, 'SELECT')`,
  ],
  [
    'a foreign data wrapper',
    (b) => [`CREATE FOREIGN DATA WRAPPER ${b}_o`],
    (b, r) => `GRANT USAGE ON FOREIGN DATA WRAPPER ${b}_o TO ${r}`,
    (b, r) => `has_foreign_data_wrapper_privilege('${r}', '${b}_o', 'USAGE')`,
  ],
  [
    'a foreign server',
    (b) => [`CREATE FOREIGN DATA WRAPPER ${b}_w`, `CREATE SERVER "${b} o" FOREIGN DATA WRAPPER ${b}_w`],
    (b, r) => `GRANT USAGE ON FOREIGN SERVER "${b} o" TO ${r}`,
    (b, r) => `has_server_privilege('${r}', '${b} o', 'USAGE')`,
  ],
  [
    'a parameter',
    () => [],
    (_b, r) => `GRANT SET ON PARAMETER log_min_messages TO ${r}`,
    (_b, r) => `has_parameter_privilege('${r}', 'log_min_messages', 'SET')`,
  ],
  [
    'default privileges',
    (b) => [`CREATE ROLE ${b}_giver`, `CREATE SCHEMA "${b} S"`],
    (b, r) => `ALTER DEFAULT PRIVILEGES FOR ROLE ${b}_giver IN SCHEMA "${b} S" GRANT SELECT ON TABLES TO ${r}`,
    (_b, r) => `EXISTS (SELECT FROM pg_default_acl, aclexplode(defaclacl) WHERE grantee = '${r}'::regrole)`,
  ],
  [
    'default privileges of its own',
    (b) => [`CREATE ROLE ${b}_reader`],
    (b, r) => `ALTER DEFAULT PRIVILEGES FOR ROLE ${r} GRANT SELECT ON TABLES TO ${b}_reader`,
    (b, r) =>
      `EXISTS (SELECT FROM pg_default_acl, aclexplode(defaclacl) WHERE defaclrole = '${r}'::regrole AND grantee = '${b}_reader'::regrole)`,
  ],
  [
    'default privileges that take from PUBLIC',
    () => [],
    (_b, r) => `ALTER DEFAULT PRIVILEGES FOR ROLE ${r} REVOKE EXECUTE ON ROUTINES FROM PUBLIC`,
    (_b, r) => `EXISTS (SELECT FROM pg_default_acl WHERE defaclrole = '${r}'::regrole AND defaclobjtype = 'f')`,
  ],
  [
    'a membership',
    (b) => [`CREATE ROLE "${b} Group"`],
    (b, r) => `GRANT "${b} Group" TO ${r} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE`,
    (b, r) =>
      `(SELECT admin_option AND NOT inherit_option AND NOT set_option FROM pg_auth_members WHERE roleid = '"${b} Group"'::regrole AND member = '${r}'::regrole)`,
  ],
  [
    'attributes',
    () => [],
    (_b, r) => `ALTER ROLE ${r} CREATEDB CREATEROLE REPLICATION BYPASSRLS NOINHERIT CONNECTION LIMIT 7`,
    (_b, r) =>
      `(SELECT rolcreatedb AND rolcreaterole AND rolreplication AND rolbypassrls AND NOT rolinherit AND rolconnlimit = 7 FROM pg_roles WHERE rolname = '${r}')`,
  ],
  [
    'a setting',
    () => [],
    (_b, r) => `ALTER ROLE ${r} SET statement_timeout = '7s'`,
    (_b, r) =>
      `(SELECT 'statement_timeout=7s' = ANY (setconfig) FROM pg_db_role_setting WHERE setrole = '${r}'::regrole AND setdatabase = 0)`,
  ],
  [
    'a setting in one database',
    () => [],
    (_b, r) => `ALTER ROLE ${r} IN DATABASE elsewhere SET "my.app" = 'it''s = \\ odd'`,
    (_b, r) =>
      `EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE setrole = '${r}'::regrole AND d.datname = 'elsewhere' AND E'my.app=it''s = \\\\ odd' = ANY (setconfig))`,
  ],
  [
    'a search path',
    () => [],
    (_b, r) => `ALTER ROLE ${r} SET search_path = "$user", "Odd "" Name", 'a, b', public`,
    (_b, r) =>
      `EXISTS (SELECT FROM pg_db_role_setting WHERE setrole = '${r}'::regrole AND 'search_path="$user", "Odd "" Name", "a, b", public' = ANY (setconfig))`,
  ],
];

describe('what the current role was given since the last rotation', () => {
  it.each(GRANTS)('goes over to the next role, and from it again when revoked: %s', async (_what, make, grant, has) => {
    const rotator = rotatorFor();
    const one = await rotate(rotator);
    await admin(...make(base), grant(base, `${base}_1`));
    const holds = async (role: string): Promise<unknown> =>
      (await server.query(`SELECT ${has(base, role)} AS holds`))[0]?.['holds'];
    expect(await holds(`${base}_1`)).toBe(true);
    const two = await rotate(rotator, one);
    expect(await holds(`${base}_2`)).toBe(true);

    // Now the first role has it and the second has lost it: the next rotation must take it away from the first.
    const { replace } = await loses(base, `${base}_2`);
    await admin(...replace);
    expect(await holds(`${base}_2`)).not.toBe(true);
    await rotate(rotator, two);
    expect(await holds(`${base}_1`)).not.toBe(true);
  });
});

/** A role without anything but what the ring gives it. */
async function loses(name: string, role: string): Promise<{ replace: string[] }> {
  const [stored] = await server.query<{ rolpassword: string }>(
    `SELECT rolpassword FROM pg_authid WHERE rolname = '${role}'`,
  );
  return {
    replace: [
      `DROP OWNED BY ${role}`,
      `DROP ROLE ${role}`,
      `CREATE ROLE ${role} LOGIN PASSWORD '${stored?.rolpassword ?? ''}'`,
      `GRANT ${name}_owner TO ${role}`,
      `ALTER ROLE ${role} SET role = ${name}_owner`,
    ],
  };
}

describe('verify', () => {
  it('lists what the new role lacks, what it has beyond the current one, and who it runs as', async () => {
    const rotator = rotatorFor();
    const one = await rotate(rotator);
    const rotation = new HandRotation(rotator, one);
    await rotation.create();
    await rotation.apply();
    await admin(
      `CREATE TABLE ${base}_t (id int)`,
      `GRANT SELECT ON ${base}_t TO ${base}_1`,
      `GRANT DELETE ON ${base}_t TO ${base}_2`,
      `ALTER ROLE ${base}_1 SET "my.key" = 'canary-setting'`,
      `ALTER ROLE ${base}_2 RESET role`,
      `ALTER TABLE ${base}_t OWNER TO ${base}_1`,
    );
    const failure = await rotation.verify().then(
      () => undefined,
      (error: { code: string; differences: string[]; message: string }) => error,
    );
    expect(failure?.code).toBe('ROLE_MISMATCH');
    expect(failure?.message).not.toContain('canary-setting');
    expect(failure?.differences).toEqual(
      expect.arrayContaining([
        `its sessions run as ${base}_2 instead of ${base}_owner`,
        'it lacks setting role',
        'it lacks setting my.key',
        `beyond ${base}_1 it has DELETE ON TABLE public.${base}_t`,
        `${base}_1 itself owns 1 object(s) that should belong to ${base}_owner, such as table public.${base}_t`,
      ]),
    );
    // Done again, apply puts all of it right.
    await rotation.apply();
    await rotation.verify();
    expect(await can(rotation.pending?.value as DatabaseCredentials, `DROP TABLE ${base}_t`)).toBe('yes');
  });

  it('reports what the role has in databases the rotator was not told of', async () => {
    const rotator = rotatorFor();
    const one = await rotate(rotator);
    await queryAs(
      { ...server, database: 'elsewhere' },
      server.admin,
      `CREATE TABLE ${base}_t ()`,
      `GRANT SELECT ON ${base}_t TO ${base}_1`,
    );
    await expect(rotate(rotator, one)).rejects.toMatchObject({
      code: 'ROLE_MISMATCH',
      message: expect.stringContaining('elsewhere'),
    });
  });
});

describe('a current role from outside the ring', () => {
  it('is taken over with its objects, grants and memberships, and keeps working until it is retired', async () => {
    const legacy = { username: `${base}_legacy`, password: 'legacy-password' };
    await admin(
      `CREATE ROLE ${legacy.username} LOGIN PASSWORD '${legacy.password}' CREATEDB`,
      `GRANT CREATE ON SCHEMA public TO ${legacy.username}`,
      `CREATE TABLE ${base}_theirs (id int)`,
      `GRANT SELECT ON ${base}_theirs TO ${legacy.username}`,
      `GRANT pg_monitor TO ${legacy.username}`,
      `ALTER ROLE ${legacy.username} SET work_mem = '5MB'`,
    );
    await queryAs(server, legacy, `CREATE TABLE ${base}_mine (id serial)`);
    // Temporary tables of a session at work must be in nobody's way.
    const session = await connectAs(server, legacy);
    await session.query('CREATE TEMP TABLE scratch (id int)');

    const rotator = rotatorFor();
    const rotation = new HandRotation(rotator, version(legacy));
    const next = await rotation.upToPromotion();
    expect(next.value.username).toBe(`${base}_1`);
    expect(
      await queryAs(
        server,
        next.value,
        `SELECT * FROM ${base}_theirs`,
        `INSERT INTO ${base}_mine DEFAULT VALUES`,
        `ALTER TABLE ${base}_mine ADD COLUMN v int`,
        'CREATE TABLE IF NOT EXISTS public.created_by_the_new_one (id int)',
        'DROP TABLE public.created_by_the_new_one',
        `SELECT pg_has_role('pg_monitor', 'USAGE') AS monitor, (SELECT rolcreatedb FROM pg_roles WHERE rolname = current_user) AS createdb, current_setting('work_mem') AS work_mem`,
      ),
    ).toEqual([{ monitor: true, createdb: true, work_mem: '5MB' }]);

    // The old one still works, also on what is no longer its own, and may yet create something.
    await session.query(`INSERT INTO scratch VALUES (1)`);
    await session.query(`ALTER TABLE ${base}_mine ADD COLUMN w int`);
    await session.query(`CREATE TABLE ${base}_late (id int)`);
    expect(await rotation.retire()).toMatchObject({ refused: true, sessionsEnded: 1 });
    await session.end();
    await rotation.retire();
    expect(await can(next.value, `DROP TABLE ${base}_mine`, `DROP TABLE ${base}_late`)).toBe('yes');

    // From here on the ring goes round as usual, with everything.
    const second = await rotate(rotator, next);
    expect(await can(second.value, `SELECT * FROM ${base}_theirs`)).toBe('yes');
  });

  it('is not taken over when row policies name it, which the report says', async () => {
    await admin(
      `CREATE ROLE ${base}_legacy LOGIN PASSWORD 'legacy-password'`,
      `CREATE TABLE ${base}_t (id int)`,
      `CREATE POLICY ${base}_p ON ${base}_t TO ${base}_legacy USING (true)`,
    );
    const legacy = version({ username: `${base}_legacy`, password: 'legacy-password' });
    await expect(rotate(rotatorFor(), legacy)).rejects.toMatchObject({
      code: 'ROLE_MISMATCH',
      message: expect.stringContaining(`${base}_p`),
    });
    await admin(`ALTER POLICY ${base}_p ON ${base}_t TO ${base}_legacy, ${base}_owner`);
    await rotate(rotatorFor(), legacy);
  });

  it('must run as the same owner role, if it runs as one', async () => {
    await admin(
      `CREATE ROLE ${base}_other`,
      `CREATE ROLE ${base}_legacy LOGIN PASSWORD 'legacy-password'`,
      `ALTER ROLE ${base}_legacy SET role = ${base}_other`,
    );
    const legacy = version({ username: `${base}_legacy`, password: 'legacy-password' });
    await expect(rotate(rotatorFor(), legacy)).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
  });
});

describe('an administrator who is no superuser', () => {
  it('rotates round the ring with CREATEROLE, and ends sessions of the old role', async () => {
    const dba = { username: `${base}_dba`, password: 'dba-password' };
    await admin(
      `CREATE ROLE ${dba.username} LOGIN CREATEROLE PASSWORD '${dba.password}'`,
      `CREATE DATABASE ${base}_db OWNER ${dba.username}`,
    );
    const there = { ...server, database: `${base}_db` };
    const rotator = rotatorFor({
      admin: dba,
      connection: { host: server.host, port: server.port, database: `${base}_db` },
    });
    const one = await rotate(rotator);
    await queryAs(there, one.value, 'CREATE TABLE t (id int)');
    await queryAs(there, dba, `GRANT USAGE ON SCHEMA public TO ${base}_1`, `ALTER ROLE ${base}_1 SET work_mem = '6MB'`);
    const old = await connectAs(there, one.value);
    await old.query('BEGIN');
    // Something of its own, in spite of the owner role.
    const stray = await connectAs(there, one.value);
    await stray.query('SET ROLE NONE');
    await stray.query('CREATE TABLE stray (id int)');
    const rotation = new HandRotation(rotator, one);
    const next = await rotation.upToPromotion();
    expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 2, sessionsLeft: 0 });
    await Promise.all([old.end(), stray.end()]);
    expect(
      await queryAs(
        there,
        next.value,
        'DROP TABLE t',
        'DROP TABLE stray',
        `SELECT current_setting('work_mem') AS work_mem`,
      ),
    ).toEqual([{ work_mem: '6MB' }]);
    await rotate(rotator, next);
  });
});
