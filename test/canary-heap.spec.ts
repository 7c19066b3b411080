import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { NestFactory } from '@nestjs/core';
import { localKeyFile, SecretsManager, SecretsModule } from '@nestjs-secrets/core';
import { sqliteStore } from '@nestjs-secrets/typeorm';
import type { HeapOrder } from 'nestjs-secrets-test/canary/heap-order';
import { canary } from './support/canary-life.js';
import { ChildProcesses } from './support/child-process.js';
import { leaks } from './support/leak-search.js';

const children = new ChildProcesses();
const text = canary('in the heap');
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-heap-'));
});
afterAll(async () => {
  children.killAll();
  await rm(folder, { recursive: true, force: true });
});

/**
 * What can be promised of a string: that nothing of ours holds on to it once the application is closed. Not that it is erased: that is up to the
 * garbage collector, and buffers do not show in a snapshot.
 */
describe('the heap of a process', () => {
  it('I7 holds no value any more once the application is closed', async () => {
    const place = { store: path.join(folder, 'secrets.db'), keys: path.join(folder, 'keys', 'local.key') };
    // Put there by another process, so that the one whose heap is looked at has it from the store alone.
    const app = await NestFactory.createApplicationContext(
      SecretsModule.forRoot({
        store: sqliteStore({ path: place.store }),
        keys: localKeyFile({ path: place.keys, create: 'if-missing' }),
      }),
      { logger: false, abortOnError: false },
    );
    await app.get(SecretsManager).createSecret('InHeap', { text });
    await app.close();

    const order: HeapOrder = {
      ...place,
      secretName: 'InHeap',
      whileOpen: path.join(folder, 'while-open.heapsnapshot'),
      afterClose: path.join(folder, 'after-close.heapsnapshot'),
    };
    const child = await children.run('canary/heap-child', order, { limitMs: 150_000 });
    expect(child).toMatchObject({ code: 0, stdout: `${text.length}\n` });
    const found = async (file: string): Promise<number> =>
      leaks(new Map([['the value', text]]), new Map([['the heap', await readFile(file)]])).length;
    // While it is in use it is there, which shows that the search would find it.
    expect(await found(order.whileOpen)).toBe(1);
    expect(await found(order.afterClose)).toBe(0);
  }, 180_000);
});
