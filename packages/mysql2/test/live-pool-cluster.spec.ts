import { afterAll, beforeAll, beforeEach, expect, it } from '@jest/globals';
import mysql from 'mysql2';
import type { PoolConnection } from 'mysql2';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import type { MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { startMariadb } from 'nestjs-secrets-test/mariadb-server';
import { liveMysqlModule, LiveMysqlPool, LiveMysqlPoolCluster } from '../src/pool/index.js';
import {
  createUsers,
  eventually,
  firstCredentials,
  HandMadeSecret,
  sessionsOf,
  setPassword,
  settled,
  whoAmI,
} from './live-pool-fixture.js';

describeWithMariadb('liveMysqlModule', () => {
  let server: MariadbServer;
  let secret: HandMadeSecret;

  beforeAll(async () => {
    server = await startMariadb();
    await createUsers(server, 'node_a', 'node_b');
  });
  afterAll(() => server.stop());
  beforeEach(() => {
    secret = new HandMadeSecret('v1', firstCredentials('node_a'));
  });

  const node = (): { host: string; port: number; database: string; user: string; password: string } => ({
    host: server.host,
    port: server.port,
    database: server.database,
    user: 'nobody',
    password: 'wrong',
  });

  const connectionOf = (cluster: mysql.PoolCluster, pattern: string): Promise<PoolConnection> =>
    new Promise((resolve, reject) => {
      cluster.getConnection(pattern, (error, connection) => (error ? reject(error) : resolve(connection)));
    });

  async function userOn(cluster: mysql.PoolCluster, pattern: string): Promise<unknown> {
    const connection = await connectionOf(cluster, pattern);
    try {
      return await whoAmI(connection);
    } finally {
      connection.release();
    }
  }

  const end = (cluster: mysql.PoolCluster): Promise<unknown> => new Promise((resolve) => cluster.end(resolve));

  it('is mysql2 with pools on the secret, whatever credentials their configuration carries', async () => {
    const live = liveMysqlModule(secret, { endTimeoutMs: 20 });
    expect(live.format).toBe(mysql.format);
    expect(live.createConnection).toBe(mysql.createConnection);
    const pool = live.createPool({ ...node(), connectionLimit: 3 });
    expect(pool).toBeInstanceOf(LiveMysqlPool);
    expect(pool.config.connectionLimit).toBe(3);
    expect(await whoAmI(pool)).toBe('node_a');
    await pool.end();
    const byUri = live.createPool(`mysql://nobody:wrong@${server.host}:${server.port}/${server.database}`);
    expect(await whoAmI(byUri)).toBe('node_a');
    await byUri.end();
  });

  it('has clusters whose nodes are all live, through rotations', async () => {
    const cluster: mysql.PoolCluster = liveMysqlModule(secret).createPoolCluster({ defaultSelector: 'RR' });
    expect(cluster).toBeInstanceOf(LiveMysqlPoolCluster);
    cluster.add('MASTER', node());
    cluster.add('SLAVE0', node());
    cluster.add('SLAVE1', `mysql://nobody:wrong@${server.host}:${server.port}/${server.database}`);
    cluster.add('SLAVE1', { ...node(), port: 1 });
    cluster.add(node());
    expect(secret.consumers.size).toBe(4);
    for (const pattern of ['MASTER', 'SLAVE*', 'SLAVE*', '*']) expect(await userOn(cluster, pattern)).toBe('node_a');
    secret.publish('v2', firstCredentials('node_b'));
    await eventually('only v2', () => secret.held().join() === 'v2');
    for (const pattern of ['MASTER', 'SLAVE*', 'SLAVE*', '*']) expect(await userOn(cluster, pattern)).toBe('node_b');
    await end(cluster);
    expect(secret.consumers.size).toBe(0);
    await eventually('no session left', async () => (await sessionsOf(server, 'node_')) === 0);
  });

  it('asks a node again that was refused until it was put aside', async () => {
    // Back after the second that is our default: with a few milliseconds it would be back before mysql2 has looked whether there is another node.
    const cluster: mysql.PoolCluster = new LiveMysqlPoolCluster(secret, { removeNodeErrorCount: 2 });
    cluster.add('MASTER', node());
    let offline = 0;
    cluster.on('offline', () => (offline += 1));
    await setPassword(server, 'node_a', 'changed behind our back');
    expect(await settled(connectionOf(cluster, 'MASTER'))).toMatchObject({ reason: { errno: 1045 } });
    expect(offline).toBe(1);
    await setPassword(server, 'node_a', firstCredentials('node_a').password);
    await eventually('back', async () => (await settled(userOn(cluster, 'MASTER'))).status === 'fulfilled');
    await end(cluster);
  });

  it('finds the nodes of a cluster where it looks for them, in the mysql2 that is installed', async () => {
    const cluster = new LiveMysqlPoolCluster(secret);
    cluster.add('MASTER', node());
    const { _nodes: nodes } = cluster as unknown as { _nodes: Record<string, { pool: unknown }> };
    expect(nodes['MASTER']?.pool).toBeInstanceOf(LiveMysqlPool);
    await end(cluster);

    const unknown = new LiveMysqlPoolCluster(secret);
    Reflect.deleteProperty(unknown, '_nodes');
    expect(() => unknown.add('MASTER', node())).toThrow(expect.objectContaining({ code: 'LIVE_POOL_CONFIG_INVALID' }));
  });
});
