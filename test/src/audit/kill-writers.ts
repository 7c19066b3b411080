import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import {
  auditFolder,
  type AuditVerification,
  auditEvents,
  checkpointFile,
  checkpointSigner,
  verifyAudit,
} from '@nestjs-secrets/core';
import { AUDIT_ORIGIN, type AuditOrder } from './audit-order.js';

export interface KillReport {
  readonly kills: number;
  readonly acknowledged: number;
  /** Deaths that left a line half-written. */
  readonly torn: number;
  /** What is wrong: events lost, false alarms, starts that did not work. Empty when all is well. */
  readonly faults: readonly string[];
}

/** So many deaths are in one log. What has to be looked through after each grows with the log, and a new log is as good. */
const KILLS_A_LOG = 100;

/**
 * Kills processes that write an audit log, one after the other, with SIGKILL, each after some number of acknowledged events. After each death the log must
 * verify, and hold every event that was acknowledged; the next process must start without help.
 */
export async function killWriters(kills: number, script: string, onKill?: (kill: number) => void): Promise<KillReport> {
  const reports: KillReport[] = [];
  for (let done = 0; done < kills; done += KILLS_A_LOG)
    reports.push(await killOneLog(Math.min(KILLS_A_LOG, kills - done), script, (kill) => onKill?.(done + kill)));
  const sum = (count: (report: KillReport) => number): number =>
    reports.reduce((before, report) => before + count(report), 0);
  return {
    kills: sum((report) => report.kills),
    acknowledged: sum(({ acknowledged }) => acknowledged),
    torn: sum(({ torn }) => torn),
    faults: reports.flatMap(({ faults }) => faults),
  };
}

async function killOneLog(kills: number, script: string, onKill: (kill: number) => void): Promise<KillReport> {
  const home = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-kills-'));
  const { privateKey } = generateKeyPairSync('ed25519');
  const order: AuditOrder = {
    folder: path.join(home, 'audit'),
    elsewhere: path.join(home, 'elsewhere', 'checkpoints'),
    key: randomBytes(32).toString('hex'),
    signingKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    callers: 8,
  };
  const { verifierKey } = checkpointSigner(privateKey, AUDIT_ORIGIN);
  const faults: string[] = [];
  const lost = new Set<string>();
  let acknowledged = 0;
  let torn = 0;
  try {
    for (let kill = 1; kill <= kills; kill += 1) {
      const child = spawn(process.execPath, [script, JSON.stringify(order)], { stdio: ['ignore', 'pipe', 'inherit'] });
      const said = await killAfter(child, 1 + (randomBytes(2).readUInt16BE() % 300));
      faults.push(...said.filter((line) => line.startsWith('failed')).map((line) => `start ${kill}: ${line}`));
      if (!said.includes('open')) faults.push(`start ${kill}: the log was never opened`);
      const events = said.filter((line) => line !== 'open' && !line.startsWith('failed'));
      acknowledged += events.length;
      for (const eventId of events) lost.add(eventId);
      const result = await verify(order, verifierKey);
      if (result.verdict === 'torn-tail') torn += 1;
      if (result.verdict === 'tampered') faults.push(`false alarm after kill ${kill}: ${result.first?.message ?? ''}`);
      for await (const { event } of auditEvents(auditFolder(order.folder))) {
        lost.delete(event.eventId);
        if (lost.size === 0) break;
      }
      if (lost.size > 0) faults.push(`kill ${kill} lost ${lost.size} acknowledged events`);
      lost.clear();
      onKill(kill);
    }
  } finally {
    await rm(home, { recursive: true, force: true });
  }
  return { kills, acknowledged, torn, faults };
}

function verify(order: AuditOrder, verifierKey: string): Promise<AuditVerification> {
  const places = [
    checkpointFile({ path: path.join(order.folder, 'checkpoints') }),
    checkpointFile({ path: order.elsewhere }),
  ];
  return verifyAudit({
    origin: AUDIT_ORIGIN,
    log: auditFolder(order.folder),
    keys: [Buffer.from(order.key, 'hex')],
    checkpoints: { verifierKeys: [verifierKey], places },
  });
}

/** Everything the process said in whole lines until it was dead. */
async function killAfter(child: ChildProcess, lines: number): Promise<string[]> {
  const said: string[] = [];
  if (child.stdout === null) throw new Error('no pipe');
  for await (const line of createInterface({ input: child.stdout })) {
    said.push(line);
    if (said.length === lines) child.kill('SIGKILL');
  }
  return said;
}
