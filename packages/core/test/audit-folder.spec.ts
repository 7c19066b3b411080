import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { auditFiles, type AuditLog, isSecretsError } from '@nestjs-secrets/core';
import { AuditWorld, failureOf, read } from './support/audit-world.js';

let world: AuditWorld;
beforeEach(async () => {
  world = await AuditWorld.create();
});
afterEach(() => world.remove());

const recordMany = (log: AuditLog, count: number): Promise<unknown> =>
  Promise.all(Array.from({ length: count }, (_, index) => log.record(read(`Secret${index}`))));

describe('the folder', () => {
  it("is one log's at a time", async () => {
    const log = await world.open();
    const error = await failureOf(world.open());
    expect(error.code).toBe('AUDIT_FOLDER_BUSY');
    expect(error.message).toContain(world.folder);
    await log.close();
    await (await world.open()).record(read('A'));
  });

  it('goes to one of many that start at once, or to none, and never to two', async () => {
    const starts = await Promise.allSettled(Array.from({ length: 8 }, () => world.open({ checkpoints: undefined })));
    const opened = starts.filter(({ status }) => status === 'fulfilled');
    expect(opened.length).toBeLessThanOrEqual(1);
    for (const start of starts) {
      if (start.status === 'rejected') expect(isSecretsError(start.reason, 'AUDIT_FOLDER_BUSY')).toBe(true);
    }
  });

  it('must not be open to others', async () => {
    await mkdir(world.folder, { recursive: true });
    await chmod(world.folder, 0o755);
    const error = await failureOf(world.open());
    expect(error).toMatchObject({ code: 'AUDIT_FOLDER_EXPOSED' });
    expect(error.message).toContain(`chmod 700 '${world.folder}'`);
  });

  it('may have a long path', async () => {
    const folder = join(world.home, 'a'.repeat(120), 'b'.repeat(120));
    const log = await world.open({ sinks: [{ sink: auditFiles({ folder }), mode: 'required' }] });
    expect((await failureOf(world.open({ sinks: [{ sink: auditFiles({ folder }), mode: 'required' }] }))).code).toBe(
      'AUDIT_FOLDER_BUSY',
    );
    await log.record(read('A'));
  });

  it('whose last file was changed is not continued', async () => {
    const log = await world.open();
    await recordMany(log, 5);
    await log.close();
    const file = join(world.folder, 'audit-00000001.jsonl');
    await writeFile(file, (await readFile(file, 'utf8')).replace('Secret2', 'Secret9'));
    const error = await failureOf(world.open());
    expect(error.code).toBe('AUDIT_LOG_DAMAGED');
    expect(error.message).toContain('record 3');
  });

  it('whose end was cut off is not continued when a checkpoint remembers it', async () => {
    const log = await world.open();
    await recordMany(log, 5);
    await log.close();
    const file = join(world.folder, 'audit-00000001.jsonl');
    await writeFile(file, `${(await readFile(file, 'utf8')).split('\n').slice(0, 4).join('\n')}\n`);
    const error = await failureOf(world.open());
    expect(error).toMatchObject({ code: 'AUDIT_LOG_DAMAGED' });
    expect(error.message).toContain('5 records, and only 3 are left');
  });
});
