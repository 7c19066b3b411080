import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { createLocalKeyFile, type Duration, localKeyFile, SecretsManager, SecretsModule } from '@nestjs-secrets/core';
import pg from 'pg';
import { type PostgresServer, startPostgres } from '../postgres-server.js';
import { FaultyLink } from './faulty-link.js';
import { BASE_NAME, CREDENTIALS, type FleetLoad, type FleetOrder } from './fleet-order.js';
import {
  fleetStoreAt,
  startFleetStore,
  type FleetStoreKind,
  type FleetStorePlace,
  type FleetStoreServer,
} from './fleet-store.js';
import { FleetProcess } from './fleet-process.js';
import { proveJournal, type JournalProof } from './journal-proof.js';
import { installAudit, readAudit } from './store-audit.js';

export interface FleetOptions {
  readonly processes: number;
  /** A server each for store and target; one for both by default. */
  readonly twoServers?: boolean;
  /** Where the store is; on PostgreSQL by default. Elsewhere there is no record of its changes, and so no `proof`. */
  readonly store?: FleetStoreKind;
  readonly leaseMs?: number;
  /** How long the store may take to answer, in milliseconds; 5000 by default. Less where the test takes the store away. */
  readonly answerWithinMs?: number;
  /** The same for the observer; 10,000 by default. */
  readonly observerWithinMs?: number;
  readonly roles?: number;
  readonly every?: Duration;
  readonly probation?: Duration;
  readonly maxFailures?: number;
  readonly load?: FleetLoad;
}

export const OBSERVER = 'fleet observer';
const STORE_DATABASE = 'fleet_store';
const TARGET_DATABASE = 'postgres';
const MODERATE: FleetLoad = { short: 3, transactions: 1, long: 1 };
/** Nobody's query; the fleet's own processes are all given some time to end by themselves. */
const CLOSE_WITHIN_MS = 10_000;

interface Servers {
  readonly store: PostgresServer;
  readonly target: PostgresServer;
}

/**
 * Several processes of one application over one store and one PostgreSQL target, with links between them that can be made to fail,
 * and an observer whose ways nobody disturbs. `close` ends all of it.
 */
export class Fleet {
  /** Every process that was started, in the order of their starts. */
  readonly started: FleetProcess[] = [];
  readonly #current: FleetProcess[] = [];

  private constructor(
    private readonly options: FleetOptions,
    private readonly folder: string,
    readonly servers: Servers,
    /** Where the store is, when it is not on PostgreSQL. */
    readonly otherStore: FleetStoreServer | undefined,
    /** To the store, one for each process. */
    readonly storeLinks: readonly FaultyLink[],
    /** To the target, for rotations only. */
    readonly rotatorLink: FaultyLink,
    private readonly observer: INestApplicationContext,
  ) {}

  /** Starts servers and processes; resolves when all of them serve. */
  static async start(options: FleetOptions): Promise<Fleet> {
    const settings = { fsync: 'off', max_connections: '300', log_line_prefix: '%n|%u|%p|' };
    const target = await startPostgres({ settings });
    const store = options.twoServers === true ? await startPostgres({ settings }) : target;
    const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-fleet-'));
    await store.query(`CREATE DATABASE ${STORE_DATABASE}`);
    const otherStore = await startFleetStore(options.store ?? 'postgres');
    const place = placeOf(options, otherStore ?? store);
    const [storeLinks, rotatorLink] = [
      await Promise.all(Array.from({ length: options.processes }, () => FaultyLink.to(place))),
      await FaultyLink.to(target),
    ];
    const observer = await startObserver(place, path.join(folder, 'keys.json'), options.observerWithinMs ?? 10_000);
    const fleet = new Fleet(options, folder, { store, target }, otherStore, storeLinks, rotatorLink, observer);
    try {
      if (otherStore === undefined) await installAudit((sql) => fleet.inStore(sql));
      for (let index = 0; index < options.processes; index += 1) await fleet.#createAdmin(index);
      await Promise.all(Array.from({ length: options.processes }, (_, index) => fleet.startProcess(index).ready));
    } catch (error) {
      await fleet.close();
      throw error;
    }
    return fleet;
  }

  get leaseMs(): number {
    return this.options.leaseMs ?? 2_000;
  }

  /** The manager of the observer, which rotates nothing and consumes nothing. */
  get manager(): SecretsManager {
    return this.observer.get(SecretsManager);
  }

  /** The process of that place as it is now: another one after a restart. */
  at(index: number): FleetProcess {
    const process = this.#current[index];
    if (process === undefined) throw new Error(`the fleet has no process ${index}`);
    return process;
  }

  get processes(): readonly FleetProcess[] {
    return this.#current;
  }

  /** Starts the process of a place, or the next one there after it has ended. */
  startProcess(index: number): FleetProcess {
    const link = this.storeLinks[index];
    if (link === undefined) throw new Error(`the fleet has no place ${index}`);
    const { store, target } = this.servers;
    const place = placeOf(this.options, this.otherStore ?? store);
    const {
      answerWithinMs = 5_000,
      roles = 3,
      every,
      probation,
      maxFailures = 1_000_000,
      load = MODERATE,
    } = this.options;
    const name = `p${index + 1}-${this.started.length + 1}`;
    const order: FleetOrder = {
      name,
      log: path.join(this.folder, `${name}.log`),
      keys: path.join(this.folder, 'keys.json'),
      store: { ...place, host: '127.0.0.1', port: link.port },
      target: { host: target.host, port: target.port, database: TARGET_DATABASE },
      rotatorTarget: { host: '127.0.0.1', port: this.rotatorLink.port },
      admin: { username: `rotator_${index + 1}`, password: target.admin.password },
      leaseMs: this.leaseMs,
      answerWithinMs,
      roles,
      every,
      probation,
      maxFailures,
      load,
    };
    const process = new FleetProcess(order);
    this.started.push(process);
    this.#current[index] = process;
    return process;
  }

  /** Runs a statement in the database of the store. */
  async inStore<R extends pg.QueryResultRow = pg.QueryResultRow>(sql: string): Promise<R[]> {
    const { host, port, admin } = this.servers.store;
    const client = new pg.Client({
      host,
      port,
      database: STORE_DATABASE,
      user: admin.username,
      password: admin.password,
      application_name: OBSERVER,
    });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.query<R>(sql)).rows;
    } finally {
      await client.end();
    }
  }

  /** For whoever looks into a violation: which process was which instance, and every change of the store in its order. */
  async history(): Promise<object[]> {
    const instances = this.started.map((process) => {
      const { instanceId, failed } = process.history();
      return { process: process.name, instanceId, freezes: process.freezes, failed };
    });
    return [...instances, ...(await readAudit((sql) => this.inStore(sql)))];
  }

  /** What the store's own record of all changes proves so far, held against the logs of all processes. */
  async proof(): Promise<JournalProof> {
    const rows = await readAudit((sql) => this.inStore(sql));
    const acts = this.started.flatMap((process) => {
      const { acts, instanceId = process.name } = process.history();
      return acts.map((at) => ({ instanceId, at }));
    });
    return proveJournal(CREDENTIALS, rows, acts);
  }

  /** Resolves when no rotation is under way and nothing is left to be retired. */
  async settled(limitMs = 60_000): Promise<void> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      const rotation = await this.#rotation();
      if (rotation !== undefined && rotation.step === undefined && rotation.unretired.length === 0) return;
      if (performance.now() > deadline)
        throw new Error(`the rotation has not settled within ${limitMs} ms: ${JSON.stringify(rotation)}`);
      await delay(50);
    }
  }

  /** Ends every process, server and link. Never leaves one behind. */
  async close(): Promise<void> {
    for (const process of this.started) {
      if (!process.isRunning) continue;
      process.thaw();
      process.ask({ ask: 'close' }).catch(() => undefined);
    }
    for (const link of [...this.storeLinks, this.rotatorLink]) link.mend();
    const limit = new AbortController();
    const ends = this.started.map((process) => process.ended);
    await Promise.race([
      Promise.all(ends),
      delay(CLOSE_WITHIN_MS, undefined, { signal: limit.signal }).catch(() => undefined),
    ]);
    limit.abort();
    for (const process of this.started) process.kill();
    await Promise.all(ends);
    await this.observer.close();
    for (const link of [...this.storeLinks, this.rotatorLink]) await link.close();
    const { store, target } = this.servers;
    await target.stop();
    if (store !== target) await store.stop();
    await this.otherStore?.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #rotation() {
    try {
      return (await this.manager.describeSecret(CREDENTIALS)).rotation;
    } catch {
      // Looked at again.
      return undefined;
    }
  }

  /** An administrator of its own for each place, so that the server's log tells whose statements ran when. */
  async #createAdmin(index: number): Promise<void> {
    const { target } = this.servers;
    const role = `rotator_${index + 1}`;
    await target.query(`CREATE ROLE ${role} SUPERUSER LOGIN PASSWORD '${target.admin.password}'`);
    await target.query(`ALTER ROLE ${role} SET log_min_duration_statement = 0`);
  }
}

function placeOf(
  { store: kind = 'postgres' }: FleetOptions,
  { host, port, admin }: PostgresServer | FleetStoreServer,
): FleetStorePlace {
  return { kind, host, port, database: STORE_DATABASE, credentials: admin };
}

async function startObserver(
  place: FleetStorePlace,
  keys: string,
  answerWithinMs: number,
): Promise<INestApplicationContext> {
  await createLocalKeyFile(keys);
  const module = SecretsModule.forRoot({
    store: fleetStoreAt(place, OBSERVER, answerWithinMs),
    keys: localKeyFile({ path: keys }),
    rotate: false,
  });
  return NestFactory.createApplicationContext(module, { logger: false, abortOnError: false });
}

export { BASE_NAME, CREDENTIALS };
