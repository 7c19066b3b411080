import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { CanaryOrder } from 'nestjs-secrets-test/canary/canary-order';
import { CREDENTIALS, type Strategy } from 'nestjs-secrets-test/crash/rotating-app';
import { type PostgresServer, startPostgres } from 'nestjs-secrets-test/postgres-server';
import { ChildProcesses, type ChildResult } from './support/child-process.js';
import { formsOf, leaks } from './support/leak-search.js';

/** With characters that each way of writing it changes. */
const canary = (name: string): string => `${name} "cänary" 'ß'/\\?&=${randomBytes(12).toString('hex')}`;

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

async function orderFor(strategy: Strategy): Promise<CanaryOrder> {
  const home = path.join(folder, strategy);
  await mkdir(home);
  const database = strategy.replace('-', '_');
  await server.query(`CREATE DATABASE ${database}`);
  const address = { host: server.host, port: server.port, database };
  return {
    place: { folder: home, strategy, roleName: database, server: address, admin: server.admin },
    canaries: {
      initial: canary('initial'),
      put: canary('put'),
      misfit: canary('misfit'),
      oversized: canary('oversized'),
      conflicting: canary('conflicting'),
      inPostgres: canary('in postgres'),
    },
    madeFile: path.join(folder, `${strategy}-made.txt`),
    copyFolder: path.join(folder, `${strategy}-copy`),
  };
}

/** All that must not exist outside of an envelope: what the application was given, and what its rotator made. */
async function secretsOf({ canaries, madeFile }: CanaryOrder): Promise<Map<string, string>> {
  const made = (await readFile(madeFile, 'utf8')).trim().split('\n');
  return new Map([
    ...Object.entries(canaries),
    ...made.map((password, index) => [`password ${index + 1}`, password] as const),
  ]);
}

async function filesUnder(home: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const entry of await readdir(home, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (entry.isFile()) files.set(path.relative(folder, file), await readFile(file, 'latin1'));
  }
  return files;
}

/** latin1 keeps every byte of a binary file, so what is searched for there must be bytes too. */
function asBytes(texts: ReadonlyMap<string, string>): Map<string, string> {
  return new Map([...texts].map(([name, text]) => [name, Buffer.from(text, 'utf8').toString('latin1')]));
}

describe.each<Strategy>(['alternating-users', 'single-user'])(
  'a talkative application in which everything goes wrong once (%s)',
  (strategy) => {
    let order: CanaryOrder;
    let secrets: Map<string, string>;
    let child: ChildResult;

    beforeAll(async () => {
      order = await orderFor(strategy);
      child = await children.run('canary/canary-child', order, 110_000);
      secrets = await secretsOf(order);
    }, 120_000);

    it('lives to its end, having shown what it was to show', () => {
      expect({ code: child.code, stderr: child.stderr.slice(0, 3_000) }).toMatchObject({ code: 0 });
      expect(child.stdout.endsWith('lived to the end\n')).toBe(true);
      for (const what of [
        'schema mismatch',
        'too large',
        'conflict',
        'apply fails',
        'undo fails',
        'no such table',
        'wrong key',
        'event',
      ]) {
        expect(child.stdout.includes(`\n${what}: `)).toBe(true);
      }
      expect(child.stdout).toContain('QueryFailedError');
      // First version, rotation, four failures, and two rotations more.
      expect(secrets.size).toBeGreaterThanOrEqual(6 + 8);
    });

    it('I7 shows no value on stdout and stderr', () => {
      const output = new Map([
        ['stdout', child.stdout],
        ['stderr', child.stderr],
      ]);
      expect(leaks(secrets, output)).toEqual([]);
    });

    it('I7 leaves no value in the clear in the files of its store and beside its key', async () => {
      const files = new Map([...(await filesUnder(order.place.folder)), ...(await filesUnder(order.copyFolder))]);
      expect([...files.keys()]).toEqual(
        expect.arrayContaining([
          expect.stringMatching(/secrets\.db$/),
          expect.stringMatching(/-wal$/),
          expect.stringMatching(/-shm$/),
          expect.stringMatching(/audit-\d+\.jsonl$/),
        ]),
      );
      expect(leaks(secrets, files)).toEqual([]);
      expect(leaks(asBytes(secrets), files)).toEqual([]);
    });

    it('I7 sends no value to PostgreSQL in a statement', () => {
      const log = server.log();
      expect(log).toContain('ALTER ROLE');
      expect(log).toContain('SCRAM-SHA-256$');
      expect(leaks(secrets, new Map([['the log of PostgreSQL', log]]))).toEqual([]);
    });

    it('is searched in a way that finds what is there', async () => {
      const name = new Map([['the name of a secret', CREDENTIALS]]);
      expect(leaks(name, new Map([['stdout', child.stdout]]))).toHaveLength(1);
      expect(leaks(name, await filesUnder(order.copyFolder))).not.toEqual([]);
      const role = new Map([['the name of a role', order.place.roleName]]);
      expect(leaks(role, new Map([['the log of PostgreSQL', server.log()]]))).toHaveLength(1);
    });
  },
);

describe('the search for canaries', () => {
  it.each([
    'plain',
    'in JSON',
    'in JSON in JSON',
    'URL-encoded',
    'hex',
    'HEX',
    'base64',
    'base64 in the midst',
    'base64url',
  ])('finds one that is planted %s', (how) => {
    const text = canary('planted');
    const written: Record<string, string> = {
      plain: text,
      'in JSON': JSON.stringify({ text }),
      'in JSON in JSON': JSON.stringify(JSON.stringify({ text })),
      'URL-encoded': `?q=${encodeURIComponent(text)}`,
      hex: Buffer.from(text).toString('hex'),
      HEX: Buffer.from(text).toString('hex').toUpperCase(),
      base64: Buffer.from(text).toString('base64'),
      'base64 in the midst': Buffer.from(`{"x":"${text}","y":1}`).toString('base64'),
      base64url: Buffer.from(`ab${text}c`).toString('base64url'),
    };
    const places = new Map([['a log', `before ${written[how]} after`]]);
    expect(leaks(new Map([['planted', text]]), places)).toHaveLength(1);
    expect(leaks(new Map([['another', canary('planted')]]), places)).toEqual([]);
  });

  it('looks for no form so short that it could be anywhere', () => {
    expect(Math.min(...[...formsOf(canary(''))].map(({ length }) => length))).toBeGreaterThan(20);
  });
});
