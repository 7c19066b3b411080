import { NestFactory } from '@nestjs/core';
import {
  type DatabaseCredentials,
  defineSecret,
  ephemeralKeys,
  getSecretToken,
  memoryStore,
  type RetireReport,
  type RotationEvent,
  type Secret,
  SecretsManager,
  SecretsModule,
} from '@nestjs-secrets/core';
import { LivePool, postgresAlternatingUsers } from '@nestjs-secrets/pg';
import { filter, firstValueFrom } from 'rxjs';
import type { DatabaseServer } from './database-server.js';

export interface LivePoolDemo {
  /** Who each query was logged in as: before, after the rotation, and in the transaction that was open all along. */
  readonly before: string;
  readonly after: string;
  readonly inTheOldTransaction: string;
  /** Connections by version while both were in use. */
  readonly versions: readonly string[];
  readonly retired: RetireReport | undefined;
}

export async function main({ admin, ...connection }: DatabaseServer): Promise<LivePoolDemo> {
  const roles = postgresAlternatingUsers({ connection, admin, baseName: 'shop' });
  const shopDb = defineSecret<DatabaseCredentials>('ShopDb', undefined, {
    initial: 'rotator',
    rotation: { rotator: roles.name },
  });
  class ShopModule {}
  const app = await NestFactory.createApplicationContext(
    {
      module: ShopModule,
      imports: [
        SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys(), rotators: [roles] }),
        SecretsModule.forFeature([shopDb]),
      ],
    },
    { logger: false },
  );
  const manager = app.get(SecretsManager);
  const creds = app.get<Secret<DatabaseCredentials>>(getSecretToken(shopDb), { strict: false });

  const pool = new LivePool(creds, { ...connection, max: 5 });
  const whoAmI = 'SELECT session_user AS name';
  const transaction = await pool.connect();
  await transaction.query('BEGIN');
  const before = (await transaction.query(whoAmI)).rows[0].name;

  await manager.rotateSecret('ShopDb'); // resolves once the new version is current
  await creds.refresh();
  const after = (await pool.query(whoAmI)).rows[0].name;
  const versions = [...pool.generations().keys()];

  const retirement = firstValueFrom(manager.rotationEvents$.pipe(filter(isRetired)));
  const inTheOldTransaction = (await transaction.query(whoAmI)).rows[0].name;
  await transaction.query('COMMIT');
  transaction.release(); // the last connection of the old version leaves, so it can be retired
  const { report: retired } = await retirement;

  await pool.end();
  await app.close();
  return { before, after, inTheOldTransaction, versions, retired };
}

function isRetired(event: RotationEvent): event is Extract<RotationEvent, { type: 'retired' }> {
  return event.type === 'retired';
}
