import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import mysql from 'mysql2/promise';
import { freePort } from './postgres-server.js';
import { program, programPath } from './programs.js';
import { ServerProcess } from './server-process.js';

/** A throw-away MariaDB on 127.0.0.1 with password authentication, for tests and benchmarks. */
export interface MariadbServer {
  readonly host: string;
  readonly port: number;
  /** An empty database, utf8mb4. */
  readonly database: string;
  /** May do everything, from anywhere; there is no other account that logs in. */
  readonly admin: { readonly username: string; readonly password: string };
  /** Where the server keeps its files. */
  readonly dataFolder: string;
  /** The process id of the server. */
  readonly pid: number;
  /** Runs one statement as the administrator, on a connection of its own; bound values are sent in the text (no prepared statement). */
  query<R = Record<string, unknown>>(sql: string, values?: readonly unknown[]): Promise<R[]>;
  /** What the server has written to its error log so far, and to its general log where `generalLog` asked for one. */
  log(): string;
  /** Ends it with SIGKILL. */
  kill(): Promise<void>;
  /** Starts it again, on the data it had and the same port. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface MariadbServerOptions {
  /** Keeps every statement the server gets, so that `log()` can be searched for passwords; false by default. */
  readonly generalLog?: boolean;
  /** Settings for the server's command line, such as `{ 'max-connections': '20' }`. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** Where the server's programs come from on Debian. */
export const MARIADB_DEBIAN_PACKAGE = 'mariadb-server';

const run = promisify(execFile);

/** True when `startMariadb` finds what it needs on this machine. */
export function hasMariadb(): boolean {
  return programPath('mariadbd') !== undefined && programPath('mariadb-install-db') !== undefined;
}

/** @throws Error naming the Debian package when MariaDB is not installed; the server's log when it does not start. */
export async function startMariadb(options: MariadbServerOptions = {}): Promise<MariadbServer> {
  const installer = program('mariadb-install-db', MARIADB_DEBIAN_PACKAGE);
  const server = program('mariadbd', MARIADB_DEBIAN_PACKAGE);
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-mariadb-'));
  const admin = { username: 'admin', password: 'admin-password-of-a-test' };
  const database = 'app';
  const host = '127.0.0.1';
  const port = await freePort();
  const dataFolder = path.join(folder, 'data');
  const generalLog = path.join(folder, 'general.log');
  // Without it the server refuses to run as root.
  const asRoot = process.getuid?.() === 0 ? ['--user=root'] : [];
  const socket = path.join(folder, 'socket');
  let starting: ServerProcess | undefined;
  try {
    await run(installer, [
      '--no-defaults',
      `--datadir=${dataFolder}`,
      '--auth-root-authentication-method=normal',
      '--skip-test-db',
      // Two installations at a time get into each other's way in the common one.
      `--tmpdir=${folder}`,
      ...asRoot,
    ]);
    const initFile = path.join(folder, 'init.sql');
    await writeFile(initFile, initStatements(admin, database));
    starting = new ServerProcess({
      program: server,
      arguments: [
        '--no-defaults',
        `--datadir=${dataFolder}`,
        `--tmpdir=${folder}`,
        `--port=${port}`,
        `--bind-address=${host}`,
        '--skip-networking=0',
        '--skip-name-resolve',
        `--socket=${socket}`,
        `--pid-file=${path.join(folder, 'pid')}`,
        `--init-file=${initFile}`,
        '--character-set-server=utf8mb4',
        '--collation-server=utf8mb4_general_ci',
        ...(options.generalLog === true ? ['--general-log=1', `--general-log-file=${generalLog}`] : []),
        ...asRoot,
        ...Object.entries(options.settings ?? {}).map(([name, value]) => `--${name}=${value}`),
      ],
      readyLine: 'ready for connections',
    });
    await starting.start();
  } catch (error) {
    await starting?.end('SIGKILL');
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
  const running = starting;
  return {
    host,
    port,
    database,
    admin,
    dataFolder,
    get pid() {
      return running.pid;
    },
    async query<R>(sql: string, values: readonly unknown[] = []) {
      const { username: user, password } = admin;
      const connection = await mysql.createConnection({ host, port, database, user, password });
      try {
        const [rows] = await connection.query(sql, [...values]);
        return (Array.isArray(rows) ? rows : []) as R[];
      } finally {
        await connection.end();
      }
    },
    log: () => running.log + (existsSync(generalLog) ? readFileSync(generalLog, 'utf8') : ''),
    kill: () => running.end('SIGKILL'),
    restart: () => running.start(),
    async stop() {
      await running.end('SIGTERM');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** One statement a line, as `--init-file` wants it at each start; kept out of the binary log, so that replicas can be made of these servers. */
function initStatements(admin: MariadbServer['admin'], database: string): string {
  const inner = createHash('sha1').update(admin.password).digest();
  const hash = `*${createHash('sha1').update(inner).digest('hex').toUpperCase()}`;
  return [
    'SET sql_log_bin = 0;',
    `CREATE USER IF NOT EXISTS '${admin.username}'@'%' IDENTIFIED VIA mysql_native_password USING '${hash}';`,
    `GRANT ALL ON *.* TO '${admin.username}'@'%' WITH GRANT OPTION;`,
    // The accounts of a fresh installation log in without a password.
    `DELETE FROM mysql.global_priv WHERE User NOT IN ('${admin.username}', 'mariadb.sys');`,
    'FLUSH PRIVILEGES;',
    `CREATE DATABASE IF NOT EXISTS ${database} CHARACTER SET utf8mb4;`,
    '',
  ].join('\n');
}
