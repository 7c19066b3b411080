import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { StoreDriver } from '@nestjs-secrets/core';
import { etcdStore } from '@nestjs-secrets/etcd';
import { redisStore } from '@nestjs-secrets/redis';
import { sqliteStore, sqlStore } from '@nestjs-secrets/typeorm';
import { hasEtcd, startEtcd } from 'nestjs-secrets-test/etcd-server';
import { hasMariadb, startMariadb } from 'nestjs-secrets-test/mariadb-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import { hasRedis, startRedis } from 'nestjs-secrets-test/redis-server';
import { DataSource } from 'typeorm';
import { createLatencies } from './pool/latencies.js';
import { compare, type Row } from './row.js';

const ROUNDS = 5;
/** In one round, of all callers together. */
const COMMITS = 96;
const CALLERS = 32;
/** About what a sealed pair of credentials takes; all different, so that every store has something to write. */
const VALUES = Array.from({ length: 997 }, () => randomBytes(600));

interface Contender {
  readonly name: string;
  readonly store: StoreDriver;
  stop(): Promise<void>;
}

/** Durable conditional commits through each store driver, on servers of this machine, against those on SQLite in the same run. */
export async function benchStores(): Promise<Row[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-bench-'));
  const sqlite = sqliteStore({ path: path.join(folder, 'store.sqlite') });
  const contenders: Contender[] = [];
  try {
    await sqlite.open();
    for (const start of [onPostgres, onMariadb, onRedis, onEtcd]) {
      const contender = await start();
      if (contender === undefined) continue;
      contenders.push(contender);
      await contender.store.open();
    }
    const rows: Row[] = [];
    for (const { name, store } of contenders) {
      for (const callers of [1, CALLERS]) {
        const measure = (of: StoreDriver) => (): Promise<number> => median(of, callers);
        await measure(store)();
        const who = callers === 1 ? 'one caller' : `${callers} callers`;
        rows.push(
          await compare(`stores: p50 of a commit on ${name}, ${who}`, 'ms', ROUNDS, measure(store), measure(sqlite)),
        );
      }
    }
    return rows;
  } finally {
    await sqlite.close();
    for (const { store, stop } of contenders) {
      await store.close();
      await stop();
    }
    await rm(folder, { recursive: true });
  }
}

/** The median time of a commit, in milliseconds, while so many callers commit one after the other. */
async function median(store: StoreDriver, callers: number): Promise<number> {
  const latencies = createLatencies();
  const commitOn = async (caller: number): Promise<void> => {
    const key = `secret/${caller}`;
    let revision = (await store.get(key))?.revision ?? 0;
    for (let count = 0; count < COMMITS / callers; count++) {
      const value = VALUES[(caller * COMMITS + count) % VALUES.length] ?? new Uint8Array(0);
      const begunAt = performance.now();
      revision = (await store.commit({ conditions: [{ key, revision }], writes: [{ key, value }] })) ?? 0;
      latencies.add(performance.now() - begunAt);
    }
  };
  await Promise.all(Array.from({ length: callers }, (_, caller) => commitOn(caller)));
  return latencies.quantile(0.5);
}

async function onPostgres(): Promise<Contender> {
  const server = await startPostgres();
  const { host, port, database, admin } = server;
  const store = sqlStore(new DataSource({ type: 'postgres', host, port, database, ...admin }));
  return { name: 'PostgreSQL', store, stop: () => server.stop() };
}

async function onMariadb(): Promise<Contender | undefined> {
  if (!hasMariadb()) return undefined;
  const server = await startMariadb();
  const { host, port, database, admin } = server;
  const store = sqlStore(new DataSource({ type: 'mariadb', host, port, database, ...admin }));
  return { name: 'MariaDB', store, stop: () => server.stop() };
}

async function onRedis(): Promise<Contender | undefined> {
  if (!hasRedis()) return undefined;
  const server = await startRedis();
  const { host, port, admin } = server;
  return { name: 'Redis', store: redisStore({ ...admin, socket: { host, port } }), stop: () => server.stop() };
}

async function onEtcd(): Promise<Contender | undefined> {
  if (!hasEtcd()) return undefined;
  const server = await startEtcd();
  return {
    name: 'etcd',
    store: etcdStore({ endpoints: server.endpoint, ...server.admin }),
    stop: () => server.stop(),
  };
}
