import { randomBytes } from 'node:crypto';
import path from 'node:path';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { auditedWrite, auditFiles, AuditLog, ephemeralKeys, SecretsManager, SecretsModule } from '@nestjs-secrets/core';
import { LiveMysqlPool } from '@nestjs-secrets/mysql2';
import { LivePool } from '@nestjs-secrets/pg';
import { sqlStore } from '@nestjs-secrets/typeorm';
import { DataSource } from 'typeorm';
import { partsAt } from '../crash/rotating-app.js';
import { Consumer, plainLogger } from './canary-app.js';
import type { CanaryOrder } from './canary-order.js';
import { carelessError } from './careless-error.js';
import { show, showFailure } from './talkative.js';

export async function failQueries(app: INestApplicationContext, { place, canaries }: CanaryOrder): Promise<void> {
  const dataSource = app.get(DataSource);
  const first = place.kind === 'mariadb' ? '?' : '$1';
  await showFailure('no such table', () => dataSource.query(`SELECT * FROM nowhere WHERE id = ${first}`, [1]));
  await showFailure('in a transaction', () =>
    dataSource.transaction((manager) => manager.query(`SELECT nothing FROM nowhere WHERE id = ${first}`, [0])),
  );
  const unreachable = new DataSource({
    ...(dataSource.options as object),
    port: 1,
    logging: 'all',
  } as typeof dataSource.options);
  await showFailure('no server', () => unreachable.initialize());
  const elsewhere = new DataSource({
    ...(dataSource.options as object),
    database: 'nowhere',
  } as typeof dataSource.options);
  await showFailure('no such database', () => elsewhere.initialize());
  // The parser of PostgreSQL's reads the file that the URL names, and its error says which; Node's keeps what it was given.
  const inUrl = encodeURIComponent(canaries.inUrl);
  const { credentials } = app.get(Consumer);
  await showFailure('unreadable url', () =>
    place.kind === 'mariadb'
      ? new LiveMysqlPool(credentials, { uri: `mysql://user:${inUrl}@host:no-port/db` })
      : new LivePool(credentials, { connectionString: `postgres://user:${inUrl}@host/db?sslcert=${inUrl}` }),
  );
}

export async function startWithWrongKey({ place }: CanaryOrder): Promise<void> {
  const { store } = partsAt(place);
  const root = SecretsModule.forRoot({ store, keys: ephemeralKeys() });
  await showFailure('wrong key', () =>
    NestFactory.createApplicationContext(root, { logger: plainLogger(), abortOnError: false }),
  );
}

const adminSource = ({ place }: CanaryOrder): DataSource =>
  new DataSource({
    type: place.kind ?? 'postgres',
    ...place.server,
    ...place.admin,
    logging: 'all',
    logger: 'simple-console',
  });

export async function storeOnServer(order: CanaryOrder): Promise<void> {
  const root = SecretsModule.forRoot({ store: sqlStore(adminSource(order)), keys: ephemeralKeys() });
  const app = await NestFactory.createApplicationContext(root, { logger: plainLogger(), abortOnError: false });
  const manager = app.get(SecretsManager);
  show('created', await manager.createSecret('InStore', { text: order.canaries.inStore }));
  show('got', await manager.getSecretValue('InStore'));
  await app.close();
}

/** What a store is given must not come back in its errors, though servers say which row they refuse, and clients which statement. */
export async function failToStore(order: CanaryOrder): Promise<void> {
  const admin = await adminSource(order).initialize();
  const store = sqlStore(adminSource(order));
  await store.open();
  const column = order.place.kind === 'mariadb' ? '`key`' : '"key"';
  await admin.query(`ALTER TABLE nestjs_secrets ADD CONSTRAINT refused CHECK (${column} <> 'refused')`);
  const value = Buffer.from(order.canaries.givenToStore);
  await showFailure('store fails', () => store.commit({ conditions: [], writes: [{ key: 'refused', value }] }));
  await store.close();
  await admin.destroy();
}

/** The log of operations that fail with everything they know, and of callers who put values where they do not belong. */
export async function audit({ place, canaries }: CanaryOrder): Promise<void> {
  const log = new AuditLog({
    origin: 'canary.example.com/audit/1',
    key: randomBytes(32),
    sinks: [{ sink: auditFiles({ folder: path.join(place.folder, 'audit-by-hand') }), mode: 'required' }],
  });
  await log.open();
  const event = { eventName: 'PutSecretValue', eventRW: 'Write', resourceName: 'ApiKey' } as const;
  await showFailure('audited', () =>
    auditedWrite(log, event, async () => {
      throw carelessErrorOfAudit(canaries.put);
    }).catch(() => {
      throw new Error('the work failed, and its caller says so');
    }),
  );
  for (const requestParameters of [{ value: canaries.put }, { options: [{ password: canaries.put }] }])
    await showFailure('no place for a value', () => log.record({ ...event, requestParameters }));
  await log.close();
}

const carelessErrorOfAudit = (value: string): Error => carelessError('put', [value]);
