import {
  StoreUnavailableError,
  wentBack,
  type BareError,
  type HearHint,
  type HintSession,
  type KeyRange,
  type RemoteAnswer,
  type RemoteBackend,
  type RemoteCommit,
  type StoreCommit,
  type StoreEntry,
} from '@nestjs-secrets/core';
import { RedisHintSession } from './redis-hint-session.js';
import { runScript, STORE_NAME, type Client, type RedisLink } from './redis-link.js';
import { COMMIT, GET, LIST } from './scripts.js';
import type { StoreKeys } from './store-keys.js';

/** More bytes of keys than this are told as "everything". */
const HINT_LIMIT = 8000;
const NO_VALUE = Buffer.alloc(0);
const SPACE = 0x20;

/** A store in three keys of Redis. Each call is one script, which Redis runs alone, so commits come one after the other. */
export class RedisBackend implements RemoteBackend {
  readonly name = STORE_NAME;

  constructor(
    private readonly link: RedisLink,
    /** The way of commits: where they wait for replicas, nothing else shall wait behind them. */
    private readonly commits: RedisLink,
    private readonly keys: StoreKeys,
    private readonly replicas: number,
    private readonly answerWithinMs: number,
  ) {}

  async open(): Promise<void> {
    await this.link.call((client) => client.sendCommand(['PING']));
  }

  async close(): Promise<void> {
    this.link.close();
    this.commits.close();
  }

  async get(key: string): Promise<RemoteAnswer<StoreEntry | undefined>> {
    const { entries, revision } = this.keys;
    const [now, entry] = await this.link.call((client) => runScript(client, GET, [entries, revision], [key]));
    return { revision: Number(String(now)), result: Buffer.isBuffer(entry) ? toEntry(key, entry) : undefined };
  }

  async list({ from, after, until, limit }: KeyRange): Promise<RemoteAnswer<StoreEntry[]>> {
    const { entries, index, revision } = this.keys;
    const bounds = [after >= from ? `(${after}` : `[${from}`, `(${until}`, String(limit)];
    const [now, ...found] = await this.link.call((client) =>
      runScript(client, LIST, [entries, index, revision], bounds),
    );
    const result: StoreEntry[] = [];
    for (let at = 0; at + 1 < found.length; at += 2) {
      const entry = found[at + 1];
      if (!Buffer.isBuffer(entry)) this.#fail(`has lost an entry that ${index} names: restore its keys from a backup.`);
      result.push(toEntry(String(found[at]), entry));
    }
    return { revision: Number(String(now)), result };
  }

  async revision(): Promise<RemoteAnswer<number>> {
    const revision = await this.link.call((client) => readRevision(client, this.keys));
    return { revision, result: revision };
  }

  async commit(commit: StoreCommit, atLeast: number): Promise<RemoteAnswer<RemoteCommit | undefined>> {
    const { entries, index, revision: counter, channel } = this.keys;
    const { conditions, writes } = commit;
    const told = writes.map((write) => write.key).join(' ');
    const values = [
      String(atLeast),
      channel,
      told.length <= HINT_LIMIT ? told : '',
      String(conditions.length),
      String(writes.length),
      ...conditions.flatMap(({ key, revision }) => [key, String(revision)]),
      ...writes.flatMap(({ key, value }) => [key, value === null ? 'remove' : 'put', bytesOf(value)]),
    ];
    const [outcome, before, revision] = await this.commits.call(async (client) => {
      const reply = await runScript(client, COMMIT, [entries, index, counter], values);
      if (this.replicas > 0 && writes.length > 0 && Number(reply[0]) === 1) await this.#replicated(client);
      return reply.map(Number) as [number, number, number];
    });
    if (outcome < 0) throw wentBack(this.name, atLeast, before);
    return { revision, result: outcome === 0 ? undefined : { before, revision } };
  }

  newSession(hear: HearHint): HintSession {
    return new RedisHintSession(this.link, this.keys, this.answerWithinMs, hear);
  }

  explain({ message, code }: BareError): string {
    // What the server quotes of a command is nobody's business.
    const said = message.split(', with args', 1)[0] ?? '';
    if (/^(NOAUTH|WRONGPASS)\b/.test(said)) return `could not log in (${said}): check its user name and password.`;
    if (said.startsWith('NOPERM')) {
      return `was refused by its server (${said}): grant its user ~${this.#pattern} &${this.#pattern} and the commands that docs/stores.md names.`;
    }
    if (said.startsWith('WRONGTYPE')) {
      return `finds something else under its keys: choose another prefix than that of ${this.keys.entries}.`;
    }
    if (said.startsWith('OOM')) return `has no room left on its server (${said}): raise maxmemory.`;
    if (/^(READONLY|MASTERDOWN)\b/.test(said)) return `is connected to a replica (${said}): point it at the primary.`;
    if (said.startsWith('MOVED'))
      return `is connected to the wrong node of a cluster (${said}): point it at that node.`;
    if (/^[A-Z]{2,} /.test(said)) return `did not do its work: ${said}`;
    return `could not be reached: ${said || String(code)}`;
  }

  /** The replicas acknowledge what this connection has written so far. */
  async #replicated(client: Client): Promise<void> {
    // Answered before the connection is taken for dead.
    const limit = Math.ceil(this.answerWithinMs * 0.75);
    const count = Number(await client.sendCommand(['WAIT', String(this.replicas), String(limit)]));
    if (count >= this.replicas) return;
    this.#fail(
      `has a commit on ${count} of the ${this.replicas} replicas that were asked for: look at what became of them.`,
    );
  }

  get #pattern(): string {
    return this.keys.entries.replace(/entries$/, '*');
  }

  #fail(reason: string): never {
    throw new StoreUnavailableError(this.name, reason);
  }
}

export async function readRevision(client: Client, keys: StoreKeys): Promise<number> {
  return Number((await client.sendCommand(['GET', keys.revision])) ?? 0);
}

function bytesOf(value: Uint8Array | null): Buffer {
  return value === null ? NO_VALUE : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}

function toEntry(key: string, entry: Buffer): StoreEntry {
  const end = entry.indexOf(SPACE);
  // Copied out of what the client has read, which may be more than this.
  return {
    key,
    value: new Uint8Array(entry.subarray(end + 1)),
    revision: Number(entry.subarray(0, end).toString('latin1')),
  };
}
