// A process may hold both builds, as when an ES module application uses a CommonJS library: each must understand what the other made.
import 'reflect-metadata';
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { NestFactory } from '@nestjs/core';
import * as esm from '@nestjs-secrets/core';
import { LivePool } from '@nestjs-secrets/pg';

const cjs = createRequire(import.meta.url)('@nestjs-secrets/core');
assert.notEqual(esm.SecretsError, cjs.SecretsError, 'the two builds are one and the same: nothing is tested here');

for (const [one, other] of [
  [esm, cjs],
  [cjs, esm],
]) {
  const error = new one.SecretNotFoundError('Db');
  assert.ok(!(error instanceof other.SecretsError));
  assert.ok(other.isSecretsError(error, 'SECRET_NOT_FOUND'));
  assert.equal(one.SECRET_LINK, other.SECRET_LINK);
  assert.equal(one.getSecretToken('Db'), other.getSecretToken('Db'));

  // Decorators and definitions of one build in a module of the other.
  class Reader {
    heard = [];
    constructor(secret) {
      this.secret = secret;
    }
    changed(change) {
      this.heard.push(change.value.password);
    }
  }
  one.InjectSecret('Db')(Reader, undefined, 0);
  const changed = Object.getOwnPropertyDescriptor(Reader.prototype, 'changed');
  one.OnSecretChange('Db')(Reader.prototype, 'changed', changed);
  const definition = one.defineSecret('Db', undefined, { initial: () => ({ username: 'app', password: 'first' }) });
  const app = await NestFactory.createApplicationContext(
    {
      module: class AppModule {},
      imports: [
        other.SecretsModule.forRoot({ store: one.memoryStore(), keys: one.ephemeralKeys() }),
        other.SecretsModule.forFeature([definition]),
      ],
      providers: [Reader],
    },
    { logger: false, abortOnError: false },
  );
  const { secret, heard } = app.get(Reader);
  const link = one.secretLink(secret);
  assert.equal(link, other.secretLink(secret));
  assert.deepEqual(
    (await link.candidates()).map(({ value }) => value.password),
    ['first'],
  );
  await app.get(other.SecretsManager).putSecretValue('Db', { username: 'app', password: 'second' });
  await secret.refresh();
  assert.deepEqual(heard, ['second']);

  const pool = new LivePool(secret, { host: '127.0.0.1', port: 1 });
  await assert.rejects(pool.connect(), { code: 'ECONNREFUSED' });
  await pool.end();
  await app.close();
}
console.log('both builds understand each other');
