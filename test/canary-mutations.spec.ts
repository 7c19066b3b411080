import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Chapter } from 'nestjs-secrets-test/canary/canary-order';
import { hasMariadb, startMariadb } from 'nestjs-secrets-test/mariadb-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import { type LifeServer, liveThrough } from './support/canary-life.js';
import { ChildProcesses } from './support/child-process.js';
import { leaks } from './support/leak-search.js';
import { type Call, callsOf, Mutant } from './support/mutant.js';
import { chaptersOf, REDACTIONS, UNSEEN } from './support/redactions.js';

const children = new ChildProcesses();
let servers: Partial<Record<'postgres' | 'mariadb', LifeServer & { log(): string; stop(): Promise<void> }>>;
let folder: string;
let mutant: Mutant;
let lives = 0;

beforeAll(async () => {
  servers = { postgres: await startPostgres({ settings: { log_statement: 'all' } }) };
  if (hasMariadb()) servers.mariadb = await startMariadb({ generalLog: true });
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-mutants-'));
  mutant = await Mutant.at(path.join(folder, 'mutant'));
});
afterAll(async () => {
  children.killAll();
  for (const server of Object.values(servers)) await server.stop();
  await rm(folder, { recursive: true, force: true });
});

/** What an application shows that lives through these chapters while a file is broken. */
async function shownWhileBroken(
  file: string,
  broken: (source: string) => string,
  chapters: readonly Chapter[],
  kind: 'postgres' | 'mariadb' = 'postgres',
): Promise<string[]> {
  const server = servers[kind];
  if (server === undefined) throw new Error(`There is no server of the kind ${kind}.`);
  lives += 1;
  const name = `mutant_${lives}`;
  const logged = server.log().length;
  return mutant.whileBroken(file, broken, async () => {
    const { child, secrets, files } = await liveThrough(children, server, folder, {
      name,
      strategy: 'alternating-users',
      kind,
      chapters,
      programs: mutant.programs,
    });
    const places = new Map<string, string | Buffer>([
      ['stdout', child.stdout],
      ['stderr', child.stderr],
      ['the log of the server', server.log().slice(logged)],
      ...files,
    ]);
    return leaks(secrets, places);
  });
}

const describeCall = ({ file, text }: Call): string => `${file}: ${text}`;

/** Passes on the error as it is. */
const RAW = '\nfunction notRedacted(error) { return error instanceof Error ? error : new Error(String(error)); }\n';

function withRawError(source: string, { text, index }: Call): string {
  const parts = source.split(text);
  const raw = text.replace('redactError(', 'notRedacted(');
  return `${parts.slice(0, index + 1).join(text)}${raw}${parts.slice(index + 1).join(text)}${RAW}`;
}

// Known before the tests are, since each is one of them.
const calls = await callsOf('redactError');

describe('a copy in which nothing is broken', () => {
  it('shows nothing', async () => {
    expect(await shownWhileBroken('core/index', (source) => source, ['listener', 'creation', 'loggers'])).toEqual([]);
  }, 120_000);
});

describe('a redaction broken on purpose is noticed:', () => {
  it('all are in the code, so that breaking them breaks something', async () => {
    const strayed: string[] = [];
    for (const { name, file, from } of REDACTIONS) {
      const count = (await mutant.source(file)).split(from).length - 1;
      // A private field is named wherever it is used.
      if (from.startsWith('#') ? count === 0 : count !== 1) strayed.push(`${name}: ${count} times in ${file}`);
    }
    expect(strayed).toEqual([]);
  });

  it.each(REDACTIONS.map((redaction) => [redaction.name, redaction] as const))(
    '%s',
    async (_name, { file, from, to, chapters, kind }) => {
      const shown = await shownWhileBroken(file, (source) => source.replaceAll(from, to), chapters, kind);
      expect(shown).not.toEqual([]);
    },
    120_000,
  );
});

describe('an error of others that is passed on as it is, is noticed:', () => {
  it('calls of redactError are found', () => {
    expect(calls.length).toBeGreaterThanOrEqual(9);
    expect(calls.map(describeCall)).toEqual(expect.arrayContaining(Object.keys(UNSEEN)));
  });

  it.each(
    calls.filter((call) => UNSEEN[describeCall(call)] === undefined).map((call) => [describeCall(call), call] as const),
  )(
    '%s',
    async (_name, call) => {
      const shown = await shownWhileBroken(call.file, (source) => withRawError(source, call), chaptersOf(call.file));
      expect(shown).not.toEqual([]);
    },
    120_000,
  );
});
