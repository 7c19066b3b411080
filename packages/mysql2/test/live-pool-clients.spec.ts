import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { eq } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/mysql2';
import { int, mysqlTable, varchar } from 'drizzle-orm/mysql-core';
import type { Generated } from 'kysely';
import { Kysely, MysqlDialect, sql } from 'kysely';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import type { MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { startMariadb } from 'nestjs-secrets-test/mariadb-server';
import type { PoolOnSecret } from './live-pool-fixture.js';
import {
  createPool,
  createUsers,
  eventually,
  firstCredentials,
  lock,
  sessionsOf,
  unlock,
} from './live-pool-fixture.js';

interface Database {
  items: { id: Generated<number>; name: string };
}

const items = mysqlTable('items', {
  id: int('id').primaryKey().autoincrement(),
  name: varchar('name', { length: 100 }).notNull(),
});

describeWithMariadb('libraries over a live mysql2 pool, across rotations', () => {
  let server: MariadbServer;

  beforeAll(async () => {
    server = await startMariadb();
    await createUsers(server, 'client_a', 'client_b');
    await server.query(
      `CREATE TABLE ${server.database}.items (id int PRIMARY KEY AUTO_INCREMENT, name varchar(100) NOT NULL)`,
    );
  });
  afterAll(() => server.stop());

  /** Moves to the other user, waits for the old one to drain, and locks it out. */
  async function rotate({ secret }: PoolOnSecret, round: number): Promise<string> {
    const [next, last] = secret.value.username === 'client_a' ? ['client_b', 'client_a'] : ['client_a', 'client_b'];
    await unlock(server, next);
    secret.publish(`round ${round}`, firstCredentials(next));
    await eventually(`only round ${round}`, () => secret.held().every((id) => id === `round ${round}`));
    await lock(server, last);
    return next;
  }

  it('Kysely: the same instance, queries, and a transaction that spans a rotation', async () => {
    const live = createPool(server, firstCredentials('client_a'), { connectionLimit: 2 });
    const { pool, secret } = live;
    const db = new Kysely<Database>({ dialect: new MysqlDialect({ pool }) });
    for (let round = 1; round <= 3; round += 1) {
      const user = await rotate(live, round);
      const rotated = await db.transaction().execute(async (transaction) => {
        const whoAmI = sql<{ name: string }>`SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1) AS name`;
        await transaction
          .insertInto('items')
          .values({ name: `kysely ${round}` })
          .execute();
        const before = await whoAmI.execute(transaction);
        secret.publish(`in between ${round}`, firstCredentials(user));
        await eventually(
          'a replacement is there',
          () => (pool.generations().get(`in between ${round}`)?.total ?? 0) > 0,
        );
        const after = await whoAmI.execute(transaction);
        return [before.rows[0]?.name, after.rows[0]?.name];
      });
      expect(rotated).toEqual([user, user]);
      const stored = await db.selectFrom('items').selectAll().where('name', '=', `kysely ${round}`).execute();
      expect(stored).toHaveLength(1);
    }
    await db.destroy();
    await eventually('no session left', async () => (await sessionsOf(server, 'client_')) === 0);
    await unlock(server, 'client_a');
  });

  it('Drizzle: takes it for a pool, so that transactions have a connection of their own', async () => {
    const live = createPool(server, firstCredentials('client_a'), { connectionLimit: 2 });
    const db = drizzle(live.pool);
    const named = (name: string): Promise<unknown[]> => db.select().from(items).where(eq(items.name, name)).execute();
    for (let round = 1; round <= 3; round += 1) {
      const user = await rotate(live, round);
      await expect(
        db.transaction(async (transaction) => {
          await transaction.insert(items).values({ name: `drizzle ${round}` });
          // Seen by nobody else: the transaction is not spread over the connections of the pool.
          expect(await named(`drizzle ${round}`)).toEqual([]);
          throw new Error('rolled back on purpose');
        }),
      ).rejects.toThrow('rolled back on purpose');
      await db.insert(items).values({ name: `drizzle by ${user} ${round}` });
      expect(await named(`drizzle by ${user} ${round}`)).toHaveLength(1);
      expect(await named(`drizzle ${round}`)).toEqual([]);
    }
    expect(live.secret.reported).toEqual([]);
    await live.pool.end();
  });
});
