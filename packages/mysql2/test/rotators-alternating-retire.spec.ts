import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { DatabaseCredentials } from '@nestjs-secrets/core';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb, type MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { mysqlAlternatingUsers, type MysqlAlternatingUsersOptions, type MysqlRotator } from '../src/rotators/index.js';
import { connectAs, HandRotation, outcomeOf, queryAs, usersLike, version, type Version } from './rotators-fixture.js';

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

describeWithMariadb('mysqlAlternatingUsers, taking users out of use', () => {
  beforeAll(async () => {
    server = await startMariadb();
  });
  afterAll(() => server.stop());
  beforeEach(() => {
    serial += 1;
    base = `app${serial}`;
  });

  describe('retire', () => {
    it('ends every session of the old user, proves the refusal, and spares the new user', async () => {
      const rotator = rotatorFor();
      const one = await firstVersion(rotator);
      const { next, rotation } = await rotated(rotator, one);
      // The server compares names in its process list without case.
      const upper = `${base.toUpperCase()}_1`;
      await server.query(`CREATE USER ${upper} IDENTIFIED BY 'upper-password'`);
      const [inTransaction, sleeping, idle, fresh, other] = await Promise.all([
        connectAs(server, one.value),
        connectAs(server, one.value),
        connectAs(server, one.value),
        connectAs(server, next.value),
        connectAs(server, { username: upper, password: 'upper-password' }),
      ]);
      await inTransaction.beginTransaction();
      const slept = sleeping.query('SELECT SLEEP(300)').then(
        () => 'finished',
        () => 'cut off',
      );
      expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 3, sessionsLeft: 0 });
      expect(await slept).toBe('cut off');
      for (const connection of [fresh, other])
        expect((await connection.query('SELECT 1 AS one'))[0]).toEqual([{ one: 1 }]);
      await expect(idle.query('SELECT 1')).rejects.toThrow();
      expect(await can(one.value)).toBe(1045);
      for (const connection of [inTransaction, sleeping, idle, fresh, other]) connection.destroy();
    });

    it('leaves what runs in the name of the old user as it was', async () => {
      const rotator = rotatorFor();
      const one = await firstVersion(rotator);
      await queryAs(
        server,
        one.value,
        `CREATE TABLE app.${base}_t (id int, n int)`,
        `CREATE TABLE app.${base}_log (id int)`,
        `CREATE SQL SECURITY DEFINER VIEW app.${base}_v AS SELECT id FROM app.${base}_t`,
        `CREATE PROCEDURE app.${base}_p() SQL SECURITY DEFINER INSERT INTO app.${base}_log VALUES (1)`,
        `CREATE FUNCTION app.${base}_f() RETURNS int SQL SECURITY DEFINER RETURN (SELECT COUNT(*) FROM app.${base}_t)`,
        `CREATE TRIGGER app.${base}_tr BEFORE INSERT ON app.${base}_t FOR EACH ROW SET NEW.n = (SELECT COUNT(*) FROM app.${base}_log)`,
        `CREATE EVENT app.${base}_e ON SCHEDULE AT NOW() + INTERVAL 1 YEAR DISABLE DO INSERT INTO app.${base}_log VALUES (2)`,
      );
      const { next, rotation } = await rotated(rotator, one);
      await rotation.retire();
      expect(
        await queryAs(
          server,
          next.value,
          `CALL app.${base}_p()`,
          `INSERT INTO app.${base}_t (id) VALUES (5)`,
          `SELECT v.id, t.n, app.${base}_f() AS f FROM app.${base}_v v JOIN app.${base}_t t ON t.id = v.id`,
        ),
      ).toEqual([{ id: 5, n: 1, f: 1 }]);
      // An event runs in the name of its definer too.
      await server.query('SET GLOBAL event_scheduler = ON');
      try {
        await server.query(
          `ALTER DEFINER = \`${base}_1\`@\`%\` EVENT app.${base}_e ON SCHEDULE AT NOW() + INTERVAL 1 SECOND ENABLE`,
        );
        const ran = async (): Promise<boolean> =>
          (await server.query(`SELECT id FROM app.${base}_log WHERE id = 2`)).length > 0;
        while (!(await ran())) await new Promise((resolve) => setImmediate(resolve));
      } finally {
        await server.query('SET GLOBAL event_scheduler = OFF');
      }
      // A user that is dropped takes its views with it: an answer that looks like a refused log-in, and is none.
      await server.query(`DROP USER ${base}_1`);
      expect(await can(next.value, `SELECT id FROM app.${base}_v`)).toBe(1045);
    });

    it('comes to the same end after a crash before any of its statements', async () => {
      const rotator = rotatorFor({ hosts: ['%', '10.0.%'] });
      let current = await firstVersion(rotator);
      // Each account is locked, and one session is ended.
      for (const killedAt of [1, 2, 3]) {
        const { next, rotation } = await rotated(rotator, current);
        const old = await connectAs(server, current.value);
        let calls = 0;
        rotation.onAssert = () => {
          calls += 1;
          if (calls === killedAt) throw new Error('killed');
        };
        await expect(rotation.retire()).rejects.toThrow('killed');
        expect(await can(next.value)).toBe('yes');
        rotation.onAssert = () => undefined;
        expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 1, sessionsLeft: 0 });
        await expect(old.query('SELECT 1')).rejects.toThrow();
        expect(await can(current.value)).toBe(1045);
        old.destroy();
        current = next;
      }
    });

    it('counts a user that was dropped meanwhile as refused', async () => {
      const rotator = rotatorFor();
      const one = await firstVersion(rotator);
      const { rotation } = await rotated(rotator, one);
      await server.query(`DROP USER ${base}_1`);
      expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
    });

    it('leaves the user alone when the current version has it', async () => {
      const one = await firstVersion(rotatorFor());
      const rotation = new HandRotation(rotatorFor(), one);
      rotation.pending = one;
      const older = version({ username: `${base}_1`, password: 'older' });
      await expect(rotation.retire(older)).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
      await expect(rotation.apply()).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
      await expect(rotation.undo()).rejects.toMatchObject({ code: 'ROLE_UNSUITABLE' });
      expect(await can(one.value)).toBe('yes');
    });

    it('proves nothing while an anonymous account lets everybody in, or the administrator is blind', async () => {
      const rotator = rotatorFor();
      const one = await firstVersion(rotator);
      const { rotation } = await rotated(rotator, one);
      await server.query("CREATE USER dba_blind IDENTIFIED BY 'blind'");
      await server.query('GRANT CREATE USER, CONNECTION ADMIN ON *.* TO dba_blind');
      await server.query('GRANT SELECT ON mysql.* TO dba_blind');
      const blind = new HandRotation(rotatorFor({ admin: { username: 'dba_blind', password: 'blind' } }), one);
      blind.pending = rotation.pending;
      await expect(blind.retire()).rejects.toMatchObject({
        code: 'TARGET_DENIED',
        message: expect.stringContaining('PROCESS'),
      });
      expect(await can(one.value)).toBe('yes');

      // An account for this very address stands before the ones for any host: the administrator's needs one as well.
      await server.query(`DROP USER ${base}_1`);
      const { username, password } = server.admin;
      await queryAs(
        server,
        server.admin,
        `CREATE USER ${username}@'127.0.0.1' IDENTIFIED BY '${password}'`,
        `GRANT ALL ON *.* TO ${username}@'127.0.0.1' WITH GRANT OPTION`,
        `CREATE USER ''@'127.0.0.1' IDENTIFIED BY '${one.value.password}'`,
      );
      try {
        await expect(rotation.retire()).rejects.toMatchObject({ code: 'OLD_CREDENTIAL_ALIVE' });
      } finally {
        await server.query(`DROP USER ''@'127.0.0.1', ${username}@'127.0.0.1'`);
      }
      expect(await rotation.retire()).toMatchObject({ refused: true });
    });

    it('stops when it is told to, or has lost the rotation', async () => {
      const rotator = rotatorFor();
      const one = await firstVersion(rotator);
      const { rotation } = await rotated(rotator, one);
      rotation.onAssert = () => {
        throw new Error('not the holder');
      };
      await expect(rotation.retire()).rejects.toThrow('not the holder');
      rotation.onAssert = () => undefined;
      rotation.signal.abort();
      await expect(rotation.retire()).rejects.toMatchObject({ name: 'AbortError' });
      expect(await can(one.value)).toBe('yes');
    });
  });

  describe('undo', () => {
    it('makes the pending user invalid and leaves the current one as it is', async () => {
      const rotator = rotatorFor();
      const one = await firstVersion(rotator);
      const { next, rotation } = await rotated(rotator, one);
      await rotation.undo();
      await rotation.undo();
      expect([await can(next.value), await can(one.value)]).toEqual([1045, 'yes']);
      // And the ring goes on.
      expect(await can((await rotated(rotator, one)).next.value)).toBe('yes');
    });

    it('is harmless when the user was never made', async () => {
      const rotation = new HandRotation(rotatorFor(), undefined);
      await rotation.create();
      await rotation.undo();
      expect(await usersLike(server, base)).toEqual([]);
    });
  });
});
