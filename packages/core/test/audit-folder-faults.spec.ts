import { execFile, execFileSync } from 'node:child_process';
import { type FileHandle, mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { auditFiles, type AuditLog } from '@nestjs-secrets/core';
import { eventually } from '../../../test/support/eventually.js';
import { AuditWorld, failureOf, read } from './support/audit-world.js';

const run = promisify(execFile);
const LIMIT_MS = 2000;
/** Mounting a file system of its own takes root, and a container may still forbid it. */
const canMount = process.platform === 'linux' && process.geteuid?.() === 0 && mounts();
const withMount = canMount ? it : it.skip;

let world: AuditWorld;
const mounted: string[] = [];

beforeEach(async () => {
  world = await AuditWorld.create();
});

afterEach(async () => {
  await world.remove().catch(() => undefined);
  for (const folder of mounted.splice(0)) await run('umount', ['-l', folder]);
  await rm(world.home, { recursive: true, force: true });
});

function mounts(): boolean {
  try {
    execFileSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'none', '/mnt'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

async function tmpfs(options: string): Promise<void> {
  await mkdir(world.folder, { recursive: true, mode: 0o700 });
  await run('mount', ['-t', 'tmpfs', '-o', `mode=0700,${options}`, 'none', world.folder]);
  mounted.push(world.folder);
}

const openHere = (openFile?: Parameters<typeof auditFiles>[0]['openFile']): Promise<AuditLog> =>
  world.open({
    sinks: [{ sink: auditFiles({ folder: world.folder, ...(openFile && { openFile }) }), mode: 'required' }],
    checkpoints: undefined,
    timeLimitMs: LIMIT_MS,
  });

/** Records until it works, whatever else comes of it on the way. */
const recover = (log: AuditLog): Promise<void> =>
  eventually(
    'it records again',
    () =>
      log.record(read('After')).then(
        () => true,
        () => false,
      ),
    40_000,
  );

async function expectIntact(): Promise<void> {
  const { verdict, findings } = await world.verify({ checkpoints: undefined });
  expect({ verdict, findings }).toEqual({ verdict: 'intact', findings: [] });
}

describe('a folder that', () => {
  withMount('is full: nothing happens unrecorded, and with space it goes on without a restart', async () => {
    await tmpfs('size=256k');
    const log = await openHere();
    const big = { additionalEventData: { report: 'x'.repeat(20_000) } };
    let recorded = 0;
    let error: Error & { code?: string } = new Error('never full');
    while (error.code === undefined) {
      try {
        await log.record(read('Full', big));
        recorded += 1;
      } catch (caught) {
        error = caught as typeof error;
      }
    }
    expect(error.code).toBe('AUDIT_UNAVAILABLE');
    expect(error.message).toContain('ENOSPC');
    expect(error.message).toContain('Free some space');
    await run('mount', ['-o', 'remount,size=4m', world.folder]);
    await recover(log);
    await log.close();
    const full = (await world.records()).filter(({ event }) => event['resourceName'] === 'Full');
    expect(full.length).toBeGreaterThanOrEqual(recorded);
    await expectIntact();
  });

  withMount('becomes read-only, and writable again', async () => {
    await tmpfs('size=4m');
    const log = await openHere();
    await log.record(read('Before'));
    await log.close();
    await run('mount', ['-o', 'remount,ro', world.folder]);
    expect((await failureOf(openHere())).code).toBe('AUDIT_FOLDER_UNUSABLE');
    await run('mount', ['-o', 'remount,rw', world.folder]);
    const again = await openHere();
    await again.record(read('After'));
    await again.close();
    await expectIntact();
  });

  it('takes only a part of what is written, and fails in between: the records stay whole', async () => {
    let failures = 5;
    const faulty = async (path: string, flags: string, mode: number): Promise<FileHandle> => {
      const file = await open(path, flags, mode);
      const write = file.write.bind(file);
      const sync = file.datasync.bind(file);
      const error = (code: string): Error => Object.assign(new Error(code), { code });
      return Object.assign(file, {
        write: async (bytes: Buffer, offset: number, length: number, position: number) => {
          if (length > 400 && failures > 0) {
            failures -= 1;
            await write(bytes, offset, 300, position);
            throw error('ENOSPC');
          }
          return write(bytes, offset, Math.min(length, 173), position);
        },
        datasync: async () => {
          if (failures === 1) {
            failures -= 1;
            throw error('EIO');
          }
          return sync();
        },
      });
    };
    const log = await openHere(faulty);
    await Promise.allSettled(Array.from({ length: 20 }, (_, index) => log.record(read(`S${index}`))));
    await recover(log);
    await log.close();
    expect(failures).toBe(0);
    await expectIntact();
  });

  it('loses the file that is being written: the log goes on in a new one, and the gap is seen', async () => {
    const log = await openHere();
    await log.record(read('Before'));
    await rm(join(world.folder, 'audit-00000001.jsonl'));
    await log.record(read('After'));
    await log.close();
    expect(world.warnings.join()).toContain('was removed or replaced');
    expect((await world.records()).map(({ event }) => event['resourceName'])).toEqual(['After']);
    expect(await world.verify({ checkpoints: undefined })).toMatchObject({
      verdict: 'tampered',
      first: { kind: 'file-missing', file: 'audit-00000002.jsonl', sequence: 1, through: 1 },
    });
  });

  it('has its file moved away and another put in its place', async () => {
    const log = await openHere();
    await log.record(read('Before'));
    const file = join(world.folder, 'audit-00000001.jsonl');
    await rename(file, `${file}.moved`);
    await writeFile(file, '');
    await log.record(read('After'));
    await log.close();
    await rename(`${file}.moved`, file);
    await expectIntact();
  });

  it('is deleted while open: fails closed, says so, and goes on once it is there again', async () => {
    const log = await openHere();
    await log.record(read('Before'));
    await rm(world.folder, { recursive: true });
    const error = await failureOf(log.record(read('Gone')));
    expect(error.code).toBe('AUDIT_UNAVAILABLE');
    expect(error.message).toContain('mkdir -m 700');
    await mkdir(world.folder, { mode: 0o700 });
    await recover(log);
    expect((await failureOf(openHere())).code).toBe('AUDIT_FOLDER_BUSY');
    await log.close();
    expect((await world.records()).map(({ event }) => event['resourceName'])).toContain('Gone');
    const { counts } = await world.verify({ checkpoints: undefined });
    expect(counts).toEqual({ 'file-missing': 1 });
  });
});
