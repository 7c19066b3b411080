import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { isSecretsError, type DatabaseCredentials } from '@nestjs-secrets/core';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb, type MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { freePort } from 'nestjs-secrets-test/postgres-server';
import { mysqlAlternatingUsers, type MysqlAlternatingUsersOptions, type MysqlRotator } from '../src/rotators/index.js';
import {
  connectAs,
  HandRotation,
  outcomeOf,
  queryAs,
  quoted,
  usersLike,
  version,
  type Version,
} from './rotators-fixture.js';

let server: MariadbServer;
let serial = 0;
/** Each test has a ring of its own on the one server. */
let base: string;

function rotatorFor(options: Partial<MysqlAlternatingUsersOptions> = {}): MysqlRotator {
  const { host, port, database } = server;
  return mysqlAlternatingUsers({
    connection: { host, port, database },
    admin: server.admin,
    baseName: base,
    ...options,
  });
}

/** The first version, on an empty target. */
async function firstVersion(rotator: MysqlRotator): Promise<Version> {
  return new HandRotation(rotator, undefined).upToPromotion();
}

async function rotated(rotator: MysqlRotator, current: Version): Promise<{ next: Version; rotation: HandRotation }> {
  const rotation = new HandRotation(rotator, current);
  return { next: await rotation.upToPromotion(), rotation };
}

const can = (credentials: DatabaseCredentials, ...sql: string[]): Promise<unknown> =>
  outcomeOf(queryAs(server, credentials, ...sql));

/** How many statements that change it the server has got. */
const changesTo = (user: string): number =>
  server
    .log()
    .split('\n')
    .filter((line) => /Query\tBEGIN NOT ATOMIC.*\b(CREATE|ALTER|GRANT|REVOKE|DROP)\b/.test(line) && line.includes(user))
    .length;

const valueOf = (rotation: HandRotation): DatabaseCredentials => {
  if (rotation.pending === undefined) throw new Error('nothing pending');
  return rotation.pending.value;
};

describeWithMariadb('mysqlAlternatingUsers', () => {
  beforeAll(async () => {
    server = await startMariadb({ generalLog: true });
  });
  afterAll(() => server.stop());
  beforeEach(() => {
    serial += 1;
    base = `app${serial}`;
  });

  describe('the ring', () => {
    it('takes turns in order, passes over busy users, and says so when all are busy', async () => {
      const rotator = rotatorFor({ users: 3 });
      expect(rotator.name).toBe('mysql/alternating-users');
      expect(rotator.strategy).toBe('alternating-users');
      expect(rotator.identities?.()).toEqual([`${base}_1`, `${base}_2`, `${base}_3`]);
      const at = (user: string): Version => version({ username: user, password: 'x' });
      const next = async (current: Version | undefined, busy: string[] = []): Promise<string> =>
        (await new HandRotation(rotator, current, busy).create()).value.username;
      expect(await next(undefined)).toBe(`${base}_1`);
      expect(await next(at(`${base}_1`))).toBe(`${base}_2`);
      expect(await next(at(`${base}_1`), [`${base}_2`])).toBe(`${base}_3`);
      expect(await next(at(`${base}_3`))).toBe(`${base}_1`);
      expect(await next(at('outsider'))).toBe(`${base}_1`);
      await expect(next(at(`${base}_1`), [`${base}_2`, `${base}_3`])).rejects.toMatchObject({
        code: 'NO_FREE_IDENTITY',
      });
      expect(rotator.identityOf?.({ username: 'x', password: 'y' })).toBe('x');
    });

    it.each([
      ['users: 1', { users: 1 }],
      ['users: 51', { users: 51 }],
      ['users: 2.5', { users: 2.5 }],
      ['an empty base name', { baseName: '' }],
      ['a base name past 80 characters with its number', { baseName: 'x'.repeat(79) }],
      ['a base name the server cannot store', { baseName: 'app🔑' }],
      ['a user in the connection', { connection: { user: 'u' } as never }],
      ['an address with a password', { connection: { uri: 'mysql://u:canary-pw@h/d' } as never }],
      ['a negative lag limit', { replicaLagLimitMs: -1 }],
      ['no hosts', { hosts: [] }],
      ['an empty host', { hosts: [''] }],
      ['no admin', { admin: undefined as never }],
    ])('refuses %s with one clear error', (_what, options) => {
      expect(() => rotatorFor(options)).toThrow(
        expect.objectContaining({ code: 'ROTATOR_OPTIONS_INVALID', message: expect.not.stringContaining('canary') }),
      );
    });

    it('asks what a first user may do, where it has no database to give', async () => {
      const { host, port } = server;
      const rotator = rotatorFor({ connection: { host, port } });
      await expect(new HandRotation(rotator, undefined).create()).rejects.toMatchObject({
        code: 'ROTATOR_OPTIONS_INVALID',
        message: expect.stringContaining('prepare'),
      });
    });
  });

  describe('a whole rotation', () => {
    it('makes the first user on an empty target, able to create in its database and nowhere else', async () => {
      await server.query('CREATE DATABASE `odd_%db`');
      await server.query('CREATE DATABASE `oddX_db`');
      const { host, port } = server;
      const first = await firstVersion(rotatorFor({ connection: { host, port, database: 'odd_%db' } }));
      expect(await can(first.value, 'CREATE TABLE `odd_%db`.t (id int)', 'DROP TABLE `odd_%db`.t')).toBe('yes');
      // A database's name is a pattern in GRANT, which must not match others.
      expect(await can(first.value, 'CREATE TABLE `oddX_db`.t (id int)')).toBe(1142);
    });

    it('leaves the first user to prepare, at the hosts asked for', async () => {
      const prepared: (readonly string[])[] = [];
      const hosts = ['127.0.0.1', '10.0.%'];
      const rotator = rotatorFor({
        hosts,
        prepare: async (connection, accounts) => {
          prepared.push(accounts);
          for (const account of accounts) await connection.query(`GRANT SELECT ON app.* TO ${account}`);
        },
      });
      const one = await firstVersion(rotator);
      const names = (user: string): string[] => hosts.map((host) => `\`${user}\`@\`${host}\``);
      expect(prepared).toEqual([names(`${base}_1`)]);
      expect(await can(one.value, 'CREATE TABLE app.no (id int)')).toBe(1142);
      const { next, rotation } = await rotated(rotator, one);
      const grants = await queryAs(server, next.value, 'SHOW GRANTS');
      expect(grants.map((row) => Object.values(row)[0])).toContain(
        `GRANT SELECT ON \`app\`.* TO \`${base}_2\`@\`127.0.0.1\``,
      );
      await rotation.retire();
      const locked = await server.query(
        "SELECT JSON_VALUE(Priv, '$.account_locked') AS l FROM mysql.global_priv WHERE User = ?",
        [`${base}_1`],
      );
      expect(locked).toEqual([{ l: '1' }, { l: '1' }]);
    });

    it('goes round the ring, with both credentials valid until the old one is retired', async () => {
      const rotator = rotatorFor();
      const one = await firstVersion(rotator);
      await queryAs(server, one.value, `CREATE TABLE app.${base}_a (id int)`);
      const { next: two, rotation } = await rotated(rotator, one);
      expect(two.value.username).toBe(`${base}_2`);
      expect(await can(two.value, `INSERT INTO app.${base}_a VALUES (1)`)).toBe('yes');
      expect(await can(one.value, `ALTER TABLE app.${base}_a ADD COLUMN w int`)).toBe('yes');
      expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });

      const { next: three, rotation: second } = await rotated(rotator, two);
      expect(three.value.username).toBe(`${base}_1`);
      expect(three.value.password).not.toBe(one.value.password);
      await second.retire();
      expect(await can(two.value)).toBe(1045);
      expect(await can(one.value)).toBe(1045);
      expect(await can(three.value, `DROP TABLE app.${base}_a`)).toBe('yes');
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
      expect(await can(valueOf(second))).toBe('yes');
    });

    it('is not confused by the shape an application likes its rows in', async () => {
      const { host, port, database } = server;
      const connection = { host, port, database, rowsAsArray: true, nestTables: '_', typeCast: () => 'x' };
      const rotator = rotatorFor({ connection });
      const one = await firstVersion(rotator);
      const { rotation } = await rotated(rotator, one);
      const old = await connectAs(server, one.value);
      expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 1, sessionsLeft: 0 });
      old.destroy();
    });

    it('makes nothing in the target before the value is stored', async () => {
      await new HandRotation(rotatorFor(), undefined).create();
      expect(await usersLike(server, base)).toEqual([]);
    });

    it('goes on after a crash before any statement, and changes nothing more once it is not the holder', async () => {
      await server.query(`CREATE TABLE app.${base}_t (a int, b int)`);
      const rotator = rotatorFor({
        prepare: async (connection, accounts) =>
          void (await connection.query(`GRANT INSERT ON app.${base}_t TO ${accounts.join()}`)),
      });
      const one = await firstVersion(rotator);
      const user = `${quoted(one.value.username)}@\`%\``;
      await server.query(`GRANT SELECT (a), UPDATE (b) ON app.${base}_t TO ${user}`);
      await server.query(`GRANT PROCESS ON *.* TO ${user} WITH MAX_USER_CONNECTIONS 7`);
      let statements = 0;
      for (let killedAt = 1; ; killedAt += 1) {
        const rotation = new HandRotation(rotator, one);
        const { value } = await rotation.create();
        let calls = 0;
        const before = changesTo(`${base}_2`);
        rotation.onAssert = () => {
          calls += 1;
          if (calls === killedAt) throw new Error('not the holder');
        };
        const outcome = await rotation.apply().then(
          () => 'done',
          (error: Error) => error.message,
        );
        if (outcome === 'done') {
          statements = calls;
          break;
        }
        expect(outcome).toBe('not the holder');
        expect(changesTo(`${base}_2`) - before).toBe(killedAt - 1);
        // One stored value opens the target at every instant, and the pending one not before it has everything.
        expect([await can(one.value), await can(value)]).toEqual(['yes', 1045]);
        // Another process, which knows the pending version from the store and nothing else.
        const resumed = new HandRotation(rotator, one);
        resumed.pending = rotation.pending;
        await resumed.apply();
        await resumed.verify();
        await resumed.undo();
        await server.query(`DROP USER \`${base}_2\``);
      }
      // CREATE USER, the grants, and at last the password: as many points to crash at.
      expect(statements).toBe(6);
    });

    it('works with names of every kind, whatever the sql_mode of the server', async () => {
      const modes = ['ANSI_QUOTES', 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES', 'STRICT_TRANS_TABLES'];
      const [{ mode } = { mode: '' }] = await server.query<{ mode: string }>('SELECT @@GLOBAL.sql_mode AS mode');
      try {
        for (const [index, mode] of modes.entries()) {
          await server.query(`SET GLOBAL sql_mode = '${mode}'`);
          base = `R "${serial}${index}" o'b\\ \`é密%_`;
          const table = `odd "${index}" t\\\`'`;
          const { host, port, database } = server;
          const rotator = rotatorFor({ connection: { host, port, database }, users: 2 });
          const one = await firstVersion(rotator);
          const connection = await connectAs(server, server.admin);
          await connection.query("SET sql_mode = ''");
          await connection.query(`CREATE TABLE app.${quoted(table)} (${quoted('c"`\\')} int)`);
          await connection.query(
            `GRANT SELECT (${quoted('c"`\\')}) ON app.${quoted(table)} TO ${quoted(one.value.username)}@'%'`,
          );
          await connection.query(`ALTER USER ${quoted(one.value.username)}@'%' WITH MAX_USER_CONNECTIONS 30`);
          await connection.end();
          const { next, rotation } = await rotated(rotator, one);
          expect(await can(next.value, "SET sql_mode = ''", `DROP TABLE app.${quoted(table)}`)).toBe('yes');
          const old = await connectAs(server, one.value);
          expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 1, sessionsLeft: 0 });
          old.destroy();
        }
      } finally {
        await server.query('SET GLOBAL sql_mode = ?', [mode]);
      }
    });

    it('leaves no connection, and writes no password into any statement', async () => {
      const rotator = rotatorFor();
      const one = await firstVersion(rotator);
      const { next, rotation } = await rotated(rotator, one);
      await rotation.retire();
      await rotation.undo().catch(() => undefined);
      const others = (): Promise<unknown[]> =>
        server.query(
          "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND COMMAND <> 'Daemon'",
        );
      // The server ends a session a moment after the client has left.
      while ((await others()).length > 0) await new Promise((resolve) => setImmediate(resolve));
      const log = server.log();
      // The statements are there to be searched…
      expect(log).toContain(`ALTER USER \`${base}_2\`@\`%\` IDENTIFIED VIA mysql_native_password USING '*`);
      for (const secret of [one.value.password, next.value.password, server.admin.password])
        expect(log).not.toContain(secret);
    });
  });

  describe('a rehearsal', () => {
    it('does all of it on a user of its own, and leaves nothing behind', async () => {
      const probed: unknown[] = [];
      const rotator = rotatorFor({
        probes: [async (connection) => void probed.push((await connection.query('SELECT CURRENT_USER() AS u'))[0])],
      });
      const one = await firstVersion(rotator);
      await server.query(`GRANT SELECT ON mysql.db TO ${base}_1`);
      const before = await server.query('SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2');
      const rehearsal = rotator.rehearsal?.();
      if (rehearsal === undefined) throw new Error('no rehearsal');
      const rotation = new HandRotation(rehearsal, one);
      const { value } = await rotation.upToPromotion();
      expect(value.username).toBe(`${base}_rehearsal`);
      expect(await can(value, 'SELECT 1 FROM mysql.db')).toBe('yes');
      expect(probed.at(-1)).toEqual([{ u: `${base}_rehearsal@%` }]);
      await rotation.undo();
      await rotation.undo();
      expect(await server.query('SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2')).toEqual(before);
      expect(await can(one.value)).toBe('yes');
      await expect(rotation.retire()).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
    });

    it('fails as the real one would, fits the server, and never touches a user that is there', async () => {
      base = `${base}${'x'.repeat(60)}`;
      const probe = new Error('orders are not readable');
      const rehearsal = rotatorFor({ probes: [() => Promise.reject(probe)] }).rehearsal?.();
      if (rehearsal === undefined) throw new Error('no rehearsal');
      const rotation = new HandRotation(rehearsal, undefined);
      const { value } = await rotation.create();
      expect(value.username).toHaveLength(32);
      await rotation.apply();
      await expect(rotation.verify()).rejects.toBe(probe);
      await rotation.undo();
      expect(await usersLike(server, base.slice(0, 10))).toEqual([]);

      await server.query(`CREATE USER ${value.username} IDENTIFIED BY 'somebody else'`);
      const other = new HandRotation(rehearsal, undefined);
      await other.create();
      await expect(other.apply()).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
      await other.undo();
      expect(await can({ username: value.username, password: 'somebody else' })).toBe('yes');
    });
  });

  describe('what goes wrong', () => {
    it('tells a refused administrator, an unreachable server and a denied privilege apart, without a value', async () => {
      const password = 'canary-of-the-administrator';
      const refused = new HandRotation(rotatorFor({ admin: { username: 'admin', password } }), undefined);
      await refused.create();
      const failure: unknown = await refused.apply().catch((error: unknown) => error);
      expect(isSecretsError(failure, 'TARGET_REFUSED')).toBe(true);
      expect(failure).toMatchObject({ errno: 1045, message: expect.not.stringContaining(password) });

      const nobody = { host: '127.0.0.1', port: await freePort(), database: 'app' };
      const unreachable = new HandRotation(rotatorFor({ connection: nobody }), undefined);
      await unreachable.create();
      await expect(unreachable.apply()).rejects.toMatchObject({
        code: 'TARGET_UNREACHABLE',
        message: expect.stringContaining('ECONNREFUSED'),
      });

      await server.query(`CREATE USER ${base}_weak IDENTIFIED BY 'weak-password'`);
      await server.query(`GRANT SELECT ON mysql.* TO ${base}_weak`);
      const denied = new HandRotation(
        rotatorFor({ admin: { username: `${base}_weak`, password: 'weak-password' } }),
        undefined,
      );
      await denied.create();
      await expect(denied.apply()).rejects.toMatchObject({
        code: 'TARGET_DENIED',
        message: expect.not.stringContaining('IDENTIFIED'),
      });
      expect(await usersLike(server, `${base}_1`)).toEqual([]);
    });

    it('takes the administrator from a secret or a function, and says when that is none', async () => {
      for (const admin of [() => server.admin, async () => server.admin, { value: server.admin } as never]) {
        await firstVersion(rotatorFor({ admin }));
      }
      const rotation = new HandRotation(rotatorFor({ admin: () => ({}) as never }), undefined);
      await rotation.create();
      await expect(rotation.apply()).rejects.toMatchObject({ code: 'ROTATOR_OPTIONS_INVALID' });
    });

    it('fails verify when the user was not made, and when a probe throws', async () => {
      const unmade = new HandRotation(rotatorFor(), undefined);
      await unmade.create();
      await expect(unmade.verify()).rejects.toMatchObject({ code: 'TARGET_REFUSED' });

      const probe = new Error('orders are not readable');
      const probed = new HandRotation(rotatorFor({ probes: [() => Promise.reject(probe)] }), undefined);
      await probed.create();
      await probed.apply();
      await expect(probed.verify()).rejects.toBe(probe);
    });

    it('stops in the middle of a statement when it is told to', async () => {
      let running = (): void => undefined;
      const started = new Promise<void>((resolve) => (running = resolve));
      const rotation = new HandRotation(
        rotatorFor({
          probes: [
            async (connection) => {
              running();
              await connection.query('SELECT SLEEP(300)');
            },
          ],
        }),
        undefined,
      );
      await rotation.create();
      await rotation.apply();
      const verified = rotation.verify();
      await started;
      rotation.signal.abort();
      await expect(verified).rejects.toMatchObject({ name: 'AbortError' });
    });

    it('does not pass on the powers of an administrator, nor a way of logging in it cannot set', async () => {
      const rotation = new HandRotation(rotatorFor(), version(server.admin));
      await rotation.create();
      await expect(rotation.apply()).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });

      await server.query(`CREATE USER ${base}_socket IDENTIFIED VIA unix_socket`);
      const socket = new HandRotation(rotatorFor(), version({ username: `${base}_socket`, password: 'x' }));
      await socket.create();
      await expect(socket.apply()).rejects.toMatchObject({
        code: 'ROLE_UNSUITABLE',
        message: expect.stringContaining('unix_socket'),
      });

      await server.query(`CREATE USER ${base}_two@'%' IDENTIFIED BY 'one'`);
      await server.query(`CREATE USER ${base}_two@'10.1.1.1' IDENTIFIED BY 'another'`);
      const two = new HandRotation(rotatorFor(), version({ username: `${base}_two`, password: 'one' }));
      await two.create();
      await expect(two.apply()).rejects.toMatchObject({
        code: 'ROLE_UNSUITABLE',
        message: expect.stringContaining('10.1.1.1'),
      });
      expect(await usersLike(server, `${base}_1`)).toEqual([]);
    });
  });
});
