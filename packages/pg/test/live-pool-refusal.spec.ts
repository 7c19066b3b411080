import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import { LivePool } from '../src/pool/index.js';
import { createRoles, eventually, firstCredentials, HandMadeSecret, settled } from './live-pool-fixture.js';

describe('LivePool, refused for its credentials', () => {
  let server: PostgresServer;
  let target: { host: string; port: number; database: string };
  let roles = 0;

  beforeAll(async () => {
    server = await startPostgres();
    target = { host: server.host, port: server.port, database: server.database };
  });
  afterAll(() => server.stop());

  const setPassword = (role: string, password: string): Promise<unknown> =>
    server.query(`ALTER ROLE ${role} PASSWORD '${password}'`);

  /** Counts the log-ins the server has refused to a role. */
  const refusals = (role: string): number =>
    server.log().split(`password authentication failed for user "${role}"`).length - 1;

  async function createRole(): Promise<{ role: string; secret: HandMadeSecret }> {
    roles += 1;
    const role = `refused_${roles}`;
    await createRoles(server, role);
    return { role, secret: new HandMadeSecret('v1', firstCredentials(role)) };
  }

  it('tries each candidate, and works with the one that opens', async () => {
    const { role, secret } = await createRole();
    secret.others = [
      secret.version('v2', { username: role, password: 'second' }),
      secret.version('v3', { username: role, password: 'third' }),
    ];
    await setPassword(role, 'third');
    const pool = new LivePool(secret, target);
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await eventually('v3, and v1 that it stands in for', () => secret.held().toSorted().join() === 'v1,v3');
    expect(secret.asked).toBe(1);
    await pool.end();
  });

  it('gives the refusal when every candidate was refused, and tries again for the next caller', async () => {
    const { role, secret } = await createRole();
    secret.others = [secret.version('v2', { username: role, password: 'second' })];
    await setPassword(role, 'unknown');
    const pool = new LivePool(secret, target);
    for (let call = 0; call < 2; call += 1) {
      const refused = await settled(pool.query('SELECT 1'));
      expect(refused).toMatchObject({ status: 'rejected', reason: { code: '28P01' } });
    }
    await eventually('the server has logged the refusals', () => refusals(role) >= 8);
    // Both twice each time, since a change may have been made or undone while the other one was tried.
    expect(refusals(role)).toBe(8);
    await setPassword(role, 'second');
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    await pool.end();
  });

  it('goes on with what is known when the source is out, and gives the refusal', async () => {
    const { role, secret } = await createRole();
    secret.outage = new Error('source out');
    await setPassword(role, 'second');
    const pool = new LivePool(secret, target);
    expect(await settled(pool.connect())).toMatchObject({ status: 'rejected', reason: { code: '28P01' } });
    await pool.end();
  });

  it('tries the next one for a role that may not log in (28000), and not for a database that does not exist', async () => {
    const { role, secret } = await createRole();
    const other = await createRole();
    await server.query(`ALTER ROLE ${role} NOLOGIN`);
    secret.others = [secret.version('v0', firstCredentials(other.role))];
    const pool = new LivePool(secret, target);
    expect((await pool.query('SELECT current_user AS name')).rows).toEqual([{ name: other.role }]);
    await pool.end();

    const asked = other.secret.asked;
    const lost = new LivePool(other.secret, { ...target, database: 'nowhere' });
    expect(await settled(lost.connect())).toMatchObject({ status: 'rejected', reason: { code: '3D000' } });
    expect(other.secret.asked).toBe(asked);
    await lost.end();
  });

  it('lets one refusal teach the whole pool, and asks the source once for all', async () => {
    const { role, secret } = await createRole();
    secret.others = [secret.version('v2', { username: role, password: 'second' })];
    await setPassword(role, 'second');
    const pool = new LivePool(secret, { ...target, max: 4 });
    const clients = await Promise.all([pool.connect(), pool.connect(), pool.connect(), pool.connect()]);
    expect(secret.asked).toBe(1);
    const paid = refusals(role);
    expect(paid).toBeLessThanOrEqual(4);
    clients.pop()?.release(true);
    clients.push(await pool.connect());
    await eventually('its log-in is logged', () => refusals(role) >= paid);
    expect(refusals(role)).toBe(paid);
    for (const client of clients) client.release();
    await pool.end();
  });

  it('blames the version the failed connection used, not the newest one', async () => {
    const { role, secret } = await createRole();
    await setPassword(role, 'second');
    const pool = new LivePool(secret, target);
    // The log-in is under way with v1 as v2 becomes current: v1 is to blame, and v2 must be tried.
    const opening = pool.connect();
    secret.publish('v2', { username: role, password: 'second' });
    const client = await opening;
    expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    client.release();
    await eventually('only v2', () => secret.held().join() === 'v2');
    expect(pool.totalCount).toBe(1);
    await eventually('the refusal is logged', () => refusals(role) > 0);
    expect(refusals(role)).toBe(1);
    await pool.end();
  });

  it('survives a candidate that worked and was then undone', async () => {
    const { role, secret } = await createRole();
    secret.others = [secret.version('v2', { username: role, password: 'second' })];
    await setPassword(role, 'second');
    const pool = new LivePool(secret, target);
    await pool.query('SELECT 1');
    await setPassword(role, firstCredentials(role).password);
    secret.others = [];
    const held = await pool.connect();
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    held.release();
    await pool.end();
  });

  it('replaces connections opened with a candidate once the current version is accepted', async () => {
    const { role, secret } = await createRole();
    const other = await createRole();
    await setPassword(role, 'not yet known here');
    secret.others = [secret.version('v0', firstCredentials(other.role))];
    const pool = new LivePool(secret, target);
    await pool.query('SELECT 1');
    expect(secret.held()).toContain('v0');
    await setPassword(role, firstCredentials(role).password);
    await eventually('v0 drained', () => secret.held().join() === 'v1');
    await pool.end();
  });

  it('replaces a stand-in once more when its own version becomes current, and holds what it stood in for until then', async () => {
    const { role, secret } = await createRole();
    await setPassword(role, 'second');
    const second = { username: role, password: 'second' };
    secret.others = [secret.version('v2', second)];
    const pool = new LivePool(secret, target);
    const client = await pool.connect();
    const backend = async (): Promise<unknown> => (await pool.query('SELECT pg_backend_pid() AS id')).rows[0].id;
    const standIn = (await client.query('SELECT pg_backend_pid() AS id')).rows[0].id;
    secret.others = [];
    secret.publish('v2', second);
    expect(secret.held().toSorted()).toEqual(['v1', 'v2']);
    client.release();
    await eventually('v1 let go', () => secret.held().join() === 'v2');
    expect(await backend()).not.toBe(standIn);
    await pool.end();
  });

  it('comes back to the current version when a change was undone while the other one was tried', async () => {
    const { role, secret } = await createRole();
    const first = firstCredentials(role);
    await setPassword(role, 'second');
    secret.others = [secret.version('v2', { username: role, password: 'second' })];
    secret.onAsked = () => setPassword(role, first.password);
    const pool = new LivePool(secret, target);
    expect((await pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    expect(secret.reported.map(({ versionId }) => versionId)).toEqual(['v1', 'v2']);
    await pool.end();
  });

  it('names candidates it keeps for later as held, and drops them once the current version is accepted', async () => {
    const { role, secret } = await createRole();
    const [standIn, spare] = [await createRole(), await createRole()];
    await setPassword(role, 'not yet known here');
    secret.others = [
      secret.version('v9', { username: role, password: 'wrong' }),
      secret.version('v0', firstCredentials(standIn.role)),
      secret.version('v00', firstCredentials(spare.role)),
    ];
    const pool = new LivePool(secret, target);
    let heldWhenTold: string[] = [];
    secret.onUpdate = () => (heldWhenTold = secret.held());
    const client = await pool.connect();
    // v9 was refused and is of no use; v00 may be needed next; the connection with v0 stands in for v1.
    await eventually('only what may be needed', () => secret.held().toSorted().join() === 'v0,v00,v1');
    expect(heldWhenTold.toSorted()).toEqual(['v0', 'v00', 'v1']);
    client.release();
    await setPassword(role, firstCredentials(role).password);
    await eventually('the candidates dropped', () => secret.held().join() === 'v1');
    expect(heldWhenTold).toEqual(['v1']);
    await pool.end();
  });

  it('drops the candidates it kept when the secret changes', async () => {
    const { role, secret } = await createRole();
    const standIn = await createRole();
    await setPassword(role, 'not yet known here');
    secret.others = [
      secret.version('v0', firstCredentials(standIn.role)),
      secret.version('v00', firstCredentials(role)),
    ];
    const pool = new LivePool(secret, target);
    const client = await pool.connect();
    client.release(true);
    await eventually('its socket closed', () => pool.totalCount === 0);
    await eventually('only candidates held', () => secret.held().toSorted().join() === 'v0,v00');
    secret.others = [];
    secret.publish('v2', firstCredentials(standIn.role));
    await eventually('nothing held', () => secret.held().length === 0);
    await pool.end();
  });

  it('fails nobody when the password changes before the version is published, under load', async () => {
    const { role, secret } = await createRole();
    const pool = new LivePool(secret, { ...target, max: 5, maxUses: 3 });
    let working = true;
    const failures: unknown[] = [];
    let done = 0;
    const workers = Array.from({ length: 12 }, async () => {
      while (working) {
        await pool.query('SELECT pg_sleep(0.002)').then(
          () => (done += 1),
          (error: unknown) => failures.push(error),
        );
      }
    });
    for (let number = 2; number <= 6; number += 1) {
      const next = secret.version(`v${number}`, { username: role, password: `password ${number}` });
      secret.others = [next];
      await setPassword(role, next.value.password);
      // As many log-ins as it takes to be sure that some met the window.
      const enough = done + 30;
      await eventually('30 queries in the window', () => done >= enough);
      secret.publish(next.versionId, next.value);
      secret.others = [];
    }
    working = false;
    await Promise.all(workers);
    expect(failures).toEqual([]);
    expect(refusals(role)).toBeGreaterThan(0);
    await pool.end();
  });
});
