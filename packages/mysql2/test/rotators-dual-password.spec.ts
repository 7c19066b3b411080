import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { DatabaseCredentials } from '@nestjs-secrets/core';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb, type MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { mysqlDualPassword, type MysqlDualPasswordOptions, type MysqlRotator } from '../src/rotators/index.js';
import { connectAs, HandRotation, outcomeOf, queryAs, usersLike, version, type Version } from './rotators-fixture.js';

let server: MariadbServer;
let serial = 0;
let username: string;

function rotatorFor(options: Partial<MysqlDualPasswordOptions> = {}): MysqlRotator {
  const { host, port } = server;
  return mysqlDualPassword({ connection: { host, port }, admin: server.admin, ...options });
}

const name = (host = '%'): string => `\`${username.replaceAll('`', '``')}\`@\`${host}\``;

async function existing(options = '', ...hosts: string[]): Promise<Version> {
  const password = `first-password-${serial}`;
  for (const host of ['%', ...hosts])
    await server.query(`CREATE USER ${name(host)} IDENTIFIED BY '${password}' ${options}`);
  return version({ username, password });
}

const can = (credentials: DatabaseCredentials): Promise<unknown> => outcomeOf(queryAs(server, credentials, 'SELECT 1'));

const accounts = async (): Promise<string[]> => {
  const rows = await server.query<{ p: string }>(
    'SELECT CAST(Priv AS CHAR) AS p FROM mysql.global_priv WHERE User = ?',
    [username],
  );
  return rows.map(({ p }) => p);
};

const pendingOf = (rotation: HandRotation): DatabaseCredentials => {
  if (rotation.pending === undefined) throw new Error('nothing pending');
  return rotation.pending.value;
};

const rehearsalOf = (rotator: MysqlRotator) => {
  const rehearsal = rotator.rehearsal?.();
  if (rehearsal === undefined) throw new Error('no rehearsal');
  return rehearsal;
};

describeWithMariadb('mysqlDualPassword', () => {
  beforeAll(async () => {
    server = await startMariadb({ generalLog: true });
  });
  afterAll(() => server.stop());
  beforeEach(() => {
    serial += 1;
    username = `Dual "${serial}" o'us\\er`;
  });

  describe('a whole rotation', () => {
    it('has both passwords valid until the old one is retired, and none ever in a statement', async () => {
      const one = await existing();
      const rotator = rotatorFor();
      expect([rotator.name, rotator.strategy, rotator.identities]).toEqual([
        'mysql/dual-password',
        'dual-password',
        undefined,
      ]);
      expect(rotator.identityOf?.(one.value)).toBe(username);
      const rotation = new HandRotation(rotator, one);
      const two = await rotation.upToPromotion();
      expect([await can(one.value), await can(two.value)]).toEqual(['yes', 'yes']);
      expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
      expect([await can(one.value), await can(two.value)]).toEqual([1045, 'yes']);
      const again = new HandRotation(rotator, two);
      const three = await again.upToPromotion();
      await again.retire();
      expect([await can(two.value), await can(three.value)]).toEqual([1045, 'yes']);
      expect(server.log()).toMatch(/USING '\*[0-9A-F]{40}' OR mysql_native_password USING '\*[0-9A-F]{40}'/);
      for (const secret of [two.value.password, three.value.password]) expect(server.log()).not.toContain(secret);
    });

    it('lets older versions drain while the next rotation is on, and retires them one by one', async () => {
      const one = await existing('', '10.1.%');
      const rotator = rotatorFor();
      const first = new HandRotation(rotator, one);
      const two = await first.upToPromotion();
      const second = new HandRotation(rotator, two);
      const three = await second.upToPromotion();
      const all = [one, two, three].map(({ value }) => value);
      expect(await Promise.all(all.map(can))).toEqual(['yes', 'yes', 'yes']);
      first.pending = three;
      await first.retire();
      expect(await Promise.all(all.map(can))).toEqual([1045, 'yes', 'yes']);
      await second.retire();
      expect(await Promise.all(all.map(can))).toEqual([1045, 1045, 'yes']);
      expect(await accounts()).toHaveLength(2);
      for (const account of await accounts()) expect(account.match(/authentication_string/g)).toHaveLength(1);
    });

    it('ends the sessions from before the new password was promoted, and none of the new', async () => {
      const one = await existing();
      const rotation = new HandRotation(rotatorFor(), one);
      const before = await connectAs(server, one.value);
      await rotation.create();
      await rotation.apply();
      const between = await connectAs(server, one.value);
      await rotation.verify();
      const fresh = await connectAs(server, pendingOf(rotation));
      await before.beginTransaction();
      expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 2, sessionsLeft: 0 });
      expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
      expect((await fresh.query('SELECT 1 AS one'))[0]).toEqual([{ one: 1 }]);
      for (const old of [before, between]) await expect(old.query('SELECT 1')).rejects.toThrow();
      for (const connection of [before, between, fresh]) connection.destroy();
    });

    it('comes to the same end when every step is done twice', async () => {
      const one = await existing();
      const rotation = new HandRotation(rotatorFor(), one);
      await rotation.create();
      for (const step of ['apply', 'apply', 'verify', 'apply', 'verify'] as const) await rotation[step]();
      expect((await accounts())[0]?.match(/authentication_string/g)).toHaveLength(2);
      await rotation.retire();
      expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
      expect(await can(pendingOf(rotation))).toBe('yes');
    });

    it('goes on after a crash between two accounts, and changes nothing once it has lost the rotation', async () => {
      const one = await existing('', '10.1.%');
      for (const killedAt of [1, 2]) {
        const crash = new HandRotation(rotatorFor(), one);
        await crash.create();
        const before = await accounts();
        let calls = 0;
        crash.onAssert = () => {
          calls += 1;
          if (calls === killedAt) throw new Error('not the holder');
        };
        await expect(crash.apply()).rejects.toThrow('not the holder');
        const after = await accounts();
        expect(after.filter((account, index) => account !== before[index])).toHaveLength(killedAt - 1);
        expect(await can(one.value)).toBe('yes');
        const resumed = new HandRotation(rotatorFor(), one);
        resumed.pending = crash.pending;
        resumed.notes = crash.notes;
        await resumed.apply();
        await resumed.verify();
        const applied = await accounts();
        resumed.onAssert = () => {
          throw new Error('not the holder');
        };
        await expect(resumed.retire()).rejects.toThrow('not the holder');
        await expect(resumed.undo()).rejects.toThrow('not the holder');
        expect(await accounts()).toEqual(applied);
        resumed.onAssert = () => undefined;
        await resumed.undo();
        expect([await can(one.value), await can(pendingOf(resumed))]).toEqual(['yes', 1045]);
      }
    });

    it('keeps other ways of logging in, limits and grants', async () => {
      const one = await existing('WITH MAX_USER_CONNECTIONS 9');
      await server.query(
        `ALTER USER ${name()} IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('${one.value.password}')`,
      );
      const rotation = new HandRotation(rotatorFor(), one);
      await rotation.upToPromotion();
      await rotation.retire();
      const [row] = await server.query<Record<string, string>>(`SHOW CREATE USER ${name()}`);
      expect(Object.values(row ?? {})[0]).toMatch(
        /IDENTIFIED VIA unix_socket OR mysql_native_password USING '\*\w{40}' WITH MAX_USER_CONNECTIONS 9/,
      );
    });
  });

  describe('undo', () => {
    it('takes the new password back, whether or not it had been given', async () => {
      const one = await existing();
      const rotation = new HandRotation(rotatorFor(), one);
      await rotation.create();
      await rotation.undo();
      await rotation.apply();
      expect(await can(pendingOf(rotation))).toBe('yes');
      await rotation.undo();
      await rotation.undo();
      expect([await can(one.value), await can(pendingOf(rotation))]).toEqual(['yes', 1045]);
    });
  });

  describe('the first version', () => {
    it('creates the user, and is undone', async () => {
      const { host, port, database } = server;
      const rotator = rotatorFor({ connection: { host, port, database }, username });
      const rotation = new HandRotation(rotator, undefined);
      const { value } = await rotation.upToPromotion();
      expect(await outcomeOf(queryAs(server, value, `CREATE TABLE app.d${serial} (id int)`))).toBe('yes');
      await rotation.undo();
      await rotation.undo();
      expect(await can(value)).toBe(1045);
    });
  });

  describe('a rehearsal', () => {
    it('gives a second password to a user like the current one, and leaves nothing behind', async () => {
      username = `d${serial}`;
      const one = await existing();
      await server.query(`GRANT SELECT ON mysql.db TO ${name()}`);
      const before = await server.query('SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2');
      const rotation = new HandRotation(rehearsalOf(rotatorFor()), one);
      const { value } = await rotation.create();
      await rotation.apply();
      await rotation.apply();
      await rotation.verify();
      expect(await outcomeOf(queryAs(server, value, 'SELECT 1 FROM mysql.db'))).toBe('yes');
      await rotation.undo();
      await rotation.undo();
      expect(await server.query('SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2')).toEqual(before);
      expect(await usersLike(server, username)).toEqual([username]);
    });
  });

  describe('what goes wrong', () => {
    it('fails verify when the current password went lost meanwhile', async () => {
      const one = await existing();
      const rotation = new HandRotation(rotatorFor(), one);
      const { value } = await rotation.create();
      await expect(rotation.verify()).rejects.toMatchObject({ code: 'TARGET_REFUSED' });
      await rotation.apply();
      await server.query(`ALTER USER ${name()} IDENTIFIED BY '${value.password}'`);
      await expect(rotation.verify()).rejects.toMatchObject({
        code: 'TARGET_REFUSED',
        message: expect.stringContaining('no longer the current one'),
      });
    });

    it('retires another user as a whole, and says so when the old password is the new', async () => {
      const one = await existing();
      const other = version({ username: `other_${serial}`, password: 'other-password' });
      await server.query(`CREATE USER other_${serial} IDENTIFIED BY 'other-password'`);
      const rotation = new HandRotation(rotatorFor(), one);
      rotation.pending = { ...one, versionId: 'v2' };
      await expect(rotation.retire()).rejects.toMatchObject({ code: 'OLD_CREDENTIAL_ALIVE' });
      rotation.pending = other;
      expect(await rotation.retire()).toEqual({ refused: true, sessionsEnded: 0, sessionsLeft: 0 });
      expect([await can(one.value), await can(other.value)]).toEqual([1045, 'yes']);
    });

    it('needs an administrator', () => {
      expect(() => rotatorFor({ admin: undefined as never })).toThrow(
        expect.objectContaining({ code: 'ROTATOR_OPTIONS_INVALID' }),
      );
    });

    it('stops when it is told to', async () => {
      const one = await existing();
      const rotation = new HandRotation(rotatorFor(), one);
      await rotation.create();
      rotation.signal.abort();
      await expect(rotation.apply()).rejects.toMatchObject({ name: 'AbortError' });
    });
  });
});
