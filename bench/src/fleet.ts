import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { recordPayload, SecretsManager, type StoreDriver } from '@nestjs-secrets/core';
import { hasMariadb, MARIADB_DEBIAN_PACKAGE, startMariadb } from 'nestjs-secrets-test/mariadb-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import pg from 'pg';
import { startInstance, storeAt } from './fleet/fleet-instance.js';
import { FleetOfProcesses } from './fleet/fleet-of-processes.js';
import { BARE_CHANNEL, SECRET, sharedMoment, type StoreAddress } from './fleet/fleet-order.js';
import { guards } from './guards.js';
import { createLatencies, type Latencies } from './pool/latencies.js';
import type { Row } from './row.js';

const PROCESSES = 10;
const INSTANCES_A_PROCESS = 20;
const HANDLES = PROCESSES * INSTANCES_A_PROCESS;
const POLL_INTERVAL_MS = 500;
/** Unmeasured, for the compiler and for connections that open when first needed. */
const WARM_UP = 5;

/**
 * From the moment the commit that promotes a version is sent until the last of 200 live handles has it: 200 instances in 10 processes, 20 of which
 * share the store connections of their process, and its audit log where there are any. On PostgreSQL against 200 bare clients in the same processes, in turns, that hear of a commit by LISTEN and select
 * one row. A polling store is held against its interval.
 */
export async function benchFleet({ promotions }: { readonly promotions: number }): Promise<Row[]> {
  const rows = await onPostgres(promotions);
  if (hasMariadb()) return [...rows, await onMariadb(promotions)];
  console.error(`SKIPPED the polling store: install the Debian package ${MARIADB_DEBIAN_PACKAGE}.`);
  return rows;
}

async function onPostgres(promotions: number): Promise<Row[]> {
  const server = await startPostgres({ settings: { max_connections: '800' } });
  try {
    const { host, port, database, admin } = server;
    await server.query('CREATE TABLE bare (id int PRIMARY KEY, value bytea NOT NULL)');
    await server.query(`INSERT INTO bare VALUES (1, decode(repeat('00', 600), 'hex'))`);
    const bare = new pg.Client({ host, port, database, user: admin.username, password: admin.password });
    await bare.connect();
    const store = { type: 'postgres', host, port, database, ...admin, pollIntervalMs: POLL_INTERVAL_MS } as const;
    const { promoted, told } = await measure(store, promotions, INSTANCES_A_PROCESS, async (id) => {
      await bare.query(`UPDATE bare SET value = decode(repeat('01', 600), 'hex'); NOTIFY ${BARE_CHANNEL}, '${id}'`);
    });
    await bare.end();
    await server.query('DROP TABLE nestjs_secrets');
    const guarded = (await measure(store, promotions, 0, () => Promise.resolve(), true)).promoted;
    const row = (share: number, name: string): Row => {
      const [value, baseline] = [promoted.quantile(share), told.quantile(share)];
      return {
        name: `fleet: promote → last of ${HANDLES} handles, PostgreSQL, ${name}`,
        value,
        baseline,
        ratio: value / baseline,
        unit: 'ms',
      };
    };
    const guardedRow = (share: number, name: string): Row => {
      const [value, baseline] = [guarded.quantile(share), promoted.quantile(share)];
      return {
        name: `fleet: the same with policies and an audit log for each process, against without, ${name}`,
        value,
        baseline,
        ratio: value / baseline,
        unit: 'ms',
      };
    };
    return [row(0.5, 'p50'), row(0.99, 'p99'), guardedRow(0.5, 'p50'), guardedRow(0.99, 'p99')];
  } finally {
    await server.stop();
  }
}

async function onMariadb(promotions: number): Promise<Row> {
  const server = await startMariadb({ settings: { 'max-connections': '800' } });
  try {
    const { host, port, database, admin } = server;
    const store = { type: 'mariadb', host, port, database, ...admin, pollIntervalMs: POLL_INTERVAL_MS } as const;
    const { promoted } = await measure(store, promotions, 0, () => Promise.resolve());
    const value = promoted.quantile(0.99);
    return {
      name: `fleet: the same, MariaDB asked every ${POLL_INTERVAL_MS} ms, p99`,
      value,
      baseline: POLL_INTERVAL_MS,
      ratio: value / POLL_INTERVAL_MS,
      unit: 'ms',
    };
  } finally {
    await server.stop();
  }
}

interface Spread {
  readonly promoted: Latencies;
  readonly told: Latencies;
}

async function measure(
  address: StoreAddress,
  promotions: number,
  bareClients: number,
  tellBare: (id: string) => Promise<void>,
  isGuarded = false,
): Promise<Spread> {
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-bench-'));
  const keys = path.join(folder, 'keys.json');
  const store = new PromotionWatch(storeAt(address));
  const { app } = await startInstance(keys, store.driver, true, isGuarded ? guards(folder, SECRET) : {});
  const order = {
    store: address,
    keys,
    instances: INSTANCES_A_PROCESS,
    bareClients,
    ...(isGuarded ? { guards: folder } : {}),
  };
  let fail: (error: Error) => void = () => undefined;
  const failed = new Promise<never>((_, reject) => (fail = reject));
  failed.catch(() => undefined);
  const fleet = await FleetOfProcesses.start(PROCESSES, order, (error) => fail(error));
  const [promoted, told] = [createLatencies(), createLatencies()];
  try {
    for (let round = 0; round < WARM_UP + promotions; round += 1) {
      const isMeasured = round >= WARM_UP;
      const versionId = `v${round + 2}`;
      const swapped = fleet.allAt('version', versionId);
      // Through settle and retire, so that no commit of one round falls into the next.
      const rotated = app.get(SecretsManager).rotateSecret(SECRET, { until: 'retired' });
      const result = await Promise.race([failed, rotated]);
      if (result.versionId !== versionId) throw new Error(`expected ${versionId} and not ${result.versionId}`);
      const took = (await Promise.race([failed, swapped])) - store.promotionSentAt;
      if (isMeasured) promoted.add(took);
      if (bareClients === 0) continue;
      const all = fleet.allAt('bare', String(round));
      const sentAt = sharedMoment();
      await tellBare(String(round));
      const heard = (await Promise.race([failed, all])) - sentAt;
      if (isMeasured) told.add(heard);
    }
    return { promoted, told };
  } finally {
    fleet.stop();
    await app.close();
    await rm(folder, { recursive: true });
  }
}

/** Notes when the commit that moves `current` is sent. */
class PromotionWatch {
  promotionSentAt = 0;
  readonly driver: StoreDriver;
  #promotion = 0;

  constructor(store: StoreDriver) {
    this.driver = {
      name: store.name,
      open: () => store.open(),
      close: () => store.close(),
      get: (key) => store.get(key),
      list: (options) => store.list(options),
      revision: () => store.revision(),
      watch: (onHint, prefixes) => store.watch(onHint, prefixes),
      commit: (commit) => {
        this.#look(commit.writes.find(({ key }) => key === `secret/${SECRET}`)?.value);
        return store.commit(commit);
      },
    };
  }

  #look(record: Uint8Array | null | undefined): void {
    if (record === null || record === undefined) return;
    const { promotion }: { promotion: number } = JSON.parse(Buffer.from(recordPayload(record)).toString('utf8'));
    if (promotion === this.#promotion) return;
    this.#promotion = promotion;
    this.promotionSentAt = sharedMoment();
  }
}
