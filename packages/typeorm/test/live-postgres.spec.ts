import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { inspect } from 'node:util';
import { LivePool } from '@nestjs-secrets/pg';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { DataSource, EntitySchema, type DataSourceOptions, type EntityTarget } from 'typeorm';
import { DataSource as DataSource03, EntitySchema as EntitySchema03 } from 'typeorm-0.3';
import { createRoles, eventually, firstCredentials, HandMadeSecret } from '../../pg/test/live-pool-fixture.js';
import { livePostgres } from '../src/live-postgres.js';

type PostgresOptions = Extract<DataSourceOptions, { type: 'postgres' }>;

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

let postgres: PostgresServer;
const sources: DataSource[] = [];

beforeAll(async () => {
  postgres = await startPostgres();
  await createRoles(postgres, 'app_a', 'app_b');
  await postgres.query('CREATE TABLE orders (id serial PRIMARY KEY, item text NOT NULL)');
  await postgres.query('GRANT ALL ON orders, orders_id_seq TO app_a, app_b');
});

afterAll(() => postgres.stop());

afterEach(async () => {
  for (const source of sources.splice(0)) if (source.isInitialized) await source.destroy();
});

const sessionsOf = async (role: string): Promise<number> =>
  (await postgres.query('SELECT 1 FROM pg_stat_activity WHERE usename = $1', [role])).length;

const userOf = async (source: { query(sql: string): Promise<unknown> }): Promise<unknown> =>
  ((await source.query('SELECT current_user AS name')) as { name: string }[])[0]?.name;

describe.each(versions)('livePostgres, %s', (_version, Source, target) => {
  const where = (): Pick<PostgresOptions, 'host' | 'port' | 'database'> => ({
    host: postgres.host,
    port: postgres.port,
    database: postgres.database,
  });

  async function connect(secret: HandMadeSecret, options: Partial<PostgresOptions>): Promise<DataSource> {
    const source = new Source({ ...livePostgres(secret), entities: [target as EntitySchema], ...options });
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
    await eventually('new connections are of the new role', async () => (await userOf(source)) === 'app_b');
    expect(await userOf(runner)).toBe('app_a');
    await runner.commitTransaction();
    await runner.release();
    await eventually('the old role has no session left', async () => (await sessionsOf('app_a')) === 0);

    expect(source.manager).toBe(manager);
    expect(source.getRepository(target)).toBe(repository);
    await repository.save({ item: 'after' });
    expect(await repository.findBy([{ item: 'before' }, { item: 'within' }, { item: 'after' }])).toHaveLength(3);
    expect(await manager.transaction((inner) => inner.countBy(target, { item: 'within' }))).toBe(1);
    expect(secret.held()).toEqual(['v2']);
    await repository.createQueryBuilder().delete().execute();
  });

  it('leaves nothing open when the DataSource is destroyed, also in the middle of a rotation', async () => {
    const secret = newSecret();
    const source = await connect(secret, where());
    await Promise.all([1, 2, 3, 4].map(() => source.query('SELECT pg_sleep(0.05)')));
    secret.publish('v2', firstCredentials('app_b'));
    await source.destroy();
    await eventually('no session is left', async () => (await sessionsOf('app_a')) + (await sessionsOf('app_b')) === 0);
    expect(secret.consumers.size).toBe(0);
    expect(secret.changes$.observed).toBe(false);
  });

  it('uses the secret rather than credentials in url, extra or next to it', async () => {
    const secret = newSecret();
    const { host, port, database } = where();
    const source = await connect(secret, {
      url: `postgres://nobody:wrong@${host}:${port}/${database}`,
      username: 'nobody',
      password: 'wrong',
      extra: { user: 'nobody', password: 'wrong', max: 2 },
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
        slaves: [{ host, port, database, ...wrong }, { url: `postgres://nobody:wrong@${host}:${port}/${database}` }],
      },
    });
    const pools = source.driver as unknown as { master: unknown; slaves: unknown[] };
    expect([pools.master, ...pools.slaves].every((pool) => pool instanceof LivePool)).toBe(true);
    const readOn = async (mode: 'master' | 'slave'): Promise<unknown> => {
      const runner = source.createQueryRunner(mode);
      try {
        return await userOf(runner);
      } finally {
        await runner.release();
      }
    };
    // TypeORM picks a replica by chance: enough reads at once meet both.
    expect(new Set(await Promise.all(Array.from({ length: 20 }, () => readOn('slave'))))).toEqual(new Set(['app_a']));
    expect(await readOn('master')).toBe('app_a');
    secret.publish('v2', firstCredentials('app_b'));
    await eventually('no pool has a session of the old role', async () => (await sessionsOf('app_a')) === 0);
    expect(await readOn('master')).toBe('app_b');
    expect(new Set(await Promise.all(Array.from({ length: 20 }, () => readOn('slave'))))).toEqual(new Set(['app_b']));
    await source.destroy();
    expect(secret.consumers.size).toBe(0);
  });

  it('shows no credential in its options or errors', async () => {
    const secret = newSecret();
    const source = await connect(secret, where());
    secret.publish('v2', firstCredentials('app_b'));
    await eventually('the pool has moved', async () => (await userOf(source)) === 'app_b');
    const failure: unknown = await source
      .query('SELECT $1::text FROM no_such_table', ['x'])
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
    expect(failure).toMatchObject({ message: expect.stringMatching(/app_a|refused/) });
    expect(inspect(failure, { depth: 30, showHidden: true })).not.toContain('canary');
  });
});
