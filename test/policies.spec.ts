import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { auditEvents, auditFolder, localKeyFile } from '@nestjs-secrets/core';
import { type PostgresServer, startPostgres } from 'nestjs-secrets-test/postgres-server';
import { PolicyProcess } from './support/policy-process.js';

const PROCESSES = 5;
const CHANGES = Number(process.env['POLICY_CHANGES'] ?? 12);

let server: PostgresServer;
let folder: string;
const processes: PolicyProcess[] = [];

beforeAll(async () => {
  server = await startPostgres();
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-policies-'));
});
afterAll(async () => {
  for (const one of processes) one.kill();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

describe('the policies of five processes over one PostgreSQL', () => {
  it('change everywhere at once, under load, and nobody ever decides by half of a change', async () => {
    const { host, port, database, admin } = server;
    const keys = path.join(folder, 'keys', 'local.key');
    const own = localKeyFile({ path: keys, create: 'if-missing' });
    await own.open();
    await own.close();
    for (let place = 0; place < PROCESSES; place += 1) {
      const audit = path.join(folder, `audit-${place}`);
      processes.push(new PolicyProcess({ server: { host, port, database }, admin, keys, audit, workers: 8 }));
    }
    await Promise.all(processes.map((one) => one.ready()));
    for (let generation = 0; generation < CHANGES; generation += 1) {
      // Each time by another process; the store is looked at without a hint once an hour, so a hint brought it to the others.
      await processes[generation % PROCESSES]?.change(generation);
      await Promise.all(processes.map((one) => one.governed(generation)));
    }
    const tallies = await Promise.all(processes.map((one) => one.stop()));
    expect(tallies.flatMap(({ faults }) => faults)).toEqual([]);
    for (const { allowed, denied, pairs } of tallies) {
      expect(Math.min(allowed, denied)).toBeGreaterThan(CHANGES);
      expect(pairs).toBeGreaterThanOrEqual(allowed + denied);
    }
    await checkLogs(tallies);
  }, 300_000);
});

/** Each decision is in the log of its process, by one whole generation. */
async function checkLogs(tallies: readonly { readonly allowed: number; readonly denied: number }[]): Promise<void> {
  for (const [place, { allowed, denied }] of tallies.entries()) {
    const log = auditFolder(path.join(folder, `audit-${place}`));
    const counted = { success: 0, denied: 0, failure: 0 };
    const reasons = new Set<string>();
    for await (const { event, outcome } of auditEvents(log, { principal: 'remote/reader' })) {
      counted[outcome] += 1;
      if (outcome === 'denied')
        reasons.add((event.errorMessage ?? '').replace(/-\d+\.$/, '-N.').replace(/(odd|even)/, '…'));
    }
    expect(counted).toEqual({ success: allowed, denied, failure: 0 });
    expect([...reasons]).toEqual([
      'remote/reader may not do secrets:GetSecretValue on secret/turns/…: denied by policy/turns#closed-N.',
    ]);
  }
}
