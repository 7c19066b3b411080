import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  createLocalKeyFile,
  type DatabaseCredentials,
  localKeyFile,
  SecretsManager,
  SecretsModule,
} from '@nestjs-secrets/core';
import {
  BASE_NAME,
  LEASE_MS,
  LEASED,
  type LeasePlace,
  TEMPLATE_ROLE,
  TTL_MS,
} from 'nestjs-secrets-test/lease/lease-order';
import { leaseStore } from 'nestjs-secrets-test/lease/leasing-app';
import { type PostgresServer, startPostgres } from 'nestjs-secrets-test/postgres-server';
import { eventually } from './support/eventually.js';
import { LeasingProcess } from './support/leasing-process.js';
import { logIn } from './support/log-in.js';

let server: PostgresServer;
let folder: string;
let place: LeasePlace;
/** Reads what the store says; has no rotator and no credential. */
let observer: INestApplicationContext;
const started: LeasingProcess[] = [];

interface Started {
  readonly process: LeasingProcess;
  readonly instanceId: string;
}

async function start(): Promise<Started> {
  const process = new LeasingProcess(place);
  started.push(process);
  return { process, instanceId: await process.ready() };
}

/** The roles of leases there are, each with how long it is still good for by the server's clock, in milliseconds. */
async function roles(): Promise<Map<string, number>> {
  const rows = await server.query<{ name: string; left: string }>(
    `SELECT rolname AS name, extract(epoch FROM rolvaliduntil - clock_timestamp()) * 1000 AS left
     FROM pg_roles WHERE rolname LIKE '${BASE_NAME}\\_%' AND rolname <> '${TEMPLATE_ROLE}'`,
  );
  return new Map(rows.map(({ name, left }) => [name, Number(left)]));
}

const credentialsOf = async ({ instanceId }: Started): Promise<DatabaseCredentials> =>
  (await observer.get(SecretsManager).getSecretValue<DatabaseCredentials>(`${LEASED}@${instanceId}`)).value;

const isServed = async ({ process }: Started): Promise<boolean> => (await process.who()).type === 'who';

beforeAll(async () => {
  server = await startPostgres({ settings: { fsync: 'off' } });
  const { host, port, database, admin } = server;
  folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-lease-'));
  const keys = path.join(folder, 'keys.json');
  await createLocalKeyFile(keys);
  await server.query('CREATE DATABASE lease_store');
  await server.query(`CREATE ROLE ${TEMPLATE_ROLE} NOLOGIN`);
  place = { server: { host, port }, storeDatabase: 'lease_store', targetDatabase: database, admin, keys };
  observer = await NestFactory.createApplicationContext(
    SecretsModule.forRoot({ store: leaseStore(place), keys: localKeyFile({ path: keys }), rotate: false }),
    { logger: false, abortOnError: false },
  );
}, 60_000);

afterAll(async () => {
  for (const process of started) process.signal('SIGKILL');
  await Promise.all(started.map(({ ended }) => ended));
  await observer?.close();
  await server?.stop();
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
}, 60_000);

describe('two processes with a role each', () => {
  let one: Started;
  let other: Started;

  beforeAll(async () => {
    [one, other] = await Promise.all([start(), start()]);
  }, 60_000);

  it('work as the template role, each by a log-in of its own', async () => {
    const answers = [await one.process.who(), await other.process.who()];
    const [first, second] = [await credentialsOf(one), await credentialsOf(other)];
    expect(answers).toEqual([
      { type: 'who', sessionUser: first.username, currentUser: TEMPLATE_ROLE },
      { type: 'who', sessionUser: second.username, currentUser: TEMPLATE_ROLE },
    ]);
    const found = await roles();
    expect([...found.keys()].sort()).toEqual([first.username, second.username].sort());
    for (const left of found.values()) expect(left).toBeLessThanOrEqual(TTL_MS);
  });

  it('have their roles renewed again and again before they end', async () => {
    const ends = async (): Promise<string[]> =>
      (
        await server.query<{ until: string }>(
          `SELECT rolvaliduntil::text AS until FROM pg_roles WHERE rolname = ANY ($1) ORDER BY rolname`,
          [[...before.keys()]],
        )
      ).map(({ until }) => until);
    const before = await roles();
    const seen = before.size === 0 ? [] : (await ends()).map((until) => new Set([until]));
    await eventually(
      'both roles were renewed three times',
      async () => {
        for (const left of (await roles()).values()) expect(left).toBeGreaterThan(0);
        (await ends()).forEach((until, index) => seen[index]?.add(until));
        return seen.length === 2 && seen.every(({ size }) => size > 3);
      },
      60_000,
    );
    expect([...(await roles()).keys()].sort()).toEqual([...before.keys()].sort());
    expect([await isServed(one), await isServed(other)]).toEqual([true, true]);
  }, 90_000);

  it('a frozen one loses its role, and has a new one soon after it woke up', async () => {
    const [before, untouched] = [await credentialsOf(one), await credentialsOf(other)];
    one.process.signal('SIGSTOP');
    try {
      await eventually(
        'the role of the frozen process is dropped',
        async () => !(await roles()).has(before.username),
        20 * LEASE_MS,
      );
      expect(await logIn(server, before)).toBeUndefined();
    } finally {
      one.process.signal('SIGCONT');
    }
    await eventually('it works again', () => isServed(one), 30_000);
    // It may be at work with the new one before that is current.
    const isAnew = (): Promise<boolean> =>
      credentialsOf(one).then(
        ({ username }) => username !== before.username,
        () => false,
      );
    await eventually('its new credential is current', isAnew, 30_000);
    const after = await credentialsOf(one);
    expect(await one.process.who()).toMatchObject({ sessionUser: after.username });
    expect(await other.process.who()).toMatchObject({ sessionUser: untouched.username });
    expect([...(await roles()).keys()].sort()).toEqual([after.username, untouched.username].sort());
  }, 120_000);

  it('one that is killed is reaped: its role is dropped, and its entries in the store are removed', async () => {
    const [killed, left] = [await credentialsOf(other), await credentialsOf(one)];
    expect(await logIn(server, killed)).toBe(killed.username);
    other.process.signal('SIGKILL');
    expect(await other.process.ended).toBe('SIGKILL');
    await eventually('its role is dropped', async () => !(await roles()).has(killed.username), 20 * LEASE_MS);
    expect(await logIn(server, killed)).toBeUndefined();
    await eventually('its secret is removed', async () =>
      credentialsOf(other).then(
        () => false,
        () => true,
      ),
    );
    expect([...(await roles()).keys()]).toEqual([left.username]);
    expect(await isServed(one)).toBe(true);
  }, 120_000);

  it('one that leaves takes its role along', async () => {
    const left = await credentialsOf(one);
    expect(await one.process.close()).toBe(0);
    expect([...(await roles()).keys()]).toEqual([]);
    expect(await logIn(server, left)).toBeUndefined();
    await expect(credentialsOf(one)).rejects.toMatchObject({ code: 'SECRET_NOT_FOUND' });
  }, 60_000);
});
