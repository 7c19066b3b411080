import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { DatabaseCredentials } from '@nestjs-secrets/core';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb, type MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { freePort } from 'nestjs-secrets-test/postgres-server';
import { mysqlSingleUser, type MysqlRotator, type MysqlSingleUserOptions } from '../src/rotators/index.js';
import { connectAs, HandRotation, outcomeOf, queryAs, usersLike, version, type Version } from './rotators-fixture.js';

let server: MariadbServer;
let serial = 0;
let username: string;

function rotatorFor(options: Partial<MysqlSingleUserOptions> = {}): MysqlRotator {
  const { host, port } = server;
  return mysqlSingleUser({ connection: { host, port }, ...options });
}

const name = (host = '%'): string => `\`${username.replaceAll('`', '``')}\`@\`${host}\``;

/** A user that exists, as the current version. */
async function existing(options = '', ...hosts: string[]): Promise<Version> {
  const password = `first-password-${serial}`;
  for (const host of ['%', ...hosts])
    await server.query(`CREATE USER ${name(host)} IDENTIFIED BY '${password}' ${options}`);
  return version({ username, password });
}

const can = (credentials: DatabaseCredentials): Promise<unknown> => outcomeOf(queryAs(server, credentials, 'SELECT 1'));

const pendingOf = (rotation: HandRotation): DatabaseCredentials => {
  if (rotation.pending === undefined) throw new Error('nothing pending');
  return rotation.pending.value;
};

const hashes = async (): Promise<unknown> =>
  server.query("SELECT Host, JSON_VALUE(Priv, '$.authentication_string') AS h FROM mysql.global_priv WHERE User = ?", [
    username,
  ]);

describeWithMariadb('mysqlSingleUser', () => {
  beforeAll(async () => {
    server = await startMariadb({ generalLog: true });
  });
  afterAll(() => server.stop());
  beforeEach(() => {
    serial += 1;
    username = `Single "${serial}" o'us\\er`;
  });

  describe.each([
    ['by itself', () => ({})],
    ['by an administrator', () => ({ admin: server.admin })],
  ])('a password changed %s', (_who, options) => {
    it('goes over from the old to the new, and no new password is ever in a statement', async () => {
      const one = await existing();
      const rotator = rotatorFor(options());
      expect([rotator.name, rotator.strategy, rotator.identities]).toEqual([
        'mysql/single-user',
        'single-user',
        undefined,
      ]);
      const rotation = new HandRotation(rotator, one);
      const two = await rotation.upToPromotion();
      expect(two.value.username).toBe(username);
      expect([await can(one.value), await can(two.value)]).toEqual([1045, 'yes']);
      expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
      const again = new HandRotation(rotator, two);
      const three = await again.upToPromotion();
      await again.retire();
      expect([await can(two.value), await can(three.value)]).toEqual([1045, 'yes']);
      expect(server.log()).toMatch(/SET PASSWORD = '\*|IDENTIFIED VIA mysql_native_password USING '\*/);
      for (const secret of [two.value.password, three.value.password]) expect(server.log()).not.toContain(secret);
    });

    it('ends the sessions of the old password, and none of the new', async () => {
      const one = await existing();
      const old = await Promise.all([connectAs(server, one.value), connectAs(server, one.value)]);
      await old[0]?.beginTransaction();
      const rotation = new HandRotation(rotatorFor(options()), one);
      const two = await rotation.upToPromotion();
      const fresh = await Promise.all([connectAs(server, two.value), connectAs(server, two.value)]);
      expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 2, sessionsLeft: 0 });
      expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
      for (const connection of fresh) expect((await connection.query('SELECT 1 AS one'))[0]).toEqual([{ one: 1 }]);
      for (const connection of old) await expect(connection.query('SELECT 1')).rejects.toThrow();
      for (const connection of [...old, ...fresh]) connection.destroy();
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
      expect((await fresh.query('SELECT 1 AS one'))[0]).toEqual([{ one: 1 }]);
      await expect(late?.query('SELECT 1')).rejects.toThrow();
      for (const connection of [late, fresh]) connection?.destroy();
    });

    it.each([
      ['before the password changed', 'alteredAfter', 1045],
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
      expect([await can(one.value), await can(pendingOf(resumed))]).toEqual([1045, 'yes']);
      expect(await resumed.retire()).toMatchObject({ refused: true, sessionsLeft: 0 });
    });

    it('changes nothing once it has lost the rotation', async () => {
      const one = await existing();
      const before = await hashes();
      const rotation = new HandRotation(rotatorFor(options()), one);
      await rotation.create();
      const lost = (): void => {
        throw new Error('not the holder');
      };
      rotation.onAssert = lost;
      await expect(rotation.apply()).rejects.toThrow('not the holder');
      expect(await hashes()).toEqual(before);
      rotation.onAssert = () => undefined;
      await rotation.apply();
      const applied = await hashes();
      rotation.onAssert = lost;
      await expect(rotation.undo()).rejects.toThrow('not the holder');
      expect(await hashes()).toEqual(applied);
    });

    it('is undone, whether or not it had been applied', async () => {
      const one = await existing();
      const rotation = new HandRotation(rotatorFor(options()), one);
      await rotation.create();
      await rotation.undo();
      expect(await can(one.value)).toBe('yes');
      await rotation.apply();
      expect(await can(one.value)).toBe(1045);
      await rotation.undo();
      await rotation.undo();
      expect([await can(one.value), await can(pendingOf(rotation))]).toEqual(['yes', 1045]);
      expect(server.log()).not.toContain(pendingOf(rotation).password);
    });

    it('keeps everything else the account is and has', async () => {
      const one = await existing('REQUIRE NONE WITH MAX_USER_CONNECTIONS 9 PASSWORD EXPIRE INTERVAL 90 DAY');
      await server.query(`GRANT SELECT ON app.* TO ${name()} WITH GRANT OPTION`);
      const described = async (): Promise<string> =>
        JSON.stringify([
          await server.query(`SHOW GRANTS FOR ${name()}`),
          await server.query(`SHOW CREATE USER ${name()}`),
        ]).replaceAll(/\*[0-9A-F]{40}/g, '*');
      const before = await described();
      await new HandRotation(rotatorFor(options()), one).upToPromotion();
      expect(await described()).toBe(before);
    });
  });

  describe('several accounts of one name', () => {
    it('change as one, also when a crash came between them', async () => {
      const one = await existing('', '10.1.%', 'localhost');
      const rotator = rotatorFor({ admin: server.admin });
      const rotation = new HandRotation(rotator, one);
      await rotation.create();
      let changes = 0;
      rotation.onAssert = () => {
        changes += 1;
        if (changes === 3) throw new Error('killed');
      };
      await expect(rotation.apply()).rejects.toThrow('killed');
      rotation.onAssert = () => undefined;
      await rotation.apply();
      await rotation.verify();
      const after = (await hashes()) as { h: string }[];
      expect(after).toHaveLength(3);
      expect(new Set(after.map(({ h }) => h)).size).toBe(1);
      expect([await can(one.value), await can(pendingOf(rotation))]).toEqual([1045, 'yes']);
    });

    it('keep the ways of logging in that are no password', async () => {
      const one = await existing();
      await server.query(
        `ALTER USER ${name()} IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('${one.value.password}')`,
      );
      const alone = new HandRotation(rotatorFor(), one);
      await alone.create();
      await expect(alone.apply()).rejects.toMatchObject({
        code: 'ROLE_UNSUITABLE',
        message: expect.stringContaining('admin'),
      });
      await new HandRotation(rotatorFor({ admin: server.admin }), one).upToPromotion();
      const [row] = await server.query<Record<string, string>>(`SHOW CREATE USER ${name()}`);
      expect(Object.values(row ?? {})[0]).toMatch(/IDENTIFIED VIA unix_socket OR mysql_native_password USING '\*/);
    });
  });

  describe('the first version', () => {
    it('creates the user as the administrator, able to use its database, also after a crash, and is undone', async () => {
      const { host, port, database } = server;
      const rotator = rotatorFor({ connection: { host, port, database }, admin: server.admin, username });
      const rotation = new HandRotation(rotator, undefined);
      await rotation.create();
      await rotation.apply();
      await rotation.apply();
      await rotation.verify();
      expect(await outcomeOf(queryAs(server, pendingOf(rotation), `CREATE TABLE app.s${serial} (id int)`))).toBe('yes');
      await rotation.undo();
      await rotation.undo();
      expect(await can(pendingOf(rotation))).toBe(1045);
    });

    it('needs a user name, an administrator and something to do', async () => {
      const invalid = { code: 'ROTATOR_OPTIONS_INVALID' };
      const create = (options: Partial<MysqlSingleUserOptions>, current?: Version): Promise<unknown> =>
        new HandRotation(rotatorFor(options), current).create();
      await expect(create({ admin: server.admin })).rejects.toMatchObject(invalid);
      await expect(create({ username })).rejects.toMatchObject(invalid);
      await expect(create({ username, admin: server.admin })).rejects.toMatchObject(invalid);
      await expect(create({ username: 'other' }, version({ username, password: 'x' }))).rejects.toMatchObject(invalid);
      expect(() => rotatorFor({ username: 'x'.repeat(81) })).toThrow(expect.objectContaining(invalid));
    });
  });

  describe('a rehearsal', () => {
    it('changes the password of a user like the current one, and leaves nothing behind', async () => {
      username = `s${serial}`;
      const one = await existing('WITH MAX_USER_CONNECTIONS 9');
      await server.query(`GRANT SELECT ON mysql.db TO ${name()}`);
      const before = await server.query('SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2');
      const rehearsal = rotatorFor({ admin: server.admin }).rehearsal?.();
      if (rehearsal === undefined) throw new Error('no rehearsal');
      const rotation = new HandRotation(rehearsal, one);
      const { value } = await rotation.create();
      expect(value.username).toBe(`s${serial}_rehearsal`);
      await rotation.apply();
      await rotation.apply();
      await rotation.verify();
      expect(await outcomeOf(queryAs(server, value, 'SELECT 1 FROM mysql.db'))).toBe('yes');
      await rotation.undo();
      await rotation.undo();
      expect(await server.query('SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2')).toEqual(before);
      expect([await can(one.value), await can(value)]).toEqual(['yes', 1045]);
    });

    it('leaves nothing behind when it broke off half-way', async () => {
      username = `s${serial}`;
      const one = await existing();
      const rehearsal = rotatorFor({ admin: server.admin }).rehearsal?.();
      if (rehearsal === undefined) throw new Error('no rehearsal');
      let statements = Infinity;
      for (let killedAt = 1; killedAt <= statements; killedAt += 1) {
        const rotation = new HandRotation(rehearsal, one);
        await rotation.create();
        let calls = 0;
        rotation.onAssert = () => {
          calls += 1;
          if (calls === killedAt) throw new Error('killed');
        };
        const outcome = await rotation.apply().then(
          () => 'done',
          (error: Error) => error.message,
        );
        if (outcome === 'done') statements = calls;
        else expect(outcome).toBe('killed');
        rotation.onAssert = () => undefined;
        await rotation.undo();
        expect(await usersLike(server, username)).toEqual([username]);
      }
      expect(statements).toBe(3);
    });

    it('needs an administrator', () => {
      expect(() => rotatorFor().rehearsal?.()).toThrow(expect.objectContaining({ code: 'ROTATOR_OPTIONS_INVALID' }));
    });
  });

  describe('what goes wrong', () => {
    it('decides nothing while the server does not answer', async () => {
      const connection = { host: '127.0.0.1', port: await freePort() };
      const rotation = new HandRotation(rotatorFor({ connection }), version({ username, password: 'canary-password' }));
      await rotation.create();
      await expect(rotation.apply()).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
      expect(rotation.notes).toEqual({});
      rotation.notes = { alteredAfter: 1 };
      await expect(rotation.apply()).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
      await expect(rotation.undo()).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
      await expect(rotation.retire()).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    });

    it('says what to do when no stored value is accepted', async () => {
      const one = await existing();
      await server.query(`ALTER USER ${name()} IDENTIFIED BY 'set-by-somebody-else'`);
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

    it('does not take a full account for a refusal', async () => {
      const one = await existing('WITH MAX_USER_CONNECTIONS 1');
      const rotation = new HandRotation(rotatorFor(), one);
      await rotation.create();
      const only = await connectAs(server, one.value);
      await expect(rotation.apply()).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE', errno: 1226 });
      await only.end();
    });

    it('says so when the old password still works, and ends nothing it cannot tell apart', async () => {
      const one = await existing();
      const session = await connectAs(server, one.value);
      const rotation = new HandRotation(rotatorFor(), one);
      rotation.pending = { ...one, versionId: 'v2' };
      await expect(rotation.retire()).rejects.toMatchObject({ code: 'OLD_CREDENTIAL_ALIVE' });
      const next = new HandRotation(rotatorFor(), one);
      await next.upToPromotion();
      const { notes } = next;
      next.notes = {};
      expect(await next.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
      // Ids of sessions begin again when the server does.
      next.notes = { ...notes, serverStart: Number(notes['serverStart']) - 60 };
      expect(await next.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
      expect((await session.query('SELECT 1 AS one'))[0]).toEqual([{ one: 1 }]);
      next.notes = notes;
      expect(await next.retire()).toEqual({ refused: true, sessionsEnded: 1, sessionsLeft: 0 });
      session.destroy();
    });

    it('retires another user as a whole, after a version for it was put by hand', async () => {
      const one = await existing();
      const session = await connectAs(server, one.value);
      const other = version({ username: `other_${serial}`, password: 'other-password' });
      await server.query(`CREATE USER other_${serial} IDENTIFIED BY 'other-password'`);
      const rotation = new HandRotation(rotatorFor({ admin: server.admin }), one);
      rotation.pending = other;
      expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 1, sessionsLeft: 0 });
      expect(await can(other.value)).toBe('yes');
      session.destroy();
    });

    it('fails verify when the new password does not log in, and runs the probes when it does', async () => {
      const one = await existing();
      const users: unknown[] = [];
      const rotation = new HandRotation(
        rotatorFor({
          probes: [async (connection) => void users.push((await connection.query('SELECT CURRENT_USER() AS u'))[0])],
        }),
        one,
      );
      await rotation.create();
      await expect(rotation.verify()).rejects.toMatchObject({ code: 'TARGET_REFUSED' });
      expect(users).toEqual([]);
      await rotation.apply();
      await rotation.verify();
      expect(users).toEqual([[{ u: `${username}@%` }]]);
    });

    it('says so when the user is gone', async () => {
      const rotation = new HandRotation(rotatorFor({ admin: server.admin }), version({ username, password: 'x' }));
      await rotation.create();
      await expect(rotation.apply()).rejects.toMatchObject({ code: 'TARGET_FAILED' });
      expect(await usersLike(server, username)).toEqual([]);
    });
  });
});
