import { createHmac, randomBytes } from 'node:crypto';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { auditFiles, AuditLog, type AuditEventInput } from '@nestjs-secrets/core';
import { compare, type Row } from './row.js';

const ROUNDS = 9;
const CALLERS = 64;
const EVENTS = 16_000;
const BARE_EVENTS = 1000;
const KEY = randomBytes(32);

/** Events recorded by 64 callers, who each wait for theirs, against lines of the same size with an HMAC and an fdatasync each. */
export async function benchAudit(): Promise<Row[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-bench-'));
  const log = new AuditLog({
    origin: 'bench.example.com/audit',
    key: KEY,
    sinks: [{ sink: auditFiles({ folder: path.join(folder, 'audit') }), mode: 'required' }],
  });
  await log.open();
  const bare = await open(path.join(folder, 'bare.jsonl'), 'wx', 0o600);
  try {
    const grouped = (): Promise<number> => rateOf(EVENTS, () => recordAll(log, CALLERS, EVENTS));
    const alone = (): Promise<number> => rateOf(BARE_EVENTS, () => recordAll(log, 1, BARE_EVENTS));
    const one = (): Promise<number> => rateOf(BARE_EVENTS, () => appendEach(bare, BARE_EVENTS));
    // Unmeasured rounds, for the compiler.
    for (let round = 0; round < 3; round++) for (const warmUp of [grouped, one, alone]) await warmUp();
    return [
      await compare(`audit: events, ${CALLERS} callers, against an fsync each`, 'ev/s', ROUNDS, grouped, one),
      await compare('audit: events, one caller, against an fsync each', 'ev/s', ROUNDS, alone, one),
    ];
  } finally {
    await log.close();
    await bare.close();
    await rm(folder, { recursive: true });
  }
}

function eventOf(count: number): AuditEventInput {
  return {
    eventName: 'GetSecretValue',
    eventRW: 'Read',
    userIdentity: { type: 'application', principalId: 'app/orders', instanceId: 'orders-7d9f' },
    requestId: `request-${count}`,
    resourceName: 'billing/MyDbCreds',
    resourceType: 'Secret',
    requestParameters: { stage: 'current', versionId: 'v1042' },
  };
}

async function recordAll(log: AuditLog, callers: number, events: number): Promise<void> {
  const caller = async (): Promise<void> => {
    for (let count = 0; count < events / callers; count++) await log.record(eventOf(count));
  };
  await Promise.all(Array.from({ length: callers }, caller));
}

async function appendEach(file: FileHandle, events: number): Promise<void> {
  let mac = '';
  for (let count = 0; count < events; count++) {
    const line = JSON.stringify({ count, previous: mac, event: eventOf(count) });
    mac = createHmac('sha256', KEY).update(line).digest('hex');
    await file.appendFile(`${line.padEnd(560)}${mac}\n`);
    await file.datasync();
  }
}

async function rateOf(events: number, work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (events * 1000) / (performance.now() - start);
}
