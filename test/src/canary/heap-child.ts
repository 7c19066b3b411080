import { writeHeapSnapshot } from 'node:v8';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { getSecretToken, localKeyFile, type Secret, SecretsModule } from '@nestjs-secrets/core';
import { sqliteStore } from '@nestjs-secrets/typeorm';
import type { HeapOrder } from './heap-order.js';

@Module({})
class HeapApp {}

/** Uses a secret, without keeping it, and closes. A function of its own, so that nothing of it is on the stack afterwards. */
async function live({ store, keys, secretName, whileOpen }: HeapOrder): Promise<number> {
  const app = await NestFactory.createApplicationContext(
    {
      module: HeapApp,
      imports: [
        SecretsModule.forRoot({ store: sqliteStore({ path: store }), keys: localKeyFile({ path: keys }) }),
        SecretsModule.forFeature([secretName]),
      ],
    },
    { logger: false, abortOnError: false },
  );
  const secret = app.get<Secret<{ readonly text: string }>>(getSecretToken(secretName), { strict: false });
  const { length } = secret.value.text;
  writeHeapSnapshot(whileOpen);
  await app.close();
  return length;
}

const order: HeapOrder = JSON.parse(process.argv[2] ?? '');
const length = await live(order);
// Whatever was under way when the application closed ends in these turns.
for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
writeHeapSnapshot(order.afterClose);
process.stdout.write(`${length}\n`);
