import assert from 'node:assert/strict';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { alibabaKmsKeys } from '@nestjs-secrets/alibaba';
import { awsKmsKeys } from '@nestjs-secrets/aws';
import {
  type DatabaseCredentials,
  type KeyProvider,
  type Secret,
  SecretsModule,
  getSecretToken,
} from '@nestjs-secrets/core';
import { etcdStore } from '@nestjs-secrets/etcd';
import { LiveMysqlPool } from '@nestjs-secrets/mysql2';
import { LivePool, postgresAlternatingUsers } from '@nestjs-secrets/pg';
import { pkcs11Keys } from '@nestjs-secrets/pkcs11';
import { redisStore } from '@nestjs-secrets/redis';
import { SecretsTesting, SecretsTestingModule } from '@nestjs-secrets/testing';
import { liveMysql, livePostgres, sqlStore } from '@nestjs-secrets/typeorm';

@Module({
  imports: [
    SecretsTestingModule.forRoot({ Db: { username: 'app_a', password: 'first' } }),
    SecretsModule.forFeature(['Db']),
  ],
})
class DatabaseModule {}

/** The other packages, as far as they go without a server. */
export async function runCompanions(): Promise<void> {
  const app = await NestFactory.createApplicationContext(DatabaseModule, { logger: false, abortOnError: false });
  try {
    const credentials = app.get<Secret<DatabaseCredentials>>(getSecretToken('Db'), { strict: false });
    await app.get(SecretsTesting).rotate('Db', { username: 'app_b', password: 'second' });
    assert.deepEqual(credentials.value, { username: 'app_b', password: 'second' });

    const pool = new LivePool(credentials, { host: '127.0.0.1', port: 1 });
    await assert.rejects(pool.connect(), { code: 'ECONNREFUSED' });
    await pool.end();

    const mysqlPool = new LiveMysqlPool(credentials, { host: '127.0.0.1', port: 1 });
    await assert.rejects(mysqlPool.promise().query('SELECT 1'), { code: 'ECONNREFUSED' });
    await mysqlPool.end();

    for (const store of [
      redisStore({ socket: { host: '127.0.0.1', port: 1 } }),
      etcdStore({ endpoints: 'http://127.0.0.1:1' }),
    ]) {
      await assert.rejects(store.open(), { code: 'STORE_UNAVAILABLE' });
      await store.close();
    }
    await wrapNothing(
      awsKmsKeys({
        keys: { app: ['arn:aws:kms:eu-central-1:111122223333:key/one-of-mine'] },
        client: {
          region: 'eu-central-1',
          endpoint: 'http://127.0.0.1:1',
          credentials: { accessKeyId: 'id', secretAccessKey: 'secret' },
        },
        deadlineMs: 1_000,
      }),
    );
    await wrapNothing(
      alibabaKmsKeys({
        keys: { app: ['key-one-of-mine'] },
        client: {
          regionId: 'cn-hangzhou',
          endpoint: '127.0.0.1:1',
          protocol: 'http',
          accessKeyId: 'id',
          accessKeySecret: 'secret',
        },
        deadlineMs: 1_000,
      }),
    );
    const token = pkcs11Keys({ library: '/nowhere/libnothing.so', token: 'mine', pin: '1234', id: 'app' });
    await assert.rejects(token.open(), { code: 'KEY_PROVIDER_INVALID' });

    assert.equal(typeof liveMysql(credentials).driver.createPool, 'function');
    assert.equal(typeof livePostgres(credentials).driver, 'object');
    assert.equal(typeof sqlStore, 'function');
    assert.equal(typeof postgresAlternatingUsers, 'function');
  } finally {
    await app.close();
  }
}

/** The SDK is there and is called, as far as that goes where nobody listens. */
async function wrapNothing(provider: KeyProvider): Promise<void> {
  await provider.open();
  const wrapping = Promise.resolve(provider.wrap(await provider.active(), Buffer.alloc(32), Buffer.alloc(1)));
  await assert.rejects(wrapping, { code: 'KEY_UNAVAILABLE' });
  await provider.close();
}
