import { execFile, spawn } from 'node:child_process';
import { chown, mkdtemp, chmod, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { freePort, type PostgresServer } from './postgres-server.js';

const run = promisify(execFile);

/** A physical standby that streams from a throw-away server, read-only as standbys are. */
export interface PostgresStandby {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  /** Runs one statement as the superuser, on a connection of its own. */
  query<R extends pg.QueryResultRow = pg.QueryResultRow>(sql: string): Promise<R[]>;
  stop(): Promise<void>;
}

/**
 * Makes a standby out of a copy of the primary's files, taken while it runs
 * (https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP), and starts it with the primary's own
 * program. Resolves when it streams. Linux only: the program is found through /proc.
 */
export async function startStandby(primary: PostgresServer): Promise<PostgresStandby> {
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-standby-'));
  await chmod(folder, 0o755);
  const dataFolder = path.join(folder, 'data');
  const program = await readlink(`/proc/${primary.pid}/exe`);
  const source = await copyWhileRunning(primary, dataFolder);
  // The server refuses to run as root: it gets the account of the primary.
  const { uid, gid } = await stat(source);
  const { admin } = primary;
  const conninfo = `host=${primary.host} port=${primary.port} user=${admin.username} password=${admin.password} application_name=standby`;
  for (const [file, text] of [
    ['standby.signal', ''],
    ['postgresql.auto.conf', `primary_conninfo = '${conninfo}'\n`],
  ] as const) {
    await writeFile(path.join(dataFolder, file), text);
    await chown(path.join(dataFolder, file), uid, gid);
  }
  const port = await freePort();
  const settings = [`port=${port}`, 'listen_addresses=127.0.0.1', 'unix_socket_directories=', 'hot_standby=on'];
  const server = spawn(program, ['-D', dataFolder, ...settings.flatMap((setting) => ['-c', setting])], {
    ...(process.getuid?.() === 0 ? { uid, gid } : {}),
    cwd: dataFolder,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  server.stderr.on('data', (chunk) => (log += String(chunk)));
  const exited = new Promise<void>((resolve) => server.once('exit', () => resolve()));

  const standby: PostgresStandby = {
    host: primary.host,
    port,
    database: primary.database,
    async query<R extends pg.QueryResultRow = pg.QueryResultRow>(sql: string) {
      const client = new pg.Client({
        host: primary.host,
        port,
        database: primary.database,
        user: admin.username,
        password: admin.password,
      });
      await client.connect();
      try {
        return (await client.query<R>(sql)).rows;
      } finally {
        await client.end();
      }
    },
    async stop() {
      // SIGQUIT is PostgreSQL's immediate shutdown: nothing in here is worth a checkpoint.
      if (server.exitCode === null && server.signalCode === null) server.kill('SIGQUIT');
      await exited;
      await rm(folder, { recursive: true, force: true });
    },
  };
  const deadline = Date.now() + 30_000;
  for (;;) {
    const streams = await standby.query(`SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'`).catch(() => []);
    if (streams.length > 0) return standby;
    if (Date.now() > deadline || server.exitCode !== null) {
      await standby.stop();
      throw new Error(`the standby does not stream:\n${log}`);
    }
    await delay(20);
  }
}

/** Gives the folder it copied from. */
async function copyWhileRunning(primary: PostgresServer, dataFolder: string): Promise<string> {
  const client = new pg.Client({
    host: primary.host,
    port: primary.port,
    database: primary.database,
    user: primary.admin.username,
    password: primary.admin.password,
  });
  await client.connect();
  try {
    const source: string = (await client.query('SHOW data_directory')).rows[0].data_directory;
    await client.query(`SELECT pg_backup_start('standby', true)`);
    // Files that vanish while they are copied make cp complain, and do no harm: the log that is replayed knows of them.
    await run('cp', ['-a', source, dataFolder]).catch(() => undefined);
    const { labelfile } = (await client.query('SELECT labelfile FROM pg_backup_stop(false)')).rows[0];
    await rm(path.join(dataFolder, 'postmaster.pid'), { force: true });
    await writeFile(path.join(dataFolder, 'backup_label'), labelfile);
    const { uid, gid } = await stat(source);
    await chown(path.join(dataFolder, 'backup_label'), uid, gid);
    return source;
  } finally {
    await client.end();
  }
}
