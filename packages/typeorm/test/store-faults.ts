import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { StoreDriver, StoreHint } from '@nestjs-secrets/core';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';

const run = promisify(execFile);

/** Looks again and again until `condition` holds. Throws when it does not within the limit. */
export async function eventually(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`It did not come about within 30 s: ${what}`);
    await delay(10);
  }
}

export const put = (store: StoreDriver, key: string, value = 'value'): Promise<number | undefined> =>
  store.commit({ conditions: [], writes: [{ key, value: Buffer.from(value) }] });

/** What a watcher has heard since it began, or since it last forgot. */
export class Heard {
  hints: StoreHint[] = [];
  readonly end: () => void;

  constructor(store: StoreDriver, prefixes?: readonly string[]) {
    this.end = store.watch((hint) => this.hints.push(hint), prefixes);
  }

  forget(): void {
    this.hints = [];
  }

  get keys(): string[] {
    return this.hints.flatMap((hint) => hint.keys ?? []);
  }

  of(key: string): Promise<void> {
    return eventually(`a hint at ${key}`, () => this.keys.includes(key));
  }

  everything(): Promise<void> {
    return eventually('a hint without keys', () => this.hints.some((hint) => hint.keys === undefined));
  }
}

/** Stops a server and all its processes where they are; its kernel goes on to accept connections. The function returned lets them go on. */
export async function freeze(pid: number): Promise<() => void> {
  const { stdout } = await run('ps', ['-A', '-o', 'pid=,ppid=']);
  const processes = stdout
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number));
  const children = processes.filter(([, parent]) => parent === pid).map(([child = 0]) => child);
  const all = [pid, ...children];
  const signal = (name: NodeJS.Signals): void => {
    for (const one of all) {
      try {
        process.kill(one, name);
      } catch {
        // A child that has ended meanwhile needs no signal.
      }
    }
  };
  signal('SIGSTOP');
  // The threads of a process stop one after the other.
  await eventually('every thread has stopped', async () => (await Promise.all(all.map(hasStopped))).every(Boolean));
  return () => signal('SIGCONT');
}

/** Ends a PostgreSQL as an administrator would, and starts it again on the same port. The function returned ends it for good. */
export async function restart(postgres: PostgresServer): Promise<() => Promise<void>> {
  const [row] = await postgres.query<{ folder: string }>(`SELECT current_setting('data_directory') AS folder`);
  const folder = row?.folder ?? '';
  const options = await readFile(path.join(folder, 'postmaster.opts'), 'utf8');
  const control = path.join(path.dirname(options.split(' ')[0] ?? ''), 'pg_ctl');
  // The server refuses to run as root.
  const { uid, gid } = await stat(folder);
  const order = async (...words: string[]): Promise<void> => {
    await run(control, ['-D', folder, '-m', 'fast', '-w', '-l', '/dev/null', ...words], { uid, gid, cwd: folder });
  };
  await order('restart');
  return () => order('stop');
}

/** Stands between a store and its server, and can lose everything on the way. */
export class FaultyNetwork {
  readonly #server = createServer((client) => this.#accept(client));
  readonly #sockets = new Set<Socket>();
  readonly #towardsServer = new Set<Socket>();
  readonly #losing = new Set<() => void>();
  #isLosing = false;

  private constructor(private readonly target: { readonly host: string; readonly port: number }) {}

  static async to(target: { readonly host: string; readonly port: number }): Promise<FaultyNetwork> {
    const network = new FaultyNetwork(target);
    await network.#listen(0);
    return network;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** From now on nothing arrives, in either direction, and nobody is told: connections of before never work again. */
  lose(): void {
    this.#isLosing = true;
    for (const lose of this.#losing) lose();
    for (const socket of this.#sockets) {
      socket.unpipe();
      socket.removeAllListeners('data').resume();
    }
  }

  /** New connections work again. The server gives up those of before; to the store they are as silent as ever. */
  restore(): void {
    this.#isLosing = false;
    for (const socket of this.#towardsServer) socket.destroy();
  }

  /** Ends every connection, and refuses new ones until the function returned is called. */
  async refuse(): Promise<() => Promise<void>> {
    const { port } = this;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
    return () => this.#listen(port);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #listen(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, '127.0.0.1', resolve);
    });
  }

  #accept(client: Socket): void {
    this.#keep(client);
    if (this.#isLosing) {
      client.resume();
      return;
    }
    const server = connect(this.target.port, this.target.host);
    this.#keep(server);
    this.#towardsServer.add(server);
    client.pipe(server, { end: false });
    server.pipe(client, { end: false });
    // The end of one side is told to the other, unless it is lost too.
    let isLost = false;
    const lose = (): void => void (isLost = true);
    this.#losing.add(lose);
    client.once('close', () => isLost || server.destroy());
    server.once('close', () => {
      this.#losing.delete(lose);
      this.#towardsServer.delete(server);
      if (!isLost) client.destroy();
    });
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('end', () => this.#isLosing || socket.destroy());
    socket.once('close', () => this.#sockets.delete(socket));
  }
}

async function hasStopped(pid: number): Promise<boolean> {
  try {
    const threads = await readdir(`/proc/${pid}/task`);
    const states = await Promise.all(
      threads.map(async (thread) => {
        const stat = await readFile(`/proc/${pid}/task/${thread}/stat`, 'latin1');
        return stat.slice(stat.lastIndexOf(')') + 2)[0];
      }),
    );
    return states.every((state) => state !== undefined && 'TZX'.includes(state));
  } catch {
    // It, or one of its threads, has ended meanwhile: looked at again when that was one of several.
    return !existsSync(`/proc/${pid}`);
  }
}
