import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { AppPlace, Strategy } from 'nestjs-secrets-test/crash/rotating-app';
import type { CrashScenario } from 'nestjs-secrets-test/crash/crash-child';
import { type PostgresServer, startPostgres } from 'nestjs-secrets-test/postgres-server';
import { ChildProcesses } from './support/child-process.js';
import { stateLeftBehind, violationsAfterRestart } from './support/crash-recovery.js';

const children = new ChildProcesses();
const LANES = 2;
let server: PostgresServer;
let folder: string;

beforeAll(async () => {
  // The server itself is never killed here, so it may be quick.
  server = await startPostgres({ settings: { fsync: 'off' } });
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-crash-'));
  for (let lane = 0; lane < LANES; lane += 1) await server.query(`CREATE DATABASE lane_${lane}`);
});

afterAll(async () => {
  children.killAll();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A place of its own for each run; runs of one lane come one after the other, since they share a database. */
async function newPlace(strategy: Strategy, name: string, lane: number): Promise<AppPlace> {
  const place = { host: server.host, port: server.port, database: `lane_${lane}` };
  const roleName = name.replaceAll(/[^a-z0-9]+/g, '_');
  const home = path.join(folder, roleName);
  await mkdir(home);
  return { folder: home, strategy, roleName, server: place, admin: server.admin };
}

/** The points at which a process killed leaves something new behind. What lies between two effects is one state, killed once. */
async function crashPoints(strategy: Strategy, scenario: CrashScenario): Promise<string[]> {
  const place = await newPlace(strategy, `${strategy} ${scenario} whole`, 0);
  const { code, stdout, stderr } = await children.run('crash/crash-child', { place, scenario });
  if (code !== 0) throw new Error(`the run without a crash failed: ${stderr}`);
  const passed: string[] = JSON.parse(stdout);
  return passed.filter((point, index) => index === 0 || (point.startsWith('after') && passed[index - 1]?.startsWith('before')));
}

/** Kills a process at one point, starts the application again, and tells what is wrong then. */
async function violationsOf(strategy: Strategy, scenario: CrashScenario, crashAt: string, lane: number): Promise<string[]> {
  const place = await newPlace(strategy, `${strategy} ${scenario} ${crashAt}`, lane);
  const { signal, stderr } = await children.run('crash/crash-child', { place, scenario, crashAt });
  if (signal !== 'SIGKILL') return [`it was not killed there: ${stderr}`];
  const acknowledged = scenario === 'bootstrap' ? 0 : Number(readFileSync(path.join(place.folder, 'acknowledged.json'), 'utf8'));
  const lockedOut = await stateLeftBehind(place);
  return [...lockedOut, ...(await violationsAfterRestart(place, acknowledged, server))];
}

describe.each<Strategy>(['alternating-users', 'single-user'])('%s, killed with SIGKILL and started again', (strategy) => {
  it.each<[CrashScenario, string, readonly string[]]>([
    ['bootstrap', 'making the very first version', ['create', 'apply', 'verify']],
    ['rotation', 'rotating under load, the pool in mid-roll included', ['create', 'apply', 'verify', 'retire', 'connection', 'statement']],
    ['undo', 'taking a failed rotation back', ['undo', 'statement']],
  ])('I1 I3 I6 I9 on either side of each effect of %s: %s', async (scenario, _what, effects) => {
    const points = await crashPoints(strategy, scenario);
    const violations: string[] = [];
    const waiting = [...points];
    const lane = async (number: number): Promise<void> => {
      for (let point = waiting.shift(); point !== undefined; point = waiting.shift()) {
        const found = await violationsOf(strategy, scenario, point, number).catch((error: unknown) => [String(error)]);
        violations.push(...found.map((violation) => `${point}: ${violation}`));
      }
    };
    await Promise.all(Array.from({ length: LANES }, (_, number) => lane(number)));
    expect(violations).toEqual([]);
    expect(points.length).toBeGreaterThan(effects.length);
  }, 180_000);
});
