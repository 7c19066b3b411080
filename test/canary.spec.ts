import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { CREDENTIALS, type Strategy } from 'nestjs-secrets-test/crash/rotating-app';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb } from 'nestjs-secrets-test/mariadb-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import { type CanaryLife, filesUnder, type LifeServer, liveThrough } from './support/canary-life.js';
import { ChildProcesses } from './support/child-process.js';
import { leaks } from './support/leak-search.js';

interface WatchedServer extends LifeServer {
  readonly dataFolder: string;
  log(): string;
  stop(): Promise<void>;
}

interface Watched {
  readonly kind: 'postgres' | 'mariadb';
  readonly strategies: readonly Strategy[];
  /** Starts it so that it logs all it can. */
  start(): Promise<WatchedServer>;
  /** What the server logs of a rotation: that statements were sent, and the verifiers in them. */
  readonly inLog: readonly (string | RegExp)[];
  /** Files of the server that a value would stand in, were it sent. */
  readonly inFiles: readonly RegExp[];
  /** Has the server write what it holds in memory. */
  readonly flush: string;
}

/** What an application shows in its life that must be seen to have been shown. */
const SHOWN = [
  'schema mismatch',
  'too large',
  'conflict',
  'no JSON',
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
  'audit record',
  'no place for a value',
  'process report',
  'rotation event',
  'lifecycle event',
  'key event',
  'integrity event',
  'anomaly',
  'health',
  'rewrap report',
  'key disabled',
  'value expired',
  'secret deleted',
  'denied',
  'damaged',
  'store verification',
  'audit verification',
];

function livesOn({ kind, strategies, start, inLog, inFiles, flush }: Watched): void {
  const children = new ChildProcesses();
  let server: WatchedServer;
  let folder: string;

  beforeAll(async () => {
    server = await start();
    folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-canary-'));
  }, 120_000);
  afterAll(async () => {
    children.killAll();
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  describe.each(strategies)('a talkative application in which everything goes wrong once (%s)', (strategy) => {
    let life: CanaryLife;

    beforeAll(async () => {
      life = await liveThrough(children, server, folder, { name: strategy.replace('-', '_'), strategy, kind });
    }, 160_000);

    it('lives to its end, having shown what it was to show', () => {
      const { child, secrets, order } = life;
      expect({ code: child.code, stderr: child.stderr.slice(0, 3_000) }).toMatchObject({ code: 0 });
      expect(child.stdout.endsWith('lived to the end\n')).toBe(true);
      expect(SHOWN.filter((what) => !child.stdout.includes(`\n${what}: `))).toEqual([]);
      expect(child.stdout).toContain('QueryFailedError');
      expect(child.stderr).toContain('a listener failed for [redacted]');
      // What was given, first versions and rotations, some of which fail.
      expect(secrets.size).toBeGreaterThanOrEqual(Object.keys(order.canaries).length + 12);
    });

    it('I7 shows no value on stdout and stderr, in logs of Nest and TypeORM, errors, events, health, reports, options and the environment', () => {
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

    it('I7 sends no value to the server in a statement', () => {
      const log = server.log();
      for (const statement of inLog) expect(log).toMatch(statement);
      expect(leaks(life.kept, new Map([['the log of the server', log]]))).toEqual([]);
    });

    it('I7 leaves no value in the files of the server, its write-ahead log included', async () => {
      await server.query(flush);
      const files = await filesUnder(server.dataFolder);
      for (const file of inFiles)
        expect([...files.keys()]).toEqual(expect.arrayContaining([expect.stringMatching(file)]));
      expect(leaks(life.kept, files)).toEqual([]);
      // A store is in there, and is read: the names of its secrets are not sealed.
      expect(leaks(new Map([['a name', 'InStore']]), files)).not.toEqual([]);
    }, 120_000);

    it('is searched in a way that finds what is there', () => {
      const { child, files, order } = life;
      const name = new Map([['the name of a secret', CREDENTIALS]]);
      expect(leaks(name, new Map([['stdout', child.stdout]]))).toHaveLength(1);
      for (const file of ['secrets.db', 'report.json', 'pino.log', 'local.key'])
        expect([...files.keys()].some((known) => known.endsWith(file))).toBe(true);
      expect(leaks(name, files)).not.toEqual([]);
      const role = new Map([['the name of a role', order.place.roleName]]);
      expect(leaks(role, new Map([['the log of the server', server.log()]]))).toHaveLength(1);
    });
  });
}

describe('on PostgreSQL', () => {
  livesOn({
    kind: 'postgres',
    strategies: ['alternating-users', 'single-user'],
    start: () =>
      startPostgres({ settings: { log_statement: 'all', log_min_messages: 'debug1', log_connections: 'on' } }),
    inLog: ['ALTER ROLE', 'SCRAM-SHA-256$'],
    inFiles: [/pg_wal\/[0-9A-F]{24}$/],
    flush: 'CHECKPOINT',
  });
});

describeWithMariadb('on MariaDB', () => {
  livesOn({
    kind: 'mariadb',
    strategies: ['alternating-users', 'dual-password'],
    start: () =>
      startMariadb({
        generalLog: true,
        settings: {
          'log-bin': 'binary-log',
          'server-id': '1',
          'slow-query-log': '1',
          'long-query-time': '0',
          'innodb-log-file-size': '8M',
        },
      }),
    inLog: ['ALTER USER', /USING '\*[0-9A-F]{40}'/],
    inFiles: [/ib_logfile0$/, /ibdata1$/, /binary-log\.\d+$/, /-slow\.log$/, /nestjs_secrets\.ibd$/],
    flush: 'FLUSH LOGS',
  });
});
