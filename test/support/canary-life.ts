import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type CanaryOrder, type Chapter, CHAPTERS } from 'nestjs-secrets-test/canary/canary-order';
import type { AppPlace, Strategy } from 'nestjs-secrets-test/crash/rotating-app';
import type { ChildProcesses, ChildResult } from './child-process.js';

/** With characters that each way of writing it changes (the question marks: base64url, in any position), and chance in either half. */
export const canary = (name: string): string =>
  `${randomBytes(6).toString('hex')} "${name}" cä'ß'/\\&=?????${randomBytes(12).toString('hex')}`;

/** The server that an application has its credentials for, whatever its kind. */
export interface LifeServer {
  readonly host: string;
  readonly port: number;
  readonly admin: AppPlace['admin'];
  query(sql: string): Promise<unknown>;
}

export interface LifeOptions {
  /** Unique on this server; letters and underscores. */
  readonly name: string;
  readonly strategy: Strategy;
  /** What kind of server it is; PostgreSQL by default. */
  readonly kind?: AppPlace['kind'];
  readonly chapters?: readonly Chapter[];
  /** Where the programs are, when not in test/dist. */
  readonly programs?: string;
}

/** A life that was lived, and what it must not have shown. */
export interface CanaryLife {
  readonly order: CanaryOrder;
  readonly child: ChildResult;
  readonly secrets: ReadonlyMap<string, string>;
  /** Those of them that the server must not get to see either. */
  readonly kept: ReadonlyMap<string, string>;
  /** Everything it wrote anywhere: in its own folder, in that for temporary files, and copies made while it had its store open. */
  readonly files: ReadonlyMap<string, Buffer>;
}

const LIMIT_MS = 150_000;

/** Lets an application live under `folder` and against the server, to its end. */
export async function liveThrough(
  children: ChildProcesses,
  server: LifeServer,
  folder: string,
  { name, strategy, kind, chapters = CHAPTERS, programs }: LifeOptions,
): Promise<CanaryLife> {
  const own = path.join(folder, name);
  const home = path.join(own, 'home');
  const temporary = path.join(own, 'tmp');
  for (const place of [home, temporary]) await mkdir(place, { recursive: true });
  await server.query(`CREATE DATABASE ${name}`);
  const address = { host: server.host, port: server.port, database: name };
  const order: CanaryOrder = {
    place: { folder: home, strategy, kind, roleName: name, server: address, admin: server.admin },
    chapters,
    canaries: {
      initial: canary('initial'),
      put: canary('put'),
      misfit: canary('misfit'),
      oversized: canary('oversized'),
      conflicting: canary('conflicting'),
      inStore: canary('in store'),
      givenToStore: canary('given to store'),
      inUrl: canary('in url'),
    },
    madeFile: path.join(own, 'made.txt'),
    copyFolder: path.join(own, 'copy'),
  };
  const orderFile = path.join(own, 'order.json');
  await writeFile(orderFile, JSON.stringify(order), { mode: 0o600 });
  const child = await children.run('canary/canary-child', orderFile, {
    limitMs: LIMIT_MS,
    cwd: home,
    env: { TMPDIR: temporary },
    ...(programs === undefined ? {} : { programs }),
  });
  // Without these the life has ended early, which its own words explain best.
  const made = (await readFile(order.madeFile, 'utf8').catch(() => '')).trim().split('\n');
  await mkdir(order.copyFolder, { recursive: true });
  const { givenToStore, ...given } = order.canaries;
  const kept = new Map([
    ...Object.entries(given),
    ...made.filter((password) => password !== '').map((password, index) => [`made ${index + 1}`, password] as const),
  ]);
  return {
    order,
    child,
    secrets: new Map([...kept, ['given to a store', givenToStore]]),
    kept,
    files: new Map([
      ...(await filesUnder(home)),
      ...(await filesUnder(temporary)),
      ...(await filesUnder(order.copyFolder)),
    ]),
  };
}

/** The files of a folder and below it by their paths. What is gone by the time it is read is left out: servers keep working. */
export async function filesUnder(folder: string): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (!entry.isFile()) continue;
    const content = await readFile(file).catch(() => undefined);
    if (content !== undefined) files.set(path.relative(path.dirname(folder), file), content);
  }
  return files;
}
