import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { auditFiles, auditFolder, AuditLog, type AuditEventInput, verifyAudit } from '@nestjs-secrets/core';
import type { Row } from './row.js';

/** Events recorded at once, so that writing the log does not take longer than reading it. */
const TOGETHER = 2_000;
const ORIGIN = 'bench.example.com/audit';

interface Verified {
  readonly perSecond: number;
  /** The most that was in use on the way, garbage taken away, in megabytes. */
  readonly heapMegabytes: number;
  /** The most memory that the process had, in megabytes. */
  readonly residentMegabytes: number;
}

/** `verifyAudit` over a log of so many events, against one of a hundredth: it streams, so the memory it takes must be the same. */
export async function benchVerify({ events }: { readonly events: number }): Promise<Row[]> {
  const small = await verifiedLog(Math.max(TOGETHER, Math.round(events / 100)));
  const large = await verifiedLog(events);
  const row = (what: keyof Verified, name: string, unit: string): Row => ({
    name: `verify: ${name}, ${events} events against a hundredth`,
    value: large[what],
    baseline: small[what],
    ratio: large[what] / small[what],
    unit,
  });
  return [
    row('perSecond', 'events verified', 'ev/s'),
    row('heapMegabytes', 'most heap in use', 'MB'),
    row('residentMegabytes', 'most resident memory', 'MB'),
  ];
}

async function verifiedLog(events: number): Promise<Verified> {
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-bench-'));
  const key = randomBytes(32);
  try {
    await writeLog(path.join(folder, 'audit'), key, events);
    let [heap, resident] = [0, 0];
    const look = (): void => {
      globalThis.gc?.();
      const { heapUsed, rss } = process.memoryUsage();
      [heap, resident] = [Math.max(heap, heapUsed), Math.max(resident, rss)];
    };
    const begun = performance.now();
    const { verdict, records } = await verifyAudit({
      origin: ORIGIN,
      log: auditFolder(path.join(folder, 'audit')),
      keys: [key],
      progressEvery: Math.ceil(events / 20),
      onProgress: look,
    });
    const seconds = (performance.now() - begun) / 1000;
    if (verdict !== 'intact' || records < events) throw new Error(`The log is ${verdict} and has ${records} records.`);
    return { perSecond: events / seconds, heapMegabytes: heap / 1_048_576, residentMegabytes: resident / 1_048_576 };
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function writeLog(folder: string, key: Buffer, events: number): Promise<void> {
  const log = new AuditLog({
    origin: ORIGIN,
    key,
    sinks: [{ sink: auditFiles({ folder }), mode: 'required' }],
    // How long a busy disk takes is not what is measured.
    timeLimitMs: 60_000,
  });
  await log.open();
  for (let at = 0; at < events; at += TOGETHER) {
    const count = Math.min(TOGETHER, events - at);
    await Promise.all(Array.from({ length: count }, (_, index) => log.record(eventOf(at + index))));
  }
  await log.close();
}

function eventOf(count: number): AuditEventInput {
  return {
    eventName: 'GetSecretValue',
    eventRW: 'Read',
    userIdentity: { type: 'application', principalId: 'app/orders', instanceId: 'orders-7d9f' },
    requestId: `request-${count}`,
    resourceName: `billing/secret-${count % 997}`,
    resourceType: 'Secret',
    requestParameters: { stage: 'current', versionId: `v${count % 89}` },
  };
}
