import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { StoreDriver } from '@nestjs-secrets/core';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { DataSource } from 'typeorm';
import { PostgresChannels } from '../src/postgres-channels.js';
import { sqlStore } from '../src/sql-store.js';
import { eventually, Heard, put } from './store-faults.js';

let postgres: PostgresServer;
let count = 0;
const stores: StoreDriver[] = [];

beforeAll(async () => {
  postgres = await startPostgres({ settings: { log_statement: 'all' } });
});

afterAll(() => postgres.stop());

afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
});

/** Asks so seldom that whatever it hears in a test it was told. */
async function opened(table: string, applicationName = 'store'): Promise<StoreDriver> {
  const { host, port, database, admin } = postgres;
  const source = new DataSource({ type: 'postgres', host, port, database, ...admin, applicationName });
  const store = sqlStore(source, { table, pollIntervalMs: 3_600_000, answerWithinMs: 2000 });
  stores.push(store);
  await store.open();
  return store;
}

/** The sessions of an application that listen. */
const listening = async (name: string): Promise<number[]> => {
  const rows = await postgres.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND query LIKE '%pg_listening_channels%'`,
    [name],
  );
  return rows.map((row) => row.pid);
};

describe('a watch over PostgreSQL', () => {
  it('is told of the commits of others, with their keys', async () => {
    const table = `hints_${count++}`;
    const [here, there] = [await opened(table), await opened(table)];
    const heard = new Heard(here);
    await eventually('a first hint', async () => {
      await put(there, 'secret/First');
      return heard.hints.length > 0;
    });
    heard.forget();
    await there.commit({
      conditions: [],
      writes: [
        { key: 'secret/First', value: null },
        { key: 'instance/1', value: Buffer.from('value') },
      ],
    });
    await heard.of('instance/1');
    expect(new Set(heard.keys)).toEqual(new Set(['instance/1', 'secret/First']));
  });

  it('that is narrowed listens to nothing else', async () => {
    const table = `hints_${count++}`;
    const [here, there] = [await opened(table, 'narrowed'), await opened(table)];
    const channels = new PostgresChannels(`public.${table}`);
    const [secret = '', instance = '', everything = ''] = [
      ...channels.for(new Set(['secret/'])),
      ...channels.for(new Set(['instance/'])),
      ...channels.for(undefined),
    ];
    const logged =
      (statement: string): (() => boolean) =>
      () =>
        postgres.log().includes(statement);
    const secrets = new Heard(here, ['secret/']);
    await eventually('LISTEN', logged(`LISTEN "${secret}"`));
    const instances = new Heard(here, ['instance/']);
    await eventually('LISTEN', logged(`LISTEN "${instance}"`));
    await eventually('a hint', async () => {
      await put(there, 'instance/1');
      return instances.keys.includes('instance/1');
    });
    instances.end();
    await eventually('UNLISTEN', logged(`UNLISTEN "${instance}"`));
    expect(postgres.log()).not.toContain(`LISTEN "${everything}"`);
    secrets.forget();
    await put(there, 'instance/1');
    await put(there, 'secret/A');
    await secrets.of('secret/A');
    expect(secrets.keys).toEqual(['secret/A']);
    const all = new Heard(here);
    await eventually('LISTEN', logged(`LISTEN "${everything}"`));
    await put(there, 'whatever');
    await eventually('a hint', () => all.hints.length > 0);
  });

  it('is told to look at everything when the keys of a commit do not fit', async () => {
    const table = `hints_${count++}`;
    const [here, there] = [await opened(table), await opened(table)];
    const heard = new Heard(here, ['secret/']);
    await eventually('a first hint', async () => {
      await put(there, 'secret/First');
      return heard.keys.includes('secret/First');
    });
    heard.forget();
    const keys = Array.from({ length: 20 }, (_, index) => `secret/${'x'.repeat(490)}${index}`);
    await there.commit({ conditions: [], writes: keys.map((key) => ({ key, value: Buffer.from('value') })) });
    await heard.everything();
  });

  it('comes back when its session is ended, and looks at everything', async () => {
    const table = `hints_${count++}`;
    const [here, there] = [await opened(table, 'cut off'), await opened(table)];
    const heard = new Heard(here, ['secret/']);
    for (let round = 0; round < 3; round++) {
      await eventually('a session that listens', async () => (await listening('cut off')).length === 1);
      const [pid] = await listening('cut off');
      heard.forget();
      await postgres.query('SELECT pg_terminate_backend($1)', [pid]);
      // Perhaps while nobody listens: the hint without keys stands for it.
      await put(there, 'secret/Missed');
      await heard.everything();
      await eventually('another session', async () => {
        const pids = await listening('cut off');
        return pids.length === 1 && pids[0] !== pid;
      });
      heard.forget();
      await put(there, `secret/Told/${round}`);
      await heard.of(`secret/Told/${round}`);
    }
  });

  it('shrugs at what strangers notify', async () => {
    const table = `hints_${count++}`;
    const [here, there] = [await opened(table), await opened(table)];
    const [channel = ''] = new PostgresChannels(`public.${table}`).for(new Set(['secret/']));
    const heard = new Heard(here, ['secret/']);
    await eventually('a session that listens', async () => {
      await put(there, 'secret/First');
      return heard.keys.includes('secret/First');
    });
    heard.forget();
    for (const payload of ['', 'x', ' ', '-1 secret/Other', '{"a":1}', '9'.repeat(7000)]) {
      await postgres.query('SELECT pg_notify($1, $2)', [channel, payload]);
    }
    await put(there, 'secret/Second');
    await heard.of('secret/Second');
  });

  it('takes a session only for as long as somebody watches', async () => {
    const store = await opened(`hints_${count++}`, 'watchers');
    expect(await listening('watchers')).toEqual([]);
    const first = new Heard(store);
    await eventually('a session that listens', async () => (await listening('watchers')).length === 1);
    first.end();
    await eventually('no session', async () => (await listening('watchers')).length === 0);
    void new Heard(store);
    await eventually('a session that listens', async () => (await listening('watchers')).length === 1);
    await store.close();
    await eventually('no session', async () => {
      const rows = await postgres.query(`SELECT 1 FROM pg_stat_activity WHERE application_name = 'watchers'`);
      return rows.length === 0;
    });
  });

  it('may begin and end in one breath, and be closed right after', async () => {
    const store = await opened(`hints_${count++}`, 'breath');
    for (let round = 0; round < 20; round++) new Heard(store, [`segment${round}/`]).end();
    const heard = new Heard(store);
    await put(store, 'secret/A');
    await heard.of('secret/A');
    for (let round = 0; round < 20; round++) new Heard(store, [`segment${round}/`]).end();
    await store.close();
    await eventually('no session', async () => {
      const rows = await postgres.query(`SELECT 1 FROM pg_stat_activity WHERE application_name = 'breath'`);
      return rows.length === 0;
    });
  });
});
