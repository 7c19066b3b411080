import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { inspect } from 'node:util';
import { LiveMysqlPool } from '@nestjs-secrets/mysql2';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb, type MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { DataSource, EntitySchema, type DataSourceOptions, type EntityTarget } from 'typeorm';
import { DataSource as DataSource03, EntitySchema as EntitySchema03 } from 'typeorm-0.3';
import {
  createUsers,
  eventually,
  firstCredentials,
  HandMadeSecret,
  sessionsOf,
  setPassword,
} from '../../mysql2/test/live-pool-fixture.js';
import { liveMysql } from '../src/live-mysql.js';

type MysqlOptions = Extract<DataSourceOptions, { type: 'mysql' | 'mariadb' }>;

interface Order {
  id: number;
  item: string;
}

const orders = {
  name: 'Order',
  tableName: 'orders',
  columns: { id: { type: Number, primary: true, generated: true }, item: { type: String } },
} as const;

// Both majors side by side, seen through the types of the one an application would have.
const versions: [string, typeof DataSource, EntityTarget<Order>][] = [
  ['TypeORM 1.x', DataSource, new EntitySchema<Order>(orders)],
  [
    'TypeORM 0.3',
    DataSource03 as unknown as typeof DataSource,
    new EntitySchema03<Order>(orders) as unknown as EntityTarget<Order>,
  ],
];

describeWithMariadb('liveMysql', () => {
  let server: MariadbServer;
  const sources: DataSource[] = [];

  beforeAll(async () => {
    server = await startMariadb();
    await createUsers(server, 'app_a', 'app_b');
    await server.query(
      `CREATE TABLE ${server.database}.orders (id int PRIMARY KEY AUTO_INCREMENT, item varchar(255) NOT NULL)`,
    );
    await server.query('CREATE DATABASE hidden');
    await server.query('CREATE TABLE hidden.ledger (id int)');
  });

  afterAll(() => server.stop());

  afterEach(async () => {
    for (const source of sources.splice(0)) if (source.isInitialized) await source.destroy();
  });

  const userOf = async (source: { query(sql: string): Promise<unknown> }): Promise<unknown> =>
    ((await source.query(`SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1) AS name`)) as { name: string }[])[0]?.name;

  describe.each(versions)('%s', (_version, Source, target) => {
    const where = (): Pick<MysqlOptions, 'host' | 'port' | 'database'> => ({
      host: server.host,
      port: server.port,
      database: server.database,
    });

    async function connect(secret: HandMadeSecret, options: Partial<MysqlOptions>): Promise<DataSource> {
      const source = new Source({
        ...liveMysql(secret, { type: 'mariadb' }),
        entities: [target as EntitySchema],
        ...options,
      });
      sources.push(source);
      await source.initialize();
      return source;
    }

    const newSecret = (): HandMadeSecret => new HandMadeSecret('v1', firstCredentials('app_a'));

    it('keeps the DataSource, its repository and its manager through a rotation, and its transaction', async () => {
      const secret = newSecret();
      const source = await connect(secret, { ...where(), poolSize: 4 });
      const { manager } = source;
      const repository = source.getRepository(target);
      await repository.save({ item: 'before' });

      const runner = source.createQueryRunner();
      await runner.startTransaction();
      await runner.query(`INSERT INTO orders (item) VALUES ('within')`);
      secret.publish('v2', firstCredentials('app_b'));
      await eventually('new connections are of the new user', async () => (await userOf(source)) === 'app_b');
      expect(await userOf(runner)).toBe('app_a');
      await runner.commitTransaction();
      await runner.release();
      await eventually('the old user has no session left', async () => (await sessionsOf(server, 'app_a')) === 0);

      expect(source.manager).toBe(manager);
      expect(source.getRepository(target)).toBe(repository);
      await repository.save({ item: 'after' });
      expect(await repository.findBy([{ item: 'before' }, { item: 'within' }, { item: 'after' }])).toHaveLength(3);
      expect(await manager.transaction((inner) => inner.countBy(target, { item: 'within' }))).toBe(1);
      expect(secret.held()).toEqual(['v2']);
      expect(secret.reported).toEqual([]);
      await repository.createQueryBuilder().delete().execute();
    });

    it('fails no query while the password of its one user changes before anybody knows', async () => {
      const user = `single_${_version.replace(/\W/g, '_')}`;
      await createUsers(server, user);
      const secret = new HandMadeSecret('v1', firstCredentials(user));
      const source = await connect(secret, { ...where(), poolSize: 4 });
      const repository = source.getRepository(target);
      let working = true;
      const workers = Array.from({ length: 6 }, async () => {
        while (working) {
          await source.transaction(async (manager) => {
            const { id } = await manager.save(target, { item: 'passing' });
            await manager.delete(target, id);
          });
          await repository.countBy({ item: 'passing' });
        }
      });
      for (let round = 2; round <= 6; round += 1) {
        const next = secret.version(`v${round}`, { username: user, password: `password ${round}` });
        secret.others = [next];
        await setPassword(server, user, next.value.password);
        secret.publish(next.versionId, next.value);
        await eventually(`only v${round}`, () => secret.held().join() === `v${round}`);
      }
      working = false;
      await Promise.all(workers);
    });

    it('leaves nothing open when the DataSource is destroyed, also in the middle of a rotation', async () => {
      const secret = newSecret();
      const source = await connect(secret, where());
      await Promise.all([1, 2, 3, 4].map(() => source.query('SELECT SLEEP(0.05)')));
      secret.publish('v2', firstCredentials('app_b'));
      await source.destroy();
      await eventually('no session is left', async () => (await sessionsOf(server, 'app_')) === 0);
      expect(secret.consumers.size).toBe(0);
      expect(secret.changes$.observed).toBe(false);
    });

    it('uses the secret rather than credentials in url, extra or next to it', async () => {
      const secret = newSecret();
      const { host, port, database } = where();
      const source = await connect(secret, {
        url: `mysql://nobody:wrong@${host}:${port}/${database}`,
        username: 'nobody',
        password: 'wrong',
        extra: { user: 'nobody', password: 'wrong', connectionLimit: 2 },
      });
      expect(await userOf(source)).toBe('app_a');
      secret.publish('v2', firstCredentials('app_b'));
      await eventually('the pool has moved', async () => (await userOf(source)) === 'app_b');
    });

    it('keeps master and every replica live', async () => {
      const secret = newSecret();
      const { host, port, database } = where();
      const wrong = { username: 'nobody', password: 'wrong' };
      const source = await connect(secret, {
        replication: {
          master: { host, port, database, ...wrong },
          slaves: [{ host, port, database, ...wrong }, { url: `mysql://nobody:wrong@${host}:${port}/${database}` }],
        },
      });
      const { poolCluster } = source.driver as unknown as {
        poolCluster: { _nodes: Record<string, { pool: unknown }> };
      };
      const pools = Object.values(poolCluster._nodes).map(({ pool }) => pool);
      expect(pools).toHaveLength(3);
      expect(pools.every((pool) => pool instanceof LiveMysqlPool)).toBe(true);
      const readOn = async (mode: 'master' | 'slave'): Promise<unknown> => {
        const runner = source.createQueryRunner(mode);
        try {
          return await userOf(runner);
        } finally {
          await runner.release();
        }
      };
      const readAll = async (): Promise<Set<unknown>> =>
        new Set(await Promise.all([readOn('master'), ...Array.from({ length: 6 }, () => readOn('slave'))]));
      expect(await readAll()).toEqual(new Set(['app_a']));
      secret.publish('v2', firstCredentials('app_b'));
      await eventually('no pool has a session of the old user', async () => (await sessionsOf(server, 'app_a')) === 0);
      expect(await readAll()).toEqual(new Set(['app_b']));
      await source.destroy();
      expect(secret.consumers.size).toBe(0);
    });

    it('tells of a statement its user may not run', async () => {
      const secret = newSecret();
      const source = await connect(secret, where());
      await expect(source.query('SELECT * FROM hidden.ledger WHERE id = ?', [1])).rejects.toMatchObject({
        errno: 1142,
      });
      expect(secret.reported).toMatchObject([{ versionId: 'v1', kind: 'permission', code: '1142' }]);
    });

    it('shows no credential in its options or errors', async () => {
      const secret = newSecret();
      const source = await connect(secret, where());
      secret.publish('v2', firstCredentials('app_b'));
      await eventually('the pool has moved', async () => (await userOf(source)) === 'app_b');
      const failure: unknown = await source
        .query('SELECT ? FROM no_such_table', ['x'])
        .catch((error: unknown) => error);
      expect(failure).toMatchObject({ name: 'QueryFailedError' });
      const shown = (value: unknown): string => inspect(value, { depth: 30, showHidden: true, getters: false });
      expect(shown(failure)).not.toMatch(/first-password/);
      expect(shown(source.options)).not.toMatch(/first-password/);
      expect(JSON.stringify(failure)).not.toMatch(/first-password/);
    });

    it('gives one error without a password when the log-in is refused', async () => {
      const secret = new HandMadeSecret('v1', { username: 'app_a', password: 'canary-of-a-wrong-password' });
      const failure: unknown = await connect(secret, where()).catch((error: unknown) => error);
      expect(failure).toMatchObject({ errno: 1045 });
      expect(inspect(failure, { depth: 30, showHidden: true })).not.toContain('canary');
      expect(secret.consumers.size).toBe(0);
    });
  });
});
