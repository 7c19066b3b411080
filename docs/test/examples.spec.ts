import { mkdir, mkdtemp, readdir, realpath, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ConsoleLogger } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { SecretsManager } from '@nestjs-secrets/core';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { DataSource } from 'typeorm';
import { main as backupAndRestore } from '../examples/backup-and-restore.js';
import { main as censoredLogs } from '../examples/censored-logs.js';
import { main as customRotator } from '../examples/custom-rotator.js';
import { main as leakedKey } from '../examples/leaked-key.js';
import { main as moving } from '../examples/moving.js';
import { main as guardedApplication } from '../examples/guarded-application.js';
import { main as liveHandle } from '../examples/live-handle.js';
import { main as livePool } from '../examples/live-pool.js';
import { main as oneHandle } from '../examples/one-handle.js';
import { main as simulatedSchedule } from '../examples/simulated-schedule.js';
import { main as testingAnApplication } from '../examples/testing-an-application.js';

describe('the examples of the guide', () => {
  it('live-handle.ts', async () => {
    expect(await liveHandle()).toEqual({
      mails: [14, 24, 14].map((length) => `sent as mailer with a password of ${length} characters`),
      reconnects: ['v1 → v2', 'v2 → v1 (back)'],
      printed: 'SecretVersion(SmtpLogin@v1)',
    });
  });

  it('backup-and-restore.ts', async () => {
    expect(await backupAndRestore()).toEqual({ isComplete: true, imported: 1, look: [], value: 'a value' });
  });

  it('censored-logs.ts', async () => {
    const lines: unknown[] = [];
    class Collecting extends ConsoleLogger {
      protected override printMessages(messages: unknown[], context?: string): void {
        if (context === 'Payments') lines.push(...messages);
      }
    }
    await censoredLogs(new Collecting());
    expect(lines).toEqual(['charge failed: {"key":"[redacted]","authorization":"Basic [redacted]To="}']);
  });

  it('custom-rotator.ts', async () => {
    expect(await customRotator()).toEqual({
      steps: ['create', 'apply', 'verify', 'promote', 'retire'],
      oldKey: 401,
      newKey: 200,
      keysLeft: 1,
    });
  });

  it('guarded-application.ts', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-guarded-'));
    expect(await guardedApplication(folder)).toEqual({
      read: 'SecretVersion(billing/db@v1)',
      refused: 'ACCESS_DENIED',
      whyNot: ['widen-actions policy/billing-readers'],
      readers: ['remote/billing-eu: 1'],
      denied: ['remote/billing-eu PutSecretValue from 203.0.113.9'],
      verdict: 'intact',
    });
    await rm(folder, { recursive: true });
  });

  it('testing-an-application.ts', async () => {
    expect(await testingAnApplication()).toEqual(['hello.first', 'hello.second']);
  });

  it('moving.ts', async () => {
    expect(await moving()).toEqual(['moved', 'entries,', '0 left', 'a value is still there']);
  });

  it('leaked-key.ts', async () => {
    expect(await leakedKey()).toEqual(['1 disabled', '2 active', 'a value is still there']);
  });

  it('one-handle.ts', async () => {
    expect(await oneHandle()).toBe('fixed');
  });

  it('simulated-schedule.ts', async () => {
    expect(await simulatedSchedule()).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });
});

describe('the examples that need a PostgreSQL', () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(() => server.stop());

  it('live-pool.ts', async () => {
    const { host, port, database, admin } = server;
    expect(await livePool({ host, port, database, admin })).toEqual({
      before: 'shop_1',
      after: 'shop_2',
      inTheOldTransaction: 'shop_1',
      versions: ['v1', 'v2'],
      retired: { refused: true, sessionsEnded: 0, sessionsLeft: 0 },
    });
  });

  it('quick-start.ts: starts in an empty folder and rotates under one DataSource', async () => {
    const folder = await realpath(await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-quick-start-')));
    const before = process.cwd();
    await mkdir(path.join(folder, 'app'));
    process.chdir(path.join(folder, 'app'));
    process.env['PGPORT'] = String(server.port);
    process.env['ADMIN_PASSWORD'] = server.admin.password;
    try {
      const { AppModule } = await import('../examples/quick-start.js');
      const app = await NestFactory.createApplicationContext(AppModule, { logger: false, abortOnError: false });
      const dataSource = app.get(DataSource);
      await dataSource.query('CREATE TABLE quick_start AS SELECT session_user AS made_by');
      await app.get(SecretsManager).rotateSecret('MyDbCreds', { until: 'retired' });
      expect(app.get(DataSource)).toBe(dataSource);
      expect(await dataSource.query('SELECT made_by, session_user AS read_by FROM quick_start')).toEqual([
        { made_by: 'orders_1', read_by: 'orders_2' },
      ]);
      expect((await stat(path.join(folder, 'keys/orders.json'))).mode & 0o077).toBe(0);
      await app.close();
      expect(await readdir(path.join(folder, 'app'))).toContain('secrets.sqlite');
    } finally {
      process.chdir(before);
      await rm(folder, { recursive: true, force: true });
    }
  });
});
