import { spawn, type ChildProcess } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, describe, expect, it } from '@jest/globals';
import { auditFiles, AuditLog } from '@nestjs-secrets/core';
import { AUDIT_ORIGIN, type AuditOrder } from 'nestjs-secrets-test/audit/audit-order';
import { killWriters } from 'nestjs-secrets-test/audit/kill-writers';

const KILLS = Number(process.env['AUDIT_KILLS'] ?? 25);
const SCRIPT = path.resolve('test/dist/audit/audit-child.js');
const SIGNING_KEY = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const running = new Set<ChildProcess>();

afterAll(() => {
  for (const child of running) child.kill('SIGKILL');
});

describe('I9: what was acknowledged survives', () => {
  it(
    `${KILLS} deaths by SIGKILL in the midst of writing, with no false alarm, and every next start works`,
    async () => {
      const report = await killWriters(KILLS, SCRIPT);
      expect(report.faults).toEqual([]);
      expect(report.acknowledged).toBeGreaterThan(KILLS);
    },
    120_000 + KILLS * 4000,
  );
});

describe('two processes on one folder', () => {
  it('the second is told so; once the first was killed, another has it', async () => {
    const home = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-two-'));
    const order: AuditOrder = {
      folder: path.join(home, 'audit'),
      elsewhere: path.join(home, 'elsewhere'),
      key: Buffer.alloc(32, 5).toString('hex'),
      signingKey: SIGNING_KEY,
      callers: 1,
    };
    const start = (): ChildProcess => {
      const child = spawn(process.execPath, [SCRIPT, JSON.stringify(order)], { stdio: ['ignore', 'pipe', 'inherit'] });
      running.add(child);
      return child;
    };
    const first = start();
    expect(await firstLine(first)).toBe('open');
    const second = start();
    expect(await firstLine(second)).toBe('failed AUDIT_FOLDER_BUSY');
    await once(second, 'close');
    const own = new AuditLog({
      origin: AUDIT_ORIGIN,
      key: Buffer.from(order.key, 'hex'),
      sinks: [{ sink: auditFiles({ folder: order.folder }), mode: 'required' }],
    });
    await expect(own.open()).rejects.toMatchObject({ code: 'AUDIT_FOLDER_BUSY' });
    first.kill('SIGKILL');
    await once(first, 'close');
    await own.open();
    await own.close();
    await rm(home, { recursive: true });
  });
});

async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('no pipe');
  const lines = createInterface({ input: child.stdout });
  const [line]: unknown[] = await once(lines, 'line');
  lines.close();
  child.stdout.resume();
  return String(line);
}
