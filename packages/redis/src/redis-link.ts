import { answerWithin, Deadline, StoreUnavailableError } from '@nestjs-secrets/core';
import { createClient, ErrorReply, RESP_TYPES, type RedisClientOptions } from '@redis/client';
import type { Script } from './scripts.js';
import { DEMANDED_SETTINGS, missingDemand, missingRights, roleIn, type RedisPersistence } from './server-demands.js';

export const STORE_NAME = 'redis';

type Argument = string | Buffer;

/** One connection. Once it has failed it stays so. */
export type Client = ReturnType<typeof newClient>;

const BYTES = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } };
const PAIRS = { typeMapping: { [RESP_TYPES.MAP]: Array } };

/**
 * The way to the server: a connection at a time, opened when a call needs one and there is none, on which all calls travel together. One that
 * left a call without an answer is given up, since it may have died without a word.
 */
export class RedisLink {
  #client: Client | undefined;
  #connecting: Promise<Client> | undefined;
  #isClosed = false;

  constructor(
    private readonly options: RedisClientOptions,
    private readonly persistence: RedisPersistence,
    private readonly answerWithinMs: number,
  ) {}

  /** Asks on the common connection. The whole of `ask` has `answerWithinMs`. */
  async call<R>(ask: (client: Client) => Promise<R>): Promise<R> {
    const deadline = new Deadline(this.answerWithinMs);
    const client = await this.#connected();
    try {
      return await answerWithin(deadline.leftMs, 'the answer', ask(client));
    } catch (error) {
      if (!(error instanceof ErrorReply) || isOfWrongServer(error)) this.#drop(client);
      throw error;
    }
  }

  /** A connection of the caller's own, to a server that is as it has to be. */
  async connect(): Promise<Client> {
    const client = newClient(this.options, this.answerWithinMs);
    const connecting = client.connect().then(() => this.#inspect(client));
    try {
      await answerWithin(this.answerWithinMs, 'connecting', connecting);
    } catch (error) {
      client.destroy();
      throw error;
    }
    return client;
  }

  close(): void {
    this.#isClosed = true;
    this.#client?.destroy();
    this.#client = undefined;
  }

  #connected(): Promise<Client> {
    if (this.#client !== undefined) return Promise.resolve(this.#client);
    this.#connecting ??= this.#connectOnce().finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  async #connectOnce(): Promise<Client> {
    const client = await this.connect();
    if (this.#isClosed) {
      client.destroy();
      throw new Error('closed while it connected');
    }
    client.once('terminated', () => this.#drop(client));
    this.#client = client;
    return client;
  }

  #drop(client: Client): void {
    if (this.#client === client) this.#client = undefined;
    client.destroy();
  }

  async #inspect(client: Client): Promise<void> {
    const role = roleIn(String(await client.sendCommand(['INFO', 'replication'])));
    if (role !== 'master') {
      throw new StoreUnavailableError(STORE_NAME, `is connected to a replica (${role}): point it at the primary.`);
    }
    if (this.persistence === 'unchecked') return;
    const settings = new Map<string, string>();
    for (const pattern of DEMANDED_SETTINGS) {
      for (const [name, value] of await readPairs(client, 'CONFIG', 'GET', pattern)) settings.set(name, value);
    }
    const user = await readPairs(client, 'ACL', 'GETUSER', 'default');
    const missing =
      missingDemand(this.persistence, settings) ?? missingRights(user.get('commands') ?? '', user.get('keys') ?? '');
    if (missing !== undefined) throw new StoreUnavailableError(STORE_NAME, missing);
  }
}

/** Runs a script; its strings come as bytes. */
export async function runScript(
  client: Client,
  { text, sha }: Script,
  keys: readonly string[],
  values: readonly Argument[],
): Promise<unknown[]> {
  const words = [String(keys.length), ...keys, ...values];
  let reply: unknown;
  try {
    reply = await client.sendCommand(['EVALSHA', sha, ...words], BYTES);
  } catch (error) {
    if (!(error instanceof ErrorReply) || !error.message.startsWith('NOSCRIPT')) throw error;
    reply = await client.sendCommand(['EVAL', text, ...words], BYTES);
  }
  if (!Array.isArray(reply)) throw new Error('a script gave what it never gives');
  return reply;
}

function newClient(options: RedisClientOptions, answerWithinMs: number) {
  const client = createClient({
    ...options,
    RESP: 3,
    // A call that meets an outage is to be refused, and nothing may be sent a second time.
    disableOfflineQueue: true,
    maintNotifications: 'disabled',
    disableClientInfo: options.disableClientInfo ?? true,
    clientSideCache: undefined,
    emitInvalidate: false,
    pingInterval: undefined,
    socket: { ...socketOptions(options), connectTimeout: answerWithinMs, reconnectStrategy: false },
  });
  // Whoever waits for an answer is told as well; without a listener the process would end.
  client.on('error', () => undefined);
  return client;
}

function socketOptions({ socket }: RedisClientOptions): RedisClientOptions['socket'] {
  return { ...socket };
}

/** After a fail-over: the connection leads to a server that takes no writes. */
function isOfWrongServer(error: Error): boolean {
  return /^(READONLY|MOVED|MASTERDOWN|LOADING)\b/.test(error.message);
}

async function readPairs(client: Client, ...words: string[]): Promise<Map<string, string>> {
  const reply: unknown = await client.sendCommand(words, PAIRS).catch(unreadable);
  const flat: unknown[] = Array.isArray(reply) ? reply : [];
  const pairs = new Map<string, string>();
  for (let at = 0; at + 1 < flat.length; at += 2) {
    const value = flat[at + 1];
    pairs.set(String(flat[at]), Array.isArray(value) ? value.map(String).join(' ') : String(value));
  }
  return pairs;
}

function unreadable(error: unknown): never {
  if (!(error instanceof ErrorReply)) throw error;
  throw new StoreUnavailableError(
    STORE_NAME,
    `cannot read how durable its server is: grant its user +config|get and +acl|getuser, or do without that with persistence: 'unchecked'.`,
  );
}
