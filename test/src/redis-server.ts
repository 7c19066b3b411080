import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createClient } from '@redis/client';
import { freePort } from './postgres-server.js';
import { program, programPath } from './programs.js';
import { ServerProcess } from './server-process.js';

/** A throw-away Redis on 127.0.0.1 with password authentication, which syncs each write before it answers. */
export interface RedisServer {
  readonly host: string;
  readonly port: number;
  /** May do everything; there is no other account that logs in. */
  readonly admin: { readonly username: string; readonly password: string };
  /** The process id of the server. */
  readonly pid: number;
  /** Runs one command as the administrator, on a connection of its own. */
  command(...words: string[]): Promise<unknown>;
  log(): string;
  /** Ends it with SIGKILL. */
  kill(): Promise<void>;
  /** Starts it again, on the data it had and the same port. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface RedisServerOptions {
  /** Lines of its configuration file, such as `{ appendfsync: 'everysec' }`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Makes it a replica of that one. */
  readonly replicaOf?: RedisServer;
}

/** Where the server comes from on Debian. */
export const REDIS_DEBIAN_PACKAGE = 'redis-server';

/** True when `startRedis` finds what it needs on this machine. */
export function hasRedis(): boolean {
  return programPath('redis-server') !== undefined;
}

/** @throws Error naming the Debian package when Redis is not installed; the server's log when it does not start. */
export async function startRedis({ settings = {}, replicaOf }: RedisServerOptions = {}): Promise<RedisServer> {
  const server = program('redis-server', REDIS_DEBIAN_PACKAGE);
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-redis-'));
  const admin = { username: 'admin', password: 'admin-password-of-a-test' };
  const host = '127.0.0.1';
  const port = await freePort();
  const configuration = path.join(folder, 'redis.conf');
  const lines: Readonly<Record<string, string>> = {
    bind: host,
    port: String(port),
    dir: folder,
    daemonize: 'no',
    save: '""',
    appendonly: 'yes',
    appendfsync: 'always',
    'repl-diskless-sync-delay': '0',
    ...(replicaOf === undefined
      ? {}
      : {
          replicaof: `${replicaOf.host} ${replicaOf.port}`,
          masteruser: replicaOf.admin.username,
          masterauth: replicaOf.admin.password,
        }),
    ...settings,
  };
  // Redis replays transactions of the append-only file with the rights of default, which lose them with a mere "off".
  const users = ['user default off resetpass ~* &* +@all', `user ${admin.username} on >${admin.password} ~* &* +@all`];
  const text = [...Object.entries(lines).map(([name, value]) => `${name} ${value}`), ...users, ''].join('\n');
  await writeFile(configuration, text, { mode: 0o600 });
  const running = new ServerProcess({
    program: server,
    arguments: [configuration],
    readyLine: 'eady to accept connections',
  });
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    await running.start();
  } catch (error) {
    await running.end('SIGKILL');
    await remove();
    throw error;
  }
  return {
    host,
    port,
    admin,
    get pid() {
      return running.pid;
    },
    async command(...words) {
      const client = createClient({ ...admin, socket: { host, port, reconnectStrategy: false } });
      client.on('error', () => undefined);
      await client.connect();
      try {
        return await client.sendCommand(words);
      } finally {
        client.destroy();
      }
    },
    log: () => running.log,
    kill: () => running.end('SIGKILL'),
    restart: () => running.start(),
    async stop() {
      await running.end('SIGTERM');
      await remove();
    },
  };
}
