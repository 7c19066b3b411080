import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { systemClock, type DatabaseCredentials } from '@nestjs-secrets/core';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { postgresLease, type PostgresLeaseOptions, type PostgresLeaseRotator } from '../src/rotators/index.js';
import { eventually } from './live-pool-fixture.js';
import { connectAs, HandRotation, queryAs, sqlStateOf, type Version } from './rotators-fixture.js';

let server: PostgresServer;
let serial = 0;
/** Each test has a template and a base name of its own on the one server. */
let base: string;
let template: string;

beforeAll(async () => {
  server = await startPostgres({ settings: { log_statement: 'all' } });
  await server.query('CREATE DATABASE elsewhere');
});
afterAll(() => server.stop());
beforeEach(async () => {
  serial += 1;
  base = `lease${serial}`;
  template = `Template "${serial}"`;
  await server.query(`CREATE ROLE ${quoted(template)} NOLOGIN`);
  await server.query(`GRANT CREATE, USAGE ON SCHEMA public TO ${quoted(template)}`);
});

const quoted = (role: string): string => `"${role.replaceAll('"', '""')}"`;

function rotatorFor(options: Partial<PostgresLeaseOptions> = {}): PostgresLeaseRotator {
  const { host, port, database } = server;
  const connection = { host, port, database };
  return postgresLease({ connection, admin: server.admin, templateRole: template, baseName: base, ...options });
}

const MINUTE = 60_000;

function rotationFor(
  instanceId = 'a1b2c3-instance',
  rotator = rotatorFor(),
  validUntil = Date.now() + 10 * MINUTE,
): HandRotation {
  const rotation = new HandRotation(rotator, undefined);
  rotation.lease = { instanceId, validUntil };
  return rotation;
}

const can = async (credentials: DatabaseCredentials, ...sql: string[]): Promise<string> =>
  (await sqlStateOf(queryAs(server, credentials, ...(sql.length === 0 ? ['SELECT 1'] : sql)))) ?? 'yes';

const rolesLeft = async (): Promise<unknown[]> =>
  (await server.query(`SELECT rolname FROM pg_roles WHERE rolname LIKE '${base}%' ORDER BY 1`)).map(
    ({ rolname }) => rolname,
  );

const validUntil = async (role: string): Promise<number> =>
  Number(
    (
      await server.query(`SELECT extract(epoch FROM rolvaliduntil) * 1000 AS until FROM pg_roles WHERE rolname = $1`, [
        role,
      ])
    )[0]?.['until'],
  );

/** Retires what a rotation made, as when its instance has left. */
const retire = (rotation: HandRotation, which: Version | undefined = rotation.pending) => rotation.retire(which);

describe('a lease', () => {
  it('is a role of its own for each instance and each version, which works as the template role does', async () => {
    await server.query(`ALTER ROLE ${quoted(template)} SET search_path = public, pg_catalog`);
    await server.query(`ALTER ROLE ${quoted(template)} SET work_mem = '5MB'`);
    const rotator = rotatorFor();
    expect([rotator.name, rotator.strategy, rotator.identities]).toEqual(['postgres/lease', 'lease', undefined]);
    const one = rotationFor('one', rotator);
    const two = rotationFor('two', rotator);
    const again = rotationFor('one', rotator);
    const [first, second, third] = [await one.upToPromotion(), await two.upToPromotion(), await again.upToPromotion()];
    expect(first.value.username).toMatch(new RegExp(`^${base}_[0-9a-f]{8}_[0-9a-f]{10}$`));
    expect(new Set([first, second, third].map(({ value }) => value.username)).size).toBe(3);
    expect(first.value.username.slice(0, -10)).toBe(third.value.username.slice(0, -10));

    const rows = await queryAs(
      server,
      first.value,
      `CREATE TABLE ${base}_t (id int)`,
      `SELECT current_user::text AS runs_as, session_user::text AS logs_in, current_setting('search_path') AS path,
        current_setting('work_mem') AS memory, (SELECT tableowner FROM pg_tables WHERE tablename = '${base}_t') AS owner`,
    );
    expect(rows).toEqual([
      { runs_as: template, logs_in: first.value.username, path: 'public, pg_catalog', memory: '5MB', owner: template },
    ]);
    // What one made the other may change, also once the first is gone.
    await retire(one);
    expect(await can(second.value, `ALTER TABLE ${base}_t ADD v text`, `DROP TABLE ${base}_t`)).toBe('yes');
    await retire(two);
    await retire(again);
    expect(await rolesLeft()).toEqual([]);
  });

  it('sends a verifier and never the password, and leaves no connection', async () => {
    const rotation = rotationFor();
    const { value } = await rotation.upToPromotion();
    await rotation.renew(Date.now() + 20 * MINUTE);
    await retire(rotation);
    expect(server.log()).toContain(`ALTER ROLE "${value.username}" LOGIN PASSWORD 'SCRAM-SHA-256$4096:`);
    expect(server.log()).not.toContain(value.password);
    expect(await server.query(`SELECT FROM pg_stat_activity WHERE application_name = 'nestjs-secrets'`)).toEqual([]);
  });

  it('ends by itself: past its time the server refuses it', async () => {
    const rotation = rotationFor('brief', rotatorFor(), Date.now() + 1_000);
    const { value } = await rotation.create();
    await rotation.apply();
    await eventually('the role is past its time', async () => (await can(value)) === '28P01');
    expect(await retire(rotation)).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
    expect(await rolesLeft()).toEqual([]);
  });

  it('is retired with the sessions that outlived its time, since PostgreSQL leaves them open', async () => {
    const rotation = rotationFor();
    const { value } = await rotation.upToPromotion();
    const session = await connectAs(server, value);
    await server.query(`ALTER ROLE ${value.username} VALID UNTIL 'yesterday'`);
    expect(await can(value)).toBe('28P01');
    expect((await session.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(await retire(rotation)).toEqual({ refused: true, sessionsEnded: 1, sessionsLeft: 0 });
    await expect(session.query('SELECT 1')).rejects.toThrow();
    expect(await rolesLeft()).toEqual([]);
    await session.end();
  });

  it('is renewed before and after its end, forward only, and as often as one likes', async () => {
    const rotation = rotationFor('renewed', rotatorFor(), Date.now() + 1_000);
    const { value } = await rotation.create();
    await rotation.apply();
    await eventually('the role is past its time', async () => (await can(value)) === '28P01');
    const later = Date.now() + 10 * MINUTE;
    await rotation.renew(later);
    await rotation.renew(later);
    expect(await can(value)).toBe('yes');
    const renewed = await validUntil(value.username);
    await rotation.renew(Date.now() + 1_000);
    // Nor does an apply that is repeated after a crash set it back.
    await rotation.apply();
    expect(await validUntil(value.username)).toBeGreaterThanOrEqual(renewed);
    await rotation.renew(later + MINUTE);
    expect(await validUntil(value.username)).toBeGreaterThan(renewed + MINUTE / 2);
    await retire(rotation);
  });

  it.each([
    ['an hour ahead', 60 * MINUTE],
    ['an hour behind', -60 * MINUTE],
    ['equal', 0],
  ])('goes by the clock of the server, where that of the application is %s', async (_what, ahead) => {
    const clock = { ...systemClock, now: () => Date.now() + ahead };
    const rotation = rotationFor('skewed', rotatorFor(), clock.now() + 5 * MINUTE);
    rotation.clock = clock;
    const asked = Date.now() + 5 * MINUTE;
    const { value } = await rotation.upToPromotion();
    const until = await validUntil(value.username);
    expect(until).toBeLessThanOrEqual(asked + 1);
    // Early by as much as it took the server to answer.
    expect(until).toBeGreaterThan(asked - MINUTE);
    expect(await can(value)).toBe('yes');
    await rotation.renew(clock.now() + 30 * MINUTE);
    expect(await validUntil(value.username)).toBeGreaterThan(asked + 20 * MINUTE);
    expect(await validUntil(value.username)).toBeLessThanOrEqual(Date.now() + 30 * MINUTE + 1);
    await retire(rotation);
  });

  it('is not renewed once it was retired, and never brought back', async () => {
    const rotation = rotationFor();
    const { value } = await rotation.upToPromotion();
    await server.query(`ALTER ROLE ${value.username} NOLOGIN`);
    await expect(rotation.renew(Date.now() + 20 * MINUTE)).rejects.toMatchObject({ code: 'LEASE_LOST' });
    await retire(rotation);
    await expect(rotation.renew(Date.now() + 20 * MINUTE)).rejects.toMatchObject({ code: 'LEASE_LOST' });
    expect(await rolesLeft()).toEqual([]);
  });

  it('needs no superuser: CREATEROLE and ADMIN OPTION on the template are enough', async () => {
    const dba = { username: `dba_lease${serial}`, password: 'dba-password' };
    await server.query(`CREATE ROLE ${dba.username} LOGIN CREATEROLE PASSWORD '${dba.password}'`);
    await server.query(`GRANT ${quoted(template)} TO ${dba.username} WITH ADMIN OPTION`);
    const rotation = rotationFor('by-dba', rotatorFor({ admin: dba }));
    const { value } = await rotation.upToPromotion();
    const session = await connectAs(server, value);
    await rotation.renew(Date.now() + 20 * MINUTE);
    await queryAs(server, server.admin, `GRANT CREATE ON SCHEMA public TO ${value.username}`);
    await queryAs(server, value, 'SET ROLE NONE', `CREATE TABLE ${base}_own (id int)`);
    await server.query(`REVOKE CREATE ON SCHEMA public FROM ${value.username}`);
    expect(await retire(rotation)).toEqual({ refused: true, sessionsEnded: 1, sessionsLeft: 0 });
    expect(await rolesLeft()).toEqual([]);
    await session.end();
  });
});

describe('the end of a lease', () => {
  it('ends live sessions, hands on what the role itself owned in any database, and drops it with all it was granted', async () => {
    const rotation = rotationFor();
    const { value } = await rotation.upToPromotion();
    const role = value.username;
    await server.query(`CREATE TABLE ${base}_granted (id int)`);
    for (const grant of [
      `GRANT SELECT ON ${base}_granted TO ${role}`,
      `GRANT CREATE ON SCHEMA public TO ${role}`,
      `GRANT CREATE, CONNECT ON DATABASE elsewhere TO ${role}`,
      `ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO ${role}`,
    ])
      await server.query(grant);
    await queryAs(
      server,
      value,
      'SET ROLE NONE',
      `CREATE TABLE ${base}_mine (id int)`,
      `ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC`,
    );
    const there: PostgresServer = { ...server, database: 'elsewhere' };
    await queryAs(there, value, 'SET ROLE NONE', `CREATE SCHEMA ${base}`, `CREATE TABLE ${base}.mine (id int)`);
    const sessions = await Promise.all([connectAs(server, value), connectAs(there, value)]);
    await sessions[0]?.query('BEGIN');
    await sessions[0]?.query('SET ROLE NONE');
    await sessions[0]?.query(`LOCK TABLE ${base}_mine`);

    expect(await retire(rotation)).toEqual({ refused: true, sessionsEnded: 2, sessionsLeft: 0 });
    expect(await rolesLeft()).toEqual([]);
    expect(await can(value)).toBe('28P01');
    expect(await server.query(`SELECT tableowner FROM pg_tables WHERE tablename = '${base}_mine'`)).toEqual([
      { tableowner: template },
    ]);
    expect(await queryAs(there, server.admin, `SELECT tableowner FROM pg_tables WHERE schemaname = '${base}'`)).toEqual(
      [{ tableowner: template }],
    );
    expect(await server.query(`SELECT FROM pg_default_acl`)).toEqual([]);
    await Promise.all(sessions.map((session) => session.end()));
  });

  it('comes to the same end when it is done again, after a crash at any statement', async () => {
    const lost = new Error('crashed');
    let crashes = 0;
    for (let crashAt = 1; crashAt <= 20; crashAt += 1) {
      const rotation = rotationFor(`orphan-${crashAt}`);
      const { value } = await rotation.upToPromotion();
      await server.query(`GRANT CREATE ON SCHEMA public TO ${value.username}`);
      await queryAs(server, value, 'SET ROLE NONE', `CREATE TABLE ${base}_${crashAt} (id int)`);
      let asserted = 0;
      rotation.onAssert = () => {
        asserted += 1;
        if (asserted === crashAt) throw lost;
      };
      const crashed = await retire(rotation).then(
        () => false,
        (error: unknown) => {
          expect(error).toBe(lost);
          return true;
        },
      );
      crashes += crashed ? 1 : 0;
      expect(await retire(rotation)).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
      expect(await retire(rotation)).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
      expect(await rolesLeft()).toEqual([]);
      if (!crashed) break;
    }
    expect(crashes).toBeGreaterThanOrEqual(2);
  });

  it('is undone, whether or not it had been applied', async () => {
    const rotation = rotationFor();
    const { value } = await rotation.create();
    await rotation.undo();
    await rotation.apply();
    await rotation.undo();
    await rotation.undo();
    expect(await can(value)).toBe('28P01');
    expect(await rolesLeft()).toEqual([]);
  });

  it('leaves roles alone that no rotator made, and the role of the current version', async () => {
    await server.query(`CREATE ROLE ${base}_precious LOGIN PASSWORD 'kept'`);
    const precious = { username: `${base}_precious`, password: 'kept' };
    const rotation = rotationFor();
    const current = await rotation.upToPromotion();
    const foreign = { name: 'MyDbCreds', versionId: 'v0', value: precious };
    await expect(retire(rotation, foreign)).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
    expect(await can(precious)).toBe('yes');
    const older = { ...current, versionId: 'v-older' };
    await expect(retire(rotation, older)).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
    expect(await can(current.value)).toBe('yes');
    rotation.pending = foreign;
    await expect(rotation.apply()).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
    await expect(rotation.undo()).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
    expect(await can(precious)).toBe('yes');
  });
});

describe('what goes wrong with leases', () => {
  it('needs a template role that exists and is no superuser', async () => {
    for (const templateRole of ['nobody there', 'postgres']) {
      const rotation = rotationFor('x', rotatorFor({ templateRole }));
      await rotation.create();
      await expect(rotation.apply()).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
    }
    expect(await rolesLeft()).toEqual([]);
  });

  it('needs to be told for whom and how long, and names that fit', async () => {
    await expect(new HandRotation(rotatorFor(), undefined).create()).rejects.toMatchObject({
      code: 'ROTATOR_OPTIONS_INVALID',
    });
    expect(() => rotatorFor({ baseName: 'x'.repeat(43) })).not.toThrow();
    for (const options of [
      { baseName: 'x'.repeat(44) },
      { baseName: '' },
      { templateRole: '' },
      { admin: undefined as never },
    ]) {
      expect(() => rotatorFor(options)).toThrow(expect.objectContaining({ code: 'ROTATOR_OPTIONS_INVALID' }));
    }
  });

  it('fails verify when the role does not run as the template, or lacks a setting of it, or never ends', async () => {
    const rotation = rotationFor();
    const { value } = await rotation.upToPromotion();
    await server.query(`ALTER ROLE ${quoted(template)} SET work_mem = '7MB'`);
    await server.query(`ALTER ROLE ${value.username} RESET role`);
    await server.query(`ALTER ROLE ${value.username} VALID UNTIL 'infinity'`);
    await expect(rotation.verify()).rejects.toMatchObject({
      code: 'ROLE_MISMATCH',
      differences: expect.arrayContaining([
        'it lacks setting work_mem',
        'it lacks setting role',
        `its sessions run as ${value.username} instead of ${template}`,
        'its password never ends',
      ]),
    });
    await retire(rotation);
  });
});
