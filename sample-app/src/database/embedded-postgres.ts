import { chmod, chown, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { cryptoRandomness, randomPassword, type DatabaseCredentials } from '@nestjs-secrets/core';
import pg from 'pg';
import { runPostgresProgram, serverAccount, type PostgresProgram, type ServerAccount } from './postgres-programs.js';

const HOST = '127.0.0.1';
const START_ATTEMPTS = 5;

/**
 * A PostgreSQL of its own for development, on 127.0.0.1 with scram-sha-256, and durable: the same folder has the same data after a restart.
 * A server that outlived a killed application is taken over.
 */
export class EmbeddedPostgres {
  readonly host = HOST;

  private constructor(
    readonly port: number,
    readonly admin: DatabaseCredentials,
    private readonly cluster: Cluster,
  ) {}

  /** @throws Error when the folder cannot be used or the server does not start */
  static async start(folder: string): Promise<EmbeddedPostgres> {
    await mkdir(folder, { recursive: true });
    // The account of the server must be able to enter; what is secret inside has a mode of its own.
    await chmod(folder, 0o755);
    const admin = { username: 'postgres', password: await adminPassword(path.join(folder, 'admin-password')) };
    const cluster = new Cluster(folder, await serverAccount());
    await cluster.ensureInitialised(admin);
    for (let attempt = 1; ; attempt += 1) {
      const running = await cluster.port();
      if (running !== undefined && (await answers(running, admin)))
        return new EmbeddedPostgres(running, admin, cluster);
      try {
        const port = await freePort();
        await cluster.start(port);
        return new EmbeddedPostgres(port, admin, cluster);
      } catch (error) {
        // Somebody else took the port, or a server that was told to stop is still at it.
        if (attempt === START_ATTEMPTS) throw error;
        await delay(attempt * 200);
      }
    }
  }

  async ensureDatabase(name: string): Promise<void> {
    await asAdmin(this.port, this.admin, async (client) => {
      const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [name]);
      if (rowCount === 0) await client.query(`CREATE DATABASE ${client.escapeIdentifier(name)}`);
    });
  }

  /** Ends remaining sessions and resolves when the server is down; one that is down already is fine. */
  async stop(): Promise<void> {
    await this.cluster.stop();
  }
}

/** PostgreSQL's data folder and the programs that act on it. */
class Cluster {
  private readonly data: string;

  constructor(
    private readonly folder: string,
    private readonly account: ServerAccount | undefined,
  ) {
    this.data = path.join(folder, 'cluster');
  }

  async ensureInitialised(admin: DatabaseCredentials): Promise<void> {
    if (await exists(this.data)) return;
    // Made under another name, so that an initdb that was cut short is not taken for a cluster.
    const unfinished = `${this.data}.new`;
    const passwordFile = path.join(this.folder, 'initdb-password');
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished, { mode: 0o700 });
    await writeFile(passwordFile, admin.password, { mode: 0o600 });
    try {
      if (this.account !== undefined) {
        for (const file of [unfinished, passwordFile]) await chown(file, this.account.uid, this.account.gid);
      }
      const identity = ['-U', admin.username, '--pwfile', passwordFile, '--auth', 'scram-sha-256'];
      // The builtin provider gives the same order and the same letters on every machine.
      const locale = [
        '--encoding',
        'UTF8',
        '--locale',
        'C',
        '--locale-provider',
        'builtin',
        '--builtin-locale',
        'C.UTF-8',
      ];
      await this.run('initdb', ['-D', unfinished, ...identity, ...locale]);
    } finally {
      await rm(passwordFile, { force: true });
    }
    await rename(unfinished, this.data);
  }

  /** The port of the server that runs on this folder, or did until it was killed. */
  async port(): Promise<number | undefined> {
    try {
      // https://www.postgresql.org/docs/current/storage-file-layout.html: the fourth line is the port.
      const port = Number((await readFile(path.join(this.data, 'postmaster.pid'), 'utf8')).split('\n')[3]);
      return port > 0 ? port : undefined;
    } catch {
      return undefined;
    }
  }

  async start(port: number): Promise<void> {
    const settings = `-p ${port} -c listen_addresses=${HOST} -c unix_socket_directories=`;
    await this.control('start', '-l', path.join(this.data, 'server.log'), '-o', settings);
  }

  async stop(): Promise<void> {
    try {
      await this.control('stop', '-m', 'fast');
    } catch (error) {
      if (await exists(path.join(this.data, 'postmaster.pid'))) throw error;
    }
  }

  private async control(action: 'start' | 'stop', ...args: string[]): Promise<void> {
    await this.run('pg_ctl', [action, '-D', this.data, '-w', '-t', '60', ...args]);
  }

  private async run(program: PostgresProgram, args: string[]): Promise<void> {
    await runPostgresProgram(program, args, { cwd: this.folder, account: this.account });
  }
}

/** Of its first start: stays the same for the life of the data folder. */
async function adminPassword(file: string): Promise<string> {
  try {
    await writeFile(file, randomPassword({ excludePunctuation: true }, cryptoRandomness), {
      mode: 0o600,
      flag: 'wx',
      flush: true,
    });
  } catch (error) {
    if (!(await exists(file))) throw error;
  }
  return readFile(file, 'utf8');
}

async function answers(port: number, admin: DatabaseCredentials): Promise<boolean> {
  try {
    // A stale file may name a port that another server has by now: only ours knows this password.
    await asAdmin(port, admin, (client) => client.query('SELECT 1'));
    return true;
  } catch {
    return false;
  }
}

async function asAdmin(
  port: number,
  admin: DatabaseCredentials,
  work: (client: pg.Client) => Promise<unknown>,
): Promise<void> {
  const { username: user, password } = admin;
  const client = new pg.Client({
    host: HOST,
    port,
    database: 'postgres',
    user,
    password,
    connectionTimeoutMillis: 2000,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await work(client);
  } finally {
    await client.end();
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, HOST, resolve));
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  if (address === null || typeof address === 'string') throw new Error('The system gave no port.');
  return address.port;
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}
