import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Chapter } from 'nestjs-secrets-test/canary/canary-order';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb } from 'nestjs-secrets-test/mariadb-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import { type LifeServer, liveThrough } from './support/canary-life.js';
import { ChildProcesses } from './support/child-process.js';
import { leaks } from './support/leak-search.js';
import { type Call, callsOf, Mutant } from './support/mutant.js';
import { exerciseOf, REDACTIONS, UNSEEN } from './support/redactions.js';

type Kind = 'postgres' | 'mariadb';

interface LoggingServer extends LifeServer {
  log(): string;
  stop(): Promise<void>;
}

const LIMIT_MS = 120_000;
const children = new ChildProcesses();
let folder: string;
let mutant: Mutant;
let lives = 0;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-mutants-'));
  mutant = await Mutant.at(path.join(folder, 'mutant'));
});
afterAll(async () => {
  children.killAll();
  await rm(folder, { recursive: true, force: true });
});

/** What an application shows that lives through these chapters as the packages are at that moment. */
async function shownOn(server: LoggingServer, kind: Kind, chapters: readonly Chapter[]): Promise<string[]> {
  lives += 1;
  const logged = server.log().length;
  const { child, secrets, kept, files } = await liveThrough(children, server, folder, {
    name: `mutant_${lives}`,
    strategy: 'alternating-users',
    kind,
    chapters,
    programs: mutant.programs,
  });
  const places = new Map<string, string | Buffer>([['stdout', child.stdout], ['stderr', child.stderr], ...files]);
  return [...leaks(secrets, places), ...leaks(kept, new Map([['the log of the server', server.log().slice(logged)]]))];
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

/** A test for each redaction that shows on this kind of server. */
function brokenOn(kind: Kind, start: () => Promise<LoggingServer>): void {
  let server: LoggingServer;

  beforeAll(async () => {
    server = await start();
  }, LIMIT_MS);
  afterAll(() => server?.stop(), LIMIT_MS);

  it(
    'nothing is broken, and nothing is shown',
    async () => {
      const used = REDACTIONS.filter((one) => (one.kind ?? 'postgres') === kind).flatMap(({ chapters }) => chapters);
      expect(await shownOn(server, kind, [...new Set(used)])).toEqual([]);
    },
    LIMIT_MS,
  );

  it.each(
    REDACTIONS.filter((one) => (one.kind ?? 'postgres') === kind).map(
      (redaction) => [redaction.name, redaction] as const,
    ),
  )(
    '%s',
    async (_name, { file, from, to, chapters }) => {
      const shown = await mutant.whileBroken(
        file,
        (source) => source.replaceAll(from, to),
        () => shownOn(server, kind, chapters),
      );
      expect(shown).not.toEqual([]);
    },
    LIMIT_MS,
  );

  it.each(
    calls
      .filter((call) => UNSEEN[describeCall(call)] === undefined && (exerciseOf(call.file).kind ?? 'postgres') === kind)
      .map((call) => [describeCall(call), call] as const),
  )(
    'an error of others that is passed on as it is, at %s',
    async (_name, call) => {
      const shown = await mutant.whileBroken(
        call.file,
        (source) => withRawError(source, call),
        () => shownOn(server, kind, exerciseOf(call.file).chapters),
      );
      expect(shown).not.toEqual([]);
    },
    LIMIT_MS,
  );
}

describe('the list of redactions', () => {
  it('has what is in the code, so that breaking it breaks something', async () => {
    const strayed: string[] = [];
    for (const { name, file, from } of REDACTIONS) {
      const count = (await mutant.source(file)).split(from).length - 1;
      // A private field is named wherever it is used.
      if (from.startsWith('#') ? count === 0 : count !== 1) strayed.push(`${name}: ${count} times in ${file}`);
    }
    expect(strayed).toEqual([]);
  });

  it('has every call of redactError', () => {
    expect(calls.length).toBeGreaterThanOrEqual(9);
    expect(calls.map(describeCall)).toEqual(expect.arrayContaining(Object.keys(UNSEEN)));
  });
});

describe('a redaction broken on purpose is noticed:', () => {
  brokenOn('postgres', () => startPostgres({ settings: { log_statement: 'all' } }));
});

describeWithMariadb('a redaction broken on purpose is noticed, on MariaDB:', () => {
  brokenOn('mariadb', () => startMariadb({ generalLog: true }));
});
