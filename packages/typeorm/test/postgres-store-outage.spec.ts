import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { StoreDriver } from '@nestjs-secrets/core';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { DataSource } from 'typeorm';
import { sqlStore } from '../src/sql-store.js';
import { eventually, FaultyNetwork, freeze, Heard, put, restart } from './store-faults.js';
import { everyCall, expectEverythingWorks, expectRefusals } from './store-outage.js';

const APPLICATION = 'rides out outages';
const CONNECTIONS = 2;

let postgres: PostgresServer;
let count = 0;
const cleanUp: (() => void | Promise<void>)[] = [];

beforeAll(async () => {
  postgres = await startPostgres();
});

afterAll(() => postgres.stop());

afterEach(async () => {
  for (const clean of cleanUp.splice(0).toReversed()) await clean();
});

async function opened(table: string, { host, port }: { host: string; port: number }): Promise<StoreDriver> {
  // A server that recovers from the test before may take its time; what comes after it is open is what is tested.
  await eventually('the server answers', () => postgres.query('SELECT 1').then(Boolean, () => false));
  const { database, admin } = postgres;
  const source = new DataSource({ type: 'postgres', host, port, database, ...admin, applicationName: APPLICATION });
  const store = sqlStore(source, { table, answerWithinMs: 500, connections: CONNECTIONS });
  cleanUp.push(() => store.close());
  await store.open();
  return store;
}

const sessions = async (): Promise<number> => {
  const rows = await postgres.query('SELECT 1 FROM pg_stat_activity WHERE application_name = $1', [APPLICATION]);
  return rows.length;
};

async function expectRecovery(store: StoreDriver, heard: Heard, table: string): Promise<void> {
  await expectEverythingWorks(store, heard, () => opened(table, postgres));
  await eventually('no connection left over', async () => (await sessions()) <= CONNECTIONS + 1);
}

describe('a store on PostgreSQL', () => {
  it('rides out a frozen server', async () => {
    const table = `outage_${count++}`;
    const store = await opened(table, postgres);
    const heard = new Heard(store, ['secret/']);
    await put(store, 'secret/A');
    const thaw = await freeze(postgres.pid);
    cleanUp.push(thaw);
    await expectRefusals(store);
    heard.forget();
    thaw();
    await expectRecovery(store, heard, table);
  });

  it('can be closed while its server is frozen', async () => {
    const store = await opened(`outage_${count++}`, postgres);
    void new Heard(store);
    await put(store, 'secret/A');
    const thaw = await freeze(postgres.pid);
    cleanUp.push(thaw);
    const calls = everyCall(store);
    await store.close();
    for (const result of await Promise.allSettled(calls)) expect(result.status).toBe('rejected');
    thaw();
    await eventually('no connection', async () => (await sessions()) === 0);
  });

  it('rides out a network that loses everything, and leaves connections that died without a word', async () => {
    const network = await FaultyNetwork.to(postgres);
    cleanUp.push(() => network.close());
    const table = `outage_${count++}`;
    const store = await opened(table, { host: '127.0.0.1', port: network.port });
    const heard = new Heard(store, ['secret/']);
    await put(store, 'secret/A');
    network.lose();
    await expectRefusals(store);
    heard.forget();
    network.restore();
    await expectRecovery(store, heard, table);
  });

  it('notices that it hears nothing, though nobody asks it for anything', async () => {
    const network = await FaultyNetwork.to(postgres);
    cleanUp.push(() => network.close());
    const table = `outage_${count++}`;
    const store = await opened(table, { host: '127.0.0.1', port: network.port });
    const other = await opened(table, postgres);
    const heard = new Heard(store, ['secret/']);
    await eventually('a hint', async () => {
      await put(other, 'secret/A');
      return heard.keys.includes('secret/A');
    });
    heard.forget();
    network.lose();
    await put(other, 'secret/B');
    network.restore();
    await heard.everything();
  });

  it('rides out a server that nobody reaches', async () => {
    const network = await FaultyNetwork.to(postgres);
    cleanUp.push(() => network.close());
    const table = `outage_${count++}`;
    const store = await opened(table, { host: '127.0.0.1', port: network.port });
    const heard = new Heard(store, ['secret/']);
    await put(store, 'secret/A');
    const accept = await network.refuse();
    await expectRefusals(store);
    heard.forget();
    await accept();
    await expectRecovery(store, heard, table);
  });

  it('does not wait for a process that vanished within its commit', async () => {
    const network = await FaultyNetwork.to(postgres);
    cleanUp.push(() => network.close());
    const table = `outage_${count++}`;
    const vanishing = await opened(table, { host: '127.0.0.1', port: network.port });
    const other = await opened(table, postgres);
    const { host, port, database, admin } = postgres;
    const holder = new DataSource({ type: 'postgres', host, port, database, ...admin });
    await holder.initialize();
    cleanUp.push(() => holder.destroy());
    const runner = holder.createQueryRunner();
    await runner.startTransaction();
    await runner.query(`SELECT * FROM ${table} FOR UPDATE`);
    const commit = put(vanishing, 'a');
    const holdsRow = `SELECT 1 FROM pg_stat_activity WHERE application_name = $1 AND state = $2`;
    await eventually('a commit that waits for the row', async () => {
      const rows = await postgres.query(`${holdsRow} AND wait_event_type = 'Lock'`, [APPLICATION, 'active']);
      return rows.length === 1;
    });
    network.lose();
    await runner.rollbackTransaction();
    await runner.release();
    await eventually('a vanished process that holds the row', async () => {
      const rows = await postgres.query(holdsRow, [APPLICATION, 'idle in transaction']);
      return rows.length === 1;
    });
    await expect(commit).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    await eventually('a commit of the other', async () => (await put(other, 'b').catch(() => undefined)) !== undefined);
    expect(await other.get('a')).toBeUndefined();
  });

  it('rides out a crash of the server, and loses nothing it had acknowledged', async () => {
    const table = `outage_${count++}`;
    const store = await opened(table, postgres);
    const heard = new Heard(store, ['secret/']);
    const revision = await put(store, 'secret/Kept');
    const [backend] = await postgres.query<{ pid: number }>(
      'SELECT pid FROM pg_stat_activity WHERE application_name = $1 LIMIT 1',
      [APPLICATION],
    );
    heard.forget();
    // When one of its processes dies like this, PostgreSQL ends all the others and recovers from its write-ahead log.
    process.kill(backend?.pid ?? 0, 'SIGKILL');
    await expectRecovery(store, heard, table);
    expect(await store.get('secret/Kept')).toMatchObject({ revision });
  });

  // Last, since the server is another process afterwards.
  it('rides out a restart of the server', async () => {
    const table = `outage_${count++}`;
    const store = await opened(table, postgres);
    const heard = new Heard(store, ['secret/']);
    const revision = await put(store, 'secret/Kept');
    heard.forget();
    const stop = await restart(postgres);
    try {
      await expectRecovery(store, heard, table);
      expect(await store.get('secret/Kept')).toMatchObject({ revision });
      for (const clean of cleanUp.splice(0).toReversed()) await clean();
    } finally {
      await stop();
    }
  });
});
