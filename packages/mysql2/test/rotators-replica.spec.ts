import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { systemClock } from '@nestjs-secrets/core';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb, type MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { mysqlAlternatingUsers, type MysqlAlternatingUsersOptions } from '../src/rotators/index.js';
import { MysqlTarget } from '../src/rotators/mysql-target.js';
import { HandRotation, outcomeOf, queryAs, usersLike } from './rotators-fixture.js';

describeWithMariadb('a primary and a replica', () => {
  let primary: MariadbServer;
  let replica: MariadbServer;

  beforeAll(async () => {
    [primary, replica] = await Promise.all([
      startMariadb({ settings: { 'log-bin': 'primary', 'server-id': '1' } }),
      startMariadb({ settings: { 'server-id': '2', 'read-only': '1' } }),
    ]);
    const { username, password } = primary.admin;
    await replica.query(
      `CHANGE MASTER TO MASTER_HOST = '${primary.host}', MASTER_PORT = ${primary.port}, MASTER_USER = '${username}', MASTER_PASSWORD = '${password}', MASTER_USE_GTID = slave_pos`,
    );
    await replica.query('START SLAVE');
  });
  afterAll(() => Promise.all([primary.stop(), replica.stop()]));

  const rotatorFor = (options: Partial<MysqlAlternatingUsersOptions>) => {
    const { host, port, database } = primary;
    return mysqlAlternatingUsers({
      connection: { host, port, database },
      replicas: [{ host: replica.host, port: replica.port, database }],
      admin: primary.admin,
      baseName: 'app',
      ...options,
    });
  };

  it('waits for a replica that lags, and probes it as the new user', async () => {
    await primary.query('CREATE TABLE app.orders (id int)');
    const probed: unknown[] = [];
    const rotator = rotatorFor({
      probes: [
        async (connection, server) => {
          await connection.query('SELECT id FROM orders');
          const [rows] = await connection.query('SELECT @@server_id AS id, @@read_only AS ro');
          probed.push([server, rows]);
        },
      ],
    });
    await replica.query('STOP SLAVE SQL_THREAD');
    const rotation = new HandRotation(rotator, undefined);
    const { value } = await rotation.create();
    await rotation.apply();
    let over = false;
    const verified = rotation.verify().finally(() => (over = true));
    const refused = (): boolean => replica.log().includes(`Access denied for user '${value.username}'`);
    while (!refused() && !over) await new Promise((resolve) => setImmediate(resolve));
    expect(probed).toEqual([['primary', [{ id: 1, ro: 0 }]]]);
    await replica.query('START SLAVE SQL_THREAD');
    await verified;
    expect(probed.at(-1)).toEqual(['replica', [{ id: 2, ro: 1 }]]);

    // Retired on the primary, it is refused by the replica too, once that has caught up.
    const next = new HandRotation(rotator, rotation.pending);
    await next.upToPromotion();
    expect(await next.retire()).toMatchObject({ refused: true });
    const [position] = await primary.query<{ gtid: string }>('SELECT @@gtid_binlog_pos AS gtid');
    await replica.query('SELECT MASTER_GTID_WAIT(?)', [position?.gtid]);
    expect(await outcomeOf(queryAs(replica, value, 'SELECT 1'))).toBe(1045);
  });

  it('gives up on a replica that does not learn it in time', async () => {
    await replica.query('STOP SLAVE SQL_THREAD');
    const never = new HandRotation(rotatorFor({ replicaLagLimitMs: 0, baseName: 'never' }), undefined);
    await never.create();
    await never.apply();
    await expect(never.verify()).rejects.toMatchObject({
      code: 'TARGET_REFUSED',
      message: expect.stringContaining(`${replica.port}`),
    });
    await replica.query('START SLAVE SQL_THREAD');
  });

  it('stops a probe that fails on the replica alone', async () => {
    const failure = new Error('the replica has another collation');
    const rotation = new HandRotation(
      rotatorFor({
        baseName: 'probed',
        probes: [(_connection, server) => (server === 'replica' ? Promise.reject(failure) : Promise.resolve())],
      }),
      undefined,
    );
    await rotation.create();
    await rotation.apply();
    await expect(rotation.verify()).rejects.toBe(failure);
  });

  it('refuses a change that arrives long after it was sent', async () => {
    const { host, port } = primary;
    let behind = 0;
    const clock = { ...systemClock, now: () => systemClock.now() - behind };
    const hold = { clock, signal: new AbortController().signal, assertHolder: () => undefined };
    const target = new MysqlTarget({ host, port });
    await target.session(primary.admin, 'testing', hold, async (session) => {
      await session.change('CREATE USER in_time');
      // As if the process had been frozen for a minute after its last look at the clock.
      behind = 60_000;
      await expect(session.change('CREATE USER too_late')).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    });
    expect([await usersLike(primary, 'in_time'), await usersLike(primary, 'too_late')]).toEqual([['in_time'], []]);
  });
});
