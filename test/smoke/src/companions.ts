import assert from 'node:assert/strict';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { type DatabaseCredentials, type Secret, SecretsModule, getSecretToken } from '@nestjs-secrets/core';
import { etcdStore } from '@nestjs-secrets/etcd';
import { LiveMysqlPool } from '@nestjs-secrets/mysql2';
import { LivePool, postgresAlternatingUsers } from '@nestjs-secrets/pg';
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

    assert.equal(typeof liveMysql(credentials).driver.createPool, 'function');
    assert.equal(typeof livePostgres(credentials).driver, 'object');
    assert.equal(typeof sqlStore, 'function');
    assert.equal(typeof postgresAlternatingUsers, 'function');
  } finally {
    await app.close();
  }
}
