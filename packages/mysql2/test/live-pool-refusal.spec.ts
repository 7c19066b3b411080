import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import type { MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { startMariadb } from 'nestjs-secrets-test/mariadb-server';
import {
  borrow,
  borrowAll,
  createPool,
  createUsers,
  eventually,
  firstCredentials,
  lock,
  rowsOf,
  setPassword,
  settled,
  whoAmI,
} from './live-pool-fixture.js';
import type { PoolOnSecret } from './live-pool-fixture.js';

describeWithMariadb('LiveMysqlPool, refused for its credentials', () => {
  let server: MariadbServer;
  let users = 0;

  beforeAll(async () => {
    server = await startMariadb();
  });
  afterAll(() => server.stop());

  async function createUser(): Promise<string> {
    users += 1;
    await createUsers(server, `refused_${users}`);
    return `refused_${users}`;
  }

  async function createRefused(config?: Parameters<typeof createPool>[2]): Promise<PoolOnSecret & { user: string }> {
    const user = await createUser();
    return { user, ...createPool(server, firstCredentials(user), config) };
  }

  const refusals = ({ secret }: PoolOnSecret): string[] => secret.reported.map(({ versionId }) => versionId);

  it('tries each candidate, and works with the one that opens', async () => {
    const refused = await createRefused();
    const { user, secret, pool } = refused;
    secret.others = [
      secret.version('v2', { username: user, password: 'second' }),
      secret.version('v3', { username: user, password: 'third' }),
    ];
    await setPassword(server, user, 'third');
    expect(await rowsOf(pool, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await eventually('v3, and v1 that it stands in for', () => secret.held().toSorted().join() === 'v1,v3');
    expect(secret.asked).toBe(1);
    expect(refusals(refused)).toEqual(['v1', 'v2']);
    await pool.end();
  });

  it('gives the refusal when every candidate was refused, and tries again for the next caller', async () => {
    const refused = await createRefused();
    const { user, secret, pool } = refused;
    secret.others = [secret.version('v2', { username: user, password: 'second' })];
    await setPassword(server, user, 'unknown');
    for (let call = 0; call < 2; call += 1) {
      expect(await settled(borrow(pool))).toMatchObject({ status: 'rejected', reason: { errno: 1045 } });
    }
    // Both twice each time, since a change may have been made or undone while the other one was tried.
    expect(refusals(refused).toSorted()).toEqual(['v1', 'v1', 'v1', 'v1', 'v2', 'v2', 'v2', 'v2']);
    await setPassword(server, user, 'second');
    expect(await whoAmI(pool)).toBe(user);
    await pool.end();
  });

  it('goes on with what is known when the source is out, and gives the refusal', async () => {
    const { user, secret, pool } = await createRefused();
    secret.outage = new Error('source out');
    await setPassword(server, user, 'second');
    expect(await settled(borrow(pool))).toMatchObject({ status: 'rejected', reason: { errno: 1045 } });
    await pool.end();
  });

  it('tries the next one for a locked account (4151) and for a database it may not enter (1044), and not for one that does not exist', async () => {
    const other = await createUser();
    const locked = await createRefused();
    await lock(server, locked.user);
    locked.secret.others = [locked.secret.version('v0', firstCredentials(other))];
    expect(await whoAmI(locked.pool)).toBe(other);
    expect(locked.secret.reported).toMatchObject([{ versionId: 'v1', kind: 'authentication', code: '4151' }]);
    await locked.pool.end();

    const barred = await createRefused();
    await server.query(`REVOKE ALL ON ${server.database}.* FROM '${barred.user}'@'%'`);
    barred.secret.others = [barred.secret.version('v0', firstCredentials(other))];
    expect(await whoAmI(barred.pool)).toBe(other);
    expect(barred.secret.reported).toMatchObject([{ versionId: 'v1', kind: 'permission', code: '1044' }]);
    await barred.pool.end();

    await server.query(`GRANT ALL ON nowhere.* TO '${other}'@'%'`);
    const lost = createPool(server, firstCredentials(other), { database: 'nowhere' });
    expect(await settled(borrow(lost.pool))).toMatchObject({ status: 'rejected', reason: { errno: 1049 } });
    expect(lost.secret.asked).toBe(0);
    expect(lost.secret.reported).toEqual([]);
    await lost.pool.end();
  });

  it('takes the other of two passwords that are valid at once', async () => {
    const refused = await createRefused();
    const { user, secret, pool } = refused;
    const first = firstCredentials(user).password;
    await server.query(
      `ALTER USER '${user}'@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('${first}') OR mysql_native_password USING PASSWORD('second')`,
    );
    const old = await borrow(pool);
    secret.publish('v2', { username: user, password: 'second' });
    const fresh = await borrow(pool);
    expect(await whoAmI(fresh)).toBe(user);
    expect(pool.generations().get('v2')?.busy).toBe(1);
    old.release();
    fresh.release();
    await eventually('v1 drained', () => secret.held().join() === 'v2');
    expect(secret.reported).toEqual([]);
    await pool.end();
  });

  it('lets one refusal teach the whole pool, and asks the source once for all', async () => {
    const refused = await createRefused({ connectionLimit: 4 });
    const { user, secret, pool } = refused;
    secret.others = [secret.version('v2', { username: user, password: 'second' })];
    await setPassword(server, user, 'second');
    const connections = await borrowAll(pool, 4);
    expect(secret.asked).toBe(1);
    const paid = secret.reported.length;
    expect(paid).toBeLessThanOrEqual(4);
    connections.pop()?.destroy();
    connections.push(await borrow(pool));
    expect(secret.reported).toHaveLength(paid);
    for (const connection of connections) connection.release();
    await pool.end();
  });

  it('blames the version the failed connection used, not the newest one', async () => {
    const refused = await createRefused();
    const { user, secret, pool } = refused;
    await setPassword(server, user, 'second');
    // The log-in is under way with v1 as v2 becomes current: v1 is to blame, and v2 must be tried.
    const opening = borrow(pool);
    secret.publish('v2', { username: user, password: 'second' });
    const connection = await opening;
    expect(await whoAmI(connection)).toBe(user);
    connection.release();
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(refusals(refused)).toEqual(['v1']);
    await pool.end();
  });

  it('survives a candidate that worked and was then undone', async () => {
    const { user, secret, pool } = await createRefused();
    secret.others = [secret.version('v2', { username: user, password: 'second' })];
    await setPassword(server, user, 'second');
    await whoAmI(pool);
    await setPassword(server, user, firstCredentials(user).password);
    secret.others = [];
    const held = await borrow(pool);
    expect(await whoAmI(pool)).toBe(user);
    held.release();
    await pool.end();
  });

  it('replaces connections opened with a candidate once the current version is accepted', async () => {
    const { user, secret, pool } = await createRefused();
    const other = await createUser();
    await setPassword(server, user, 'not yet known here');
    secret.others = [secret.version('v0', firstCredentials(other))];
    expect(await whoAmI(pool)).toBe(other);
    expect(secret.held()).toContain('v0');
    await setPassword(server, user, firstCredentials(user).password);
    await eventually('v0 drained', () => secret.held().join() === 'v1');
    await pool.end();
  });

  it('replaces a stand-in once more when its own version becomes current, and holds what it stood in for until then', async () => {
    const { user, secret, pool } = await createRefused();
    await setPassword(server, user, 'second');
    const second = { username: user, password: 'second' };
    secret.others = [secret.version('v2', second)];
    const connection = await borrow(pool);
    const standIn = connection.threadId;
    secret.others = [];
    secret.publish('v2', second);
    expect(secret.held().toSorted()).toEqual(['v1', 'v2']);
    connection.release();
    await eventually('v1 let go', () => secret.held().join() === 'v2');
    expect(await rowsOf(pool, 'SELECT CONNECTION_ID() AS id')).not.toEqual([{ id: standIn }]);
    await pool.end();
  });

  it('comes back to the current version when a change was undone while the other one was tried', async () => {
    const refused = await createRefused();
    const { user, secret, pool } = refused;
    await setPassword(server, user, 'second');
    secret.others = [secret.version('v2', { username: user, password: 'second' })];
    secret.onAsked = () => setPassword(server, user, firstCredentials(user).password);
    expect(await whoAmI(pool)).toBe(user);
    expect(refusals(refused)).toEqual(['v1', 'v2']);
    await pool.end();
  });

  it('names candidates it keeps for later as held, and drops them once the current version is accepted', async () => {
    const { user, secret, pool } = await createRefused();
    const [standIn, spare] = [await createUser(), await createUser()];
    await setPassword(server, user, 'not yet known here');
    secret.others = [
      secret.version('v9', { username: user, password: 'wrong' }),
      secret.version('v0', firstCredentials(standIn)),
      secret.version('v00', firstCredentials(spare)),
    ];
    let heldWhenTold: string[] = [];
    secret.onUpdate = () => (heldWhenTold = secret.held());
    const connection = await borrow(pool);
    // v9 was refused and is of no use; v00 may be needed next; the connection with v0 stands in for v1.
    await eventually('only what may be needed', () => secret.held().toSorted().join() === 'v0,v00,v1');
    expect(heldWhenTold.toSorted()).toEqual(['v0', 'v00', 'v1']);
    connection.release();
    await setPassword(server, user, firstCredentials(user).password);
    await eventually('the candidates dropped', () => secret.held().join() === 'v1');
    expect(heldWhenTold).toEqual(['v1']);
    await pool.end();
  });

  it('drops the candidates it kept when the secret changes', async () => {
    const { user, secret, pool } = await createRefused();
    const standIn = await createUser();
    await setPassword(server, user, 'not yet known here');
    secret.others = [secret.version('v0', firstCredentials(standIn)), secret.version('v00', firstCredentials(user))];
    const connection = await borrow(pool);
    connection.destroy();
    await eventually('its socket closed', () => pool.generations().size === 0);
    await eventually('only candidates held', () => secret.held().toSorted().join() === 'v0,v00');
    secret.others = [];
    secret.publish('v2', firstCredentials(standIn));
    await eventually('nothing held', () => secret.held().length === 0);
    await pool.end();
  });

  it('fails nobody when the password changes before the version is published, under load', async () => {
    const refused = await createRefused({ connectionLimit: 5 });
    const { user, secret, pool } = refused;
    let working = true;
    const failures: unknown[] = [];
    let done = 0;
    const work = async (): Promise<void> => {
      const connection = await borrow(pool);
      await connection.promise().query('SELECT SLEEP(0.002)');
      done += 1;
      // Connections that come and go: without them nobody would log in during the window.
      if (done % 3 === 0) connection.destroy();
      else connection.release();
    };
    const workers = Array.from({ length: 12 }, async () => {
      while (working) await work().catch((error: unknown) => failures.push(error));
    });
    for (let number = 2; number <= 6; number += 1) {
      const next = secret.version(`v${number}`, { username: user, password: `password ${number}` });
      secret.others = [next];
      await setPassword(server, user, next.value.password);
      // As many log-ins as it takes to be sure that some met the window.
      const enough = done + 30;
      await eventually('30 queries in the window', () => done >= enough);
      secret.publish(next.versionId, next.value);
      secret.others = [];
    }
    working = false;
    await Promise.all(workers);
    expect(failures).toEqual([]);
    expect(refusals(refused).length).toBeGreaterThan(0);
    await pool.end();
  });
});
