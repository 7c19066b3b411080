import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type INestApplicationContext, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  type DatabaseCredentials,
  InjectSecret,
  OnSecretChange,
  type Secret,
  type SecretChange,
  SecretsModule,
  type SecretSnapshot,
  type SecretSource,
} from '@nestjs-secrets/core';

/** A source whose one secret moves on whenever it is told to. */
class MovingSource implements SecretSource {
  readonly name = 'moving source';
  #promotion = 0;

  fetch(name: string): Promise<SecretSnapshot> {
    const promotion = this.#promotion;
    const value: DatabaseCredentials = {
      username: `user_${promotion % 2}`,
      password: `password-${promotion}`.padEnd(100, '.'),
    };
    return Promise.resolve({
      name,
      versionId: `v${promotion}`,
      value,
      promotion,
      rolledBack: false,
      expiresAt: undefined,
    });
  }

  async candidates(name: string): Promise<readonly SecretSnapshot[]> {
    return [await this.fetch(name)];
  }

  watch(): () => void {
    return () => undefined;
  }

  move(): void {
    this.#promotion += 1;
  }
}

@Injectable()
class Consumer {
  heard = 0;
  constructor(@InjectSecret('MyDbCreds') readonly creds: Secret<DatabaseCredentials>) {}

  @OnSecretChange('MyDbCreds')
  hear(_change: SecretChange<DatabaseCredentials>): void {
    this.heard += 1;
  }
}

const source = new MovingSource();

@Module({
  imports: [SecretsModule.forRoot({ source }), SecretsModule.forFeature(['MyDbCreds'])],
  providers: [Consumer],
})
class App {}

let app: INestApplicationContext;
let consumer: Consumer;

beforeAll(async () => {
  app = await NestFactory.createApplicationContext(App, { logger: false, abortOnError: false });
  consumer = app.get(Consumer);
});
afterAll(() => app?.close());

async function rotate(times: number): Promise<void> {
  for (let rotation = 0; rotation < times; rotation += 1) {
    source.move();
    await consumer.creds.refresh();
  }
}

/** Bytes on the heap that are still in use. */
function heapInUse(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  collect();
  return process.memoryUsage().heapUsed;
}

const ALLOWED_GROWTH_BYTES = 3_000_000;

describe('a Secret with a hundred thousand rotations behind it', () => {
  it('holds no more memory than at the start', async () => {
    await rotate(1_000);
    const before = heapInUse();
    await rotate(100_000);
    const growth = heapInUse() - before;
    expect(consumer.creds.versionId).toBe('v101000');
    expect(consumer.heard).toBe(101_000);
    expect(growth).toBeLessThan(ALLOWED_GROWTH_BYTES);
  });

  it('would be found out if it kept its history', async () => {
    const history: SecretChange<DatabaseCredentials>[] = [];
    const subscription = consumer.creds.changes$.subscribe((change) => history.push(change));
    const before = heapInUse();
    await rotate(100_000);
    const growth = heapInUse() - before;
    subscription.unsubscribe();
    expect(history).toHaveLength(100_001);
    expect(growth).toBeGreaterThan(ALLOWED_GROWTH_BYTES);
  });
});
