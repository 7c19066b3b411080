import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { CREDENTIALS, type Strategy } from 'nestjs-secrets-test/crash/rotating-app';
import { type PostgresServer, startPostgres } from 'nestjs-secrets-test/postgres-server';
import { type CanaryLife, filesUnder, liveThrough } from './support/canary-life.js';
import { ChildProcesses } from './support/child-process.js';
import { leaks } from './support/leak-search.js';

const children = new ChildProcesses();
let server: PostgresServer;
let folder: string;

beforeAll(async () => {
  server = await startPostgres({
    settings: { log_statement: 'all', log_min_messages: 'debug1', log_connections: 'on' },
  });
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-canary-'));
});
afterAll(async () => {
  children.killAll();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

describe.each<Strategy>(['alternating-users', 'single-user'])(
  'a talkative application in which everything goes wrong once (%s)',
  (strategy) => {
    let life: CanaryLife;

    beforeAll(async () => {
      life = await liveThrough(children, server, folder, { name: strategy.replace('-', '_'), strategy });
    }, 160_000);

    it('lives to its end, having shown what it was to show', () => {
      const { child, secrets, order } = life;
      expect({ code: child.code, stderr: child.stderr.slice(0, 3_000) }).toMatchObject({ code: 0 });
      expect(child.stdout.endsWith('lived to the end\n')).toBe(true);
      for (const what of [
        'schema mismatch',
        'too large',
        'conflict',
        'apply fails',
        'undo fails',
        'no such table',
        'unreadable url',
        'wrong key',
        'undo of a rollback fails',
        'rolled back',
        'renew fails',
        'store fails',
        'audited',
        'no place for a value',
        'event',
        'report',
      ]) {
        expect(`${what}: ${child.stdout.includes(`\n${what}: `)}`).toBe(`${what}: true`);
      }
      expect(child.stdout).toContain('QueryFailedError');
      expect(child.stderr).toContain('a listener failed for [redacted]');
      // What was given, first versions and rotations, some of which fail.
      expect(secrets.size).toBeGreaterThanOrEqual(Object.keys(order.canaries).length + 12);
    });

    it('I7 shows no value on stdout and stderr, in logs of Nest and TypeORM, errors, events, health, options and the environment', () => {
      const output = new Map([
        ['stdout', life.child.stdout],
        ['stderr', life.child.stderr],
      ]);
      expect(leaks(life.secrets, output)).toEqual([]);
    });

    it('I7 leaves no value in the clear in any file it writes: store, key, pino, audit log, diagnostic report, temporary files', () => {
      expect([...life.files.keys()]).toEqual(
        expect.arrayContaining([
          expect.stringMatching(/secrets\.db$/),
          expect.stringMatching(/-wal$/),
          expect.stringMatching(/-shm$/),
          expect.stringMatching(/local\.key$/),
          expect.stringMatching(/pino\.log$/),
          expect.stringMatching(/audit\/audit-\d+\.jsonl$/),
          expect.stringMatching(/audit-by-hand\/audit-\d+\.jsonl$/),
          expect.stringMatching(/report\.json$/),
        ]),
      );
      expect(leaks(life.secrets, life.files)).toEqual([]);
    });

    it('I7 sends no value to PostgreSQL in a statement', () => {
      const log = server.log();
      expect(log).toContain('ALTER ROLE');
      expect(log).toContain('SCRAM-SHA-256$');
      expect(leaks(life.secrets, new Map([['the log of PostgreSQL', log]]))).toEqual([]);
    });

    it('I7 leaves no value in the files of PostgreSQL, its write-ahead log included', async () => {
      await server.query('CHECKPOINT');
      const files = await filesUnder(server.dataFolder);
      expect([...files.keys()]).toEqual(expect.arrayContaining([expect.stringMatching(/pg_wal\/[0-9A-F]{24}$/)]));
      expect(leaks(life.secrets, files)).toEqual([]);
      // A store is in there, and is read: the names of its secrets are not sealed.
      expect(leaks(new Map([['a name', 'InPostgres']]), files)).not.toEqual([]);
    }, 120_000);

    it('is searched in a way that finds what is there', () => {
      const { child, files, order } = life;
      const name = new Map([['the name of a secret', CREDENTIALS]]);
      expect(leaks(name, new Map([['stdout', child.stdout]]))).toHaveLength(1);
      for (const file of ['secrets.db', 'report.json', 'pino.log', 'local.key'])
        expect([...files.keys()].some((known) => known.endsWith(file))).toBe(true);
      expect(leaks(name, files)).not.toEqual([]);
      const role = new Map([['the name of a role', order.place.roleName]]);
      expect(leaks(role, new Map([['the log of PostgreSQL', server.log()]]))).toHaveLength(1);
    });
  },
);
