import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { eq } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import { integer, pgTable, text } from 'drizzle-orm/pg-core';
import type { Generated } from 'kysely';
import { Kysely, PostgresDialect, sql } from 'kysely';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import { LivePool } from '../src/pool/index.js';
import { createRoles, eventually, firstCredentials, HandMadeSecret } from './live-pool-fixture.js';

interface Database {
  items: { id: Generated<number>; name: string };
}

const items = pgTable('items', {
  id: integer('id').primaryKey().generatedAlwaysAsIdentity(),
  name: text('name').notNull(),
});

describe('libraries over a live pool, across rotations', () => {
  let server: PostgresServer;
  let secret: HandMadeSecret;
  let pool: LivePool;

  beforeAll(async () => {
    server = await startPostgres();
    await createRoles(server, 'client_a', 'client_b');
    await server.query(
      'CREATE TABLE items (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name text NOT NULL); GRANT ALL ON items TO PUBLIC',
    );
  });
  afterAll(() => server.stop());

  function createPool(): void {
    secret = new HandMadeSecret('v1', firstCredentials('client_a'));
    pool = new LivePool(secret, { host: server.host, port: server.port, database: server.database, max: 2 });
  }

  /** Moves to the other role, waits for the old one to drain, and locks it out. */
  async function rotate(): Promise<string> {
    const [versionId, next, last] =
      secret.versionId === 'v1' ? ['v2', 'client_b', 'client_a'] : ['v1', 'client_a', 'client_b'];
    await server.query(`ALTER ROLE ${next} LOGIN`);
    secret.publish(versionId, firstCredentials(next));
    await eventually(`only ${versionId}`, () => secret.held().every((id) => id === versionId));
    await server.query(`ALTER ROLE ${last} NOLOGIN`);
    return next;
  }

  it('Kysely: the same instance, queries, and a transaction that spans a rotation', async () => {
    createPool();
    const db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }) });
    for (let round = 1; round <= 3; round += 1) {
      const user = await rotate();
      const rotated = await db.transaction().execute(async (transaction) => {
        await transaction
          .insertInto('items')
          .values({ name: `kysely ${round}` })
          .execute();
        const before = await sql<{ name: string }>`SELECT current_user AS name`.execute(transaction);
        secret.publish(`in between ${round}`, firstCredentials(user));
        await eventually(
          'a replacement is there',
          () => (pool.generations().get(`in between ${round}`)?.total ?? 0) > 0,
        );
        const after = await sql<{ name: string }>`SELECT current_user AS name`.execute(transaction);
        return [before.rows[0]?.name, after.rows[0]?.name];
      });
      expect(rotated).toEqual([user, user]);
      const stored = await db.selectFrom('items').selectAll().where('name', '=', `kysely ${round}`).execute();
      expect(stored).toHaveLength(1);
      secret.publish(user === 'client_a' ? 'v1' : 'v2', firstCredentials(user));
    }
    await db.destroy();
    expect(await server.query(`SELECT 1 FROM pg_stat_activity WHERE usename LIKE 'client_%'`)).toEqual([]);
  });

  it('Drizzle: takes it for a pool, so that transactions have a connection of their own', async () => {
    createPool();
    await server.query('ALTER ROLE client_a LOGIN');
    const db = drizzle(pool);
    for (let round = 1; round <= 3; round += 1) {
      const user = await rotate();
      await expect(
        db.transaction(async (transaction) => {
          await transaction.insert(items).values({ name: `drizzle ${round}` });
          // Seen by nobody else: the transaction is not spread over the connections of the pool.
          expect(
            await db
              .select()
              .from(items)
              .where(eq(items.name, `drizzle ${round}`)),
          ).toEqual([]);
          throw new Error('rolled back on purpose');
        }),
      ).rejects.toThrow('rolled back on purpose');
      await db.insert(items).values({ name: `drizzle by ${user} ${round}` });
      expect(
        await db
          .select()
          .from(items)
          .where(eq(items.name, `drizzle by ${user} ${round}`)),
      ).toHaveLength(1);
      expect(
        await db
          .select()
          .from(items)
          .where(eq(items.name, `drizzle ${round}`)),
      ).toEqual([]);
    }
    await pool.end();
  });
});
