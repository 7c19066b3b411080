import {
  Deadline,
  type BareError,
  type HearHint,
  type HintSession,
  type KeyRange,
  type RemoteAnswer,
  type RemoteBackend,
  type RemoteCommit,
  type RemoteLimits,
  type StoreCommit,
  type StoreEntry,
} from '@nestjs-secrets/core';
import { EtcdRefusal, type EtcdGateway } from './etcd-gateway.js';
import { EtcdHintSession } from './etcd-hint-session.js';
import { EtcdTransactions, tooLarge, type EtcdLimits } from './etcd-transactions.js';
import { revisionIn, type Compare, type KeyValue, type RangeResponse, type TxnResponse } from './gateway-messages.js';
import { readHead } from './read-head.js';
import { fromBase64, type StoreKeys } from './store-keys.js';

/**
 * A store under a prefix of etcd. The revision of an entry is its mod_revision, and that of the store the one of a key that every commit puts.
 */
export class EtcdBackend implements RemoteBackend {
  readonly name = 'etcd';
  readonly #transactions: EtcdTransactions;

  constructor(
    private readonly gateway: EtcdGateway,
    private readonly keys: StoreKeys,
    private readonly limits: RemoteLimits & EtcdLimits,
  ) {
    this.#transactions = new EtcdTransactions(keys, limits);
  }

  async open(): Promise<void> {
    await this.revision();
  }

  async close(): Promise<void> {
    this.gateway.close();
  }

  async get(key: string): Promise<RemoteAnswer<StoreEntry | undefined>> {
    const response = await this.gateway.call<RangeResponse>('/v3/kv/range', { key: this.keys.entry(key) });
    const [found] = response.kvs ?? [];
    return { revision: revisionIn(response), result: found && this.#entry(found) };
  }

  async list({ from, after, until, limit }: KeyRange): Promise<RemoteAnswer<StoreEntry[]>> {
    const key = this.keys.entry(after >= from && after !== '' ? `${after}\0` : from);
    // etcd takes the range of a key and an end that is not after it for an error.
    const isEmpty = after >= until;
    const range_end = this.keys.entry(isEmpty ? `${after}\0\0` : until);
    const response = await this.gateway.call<RangeResponse>('/v3/kv/range', { key, range_end, limit });
    const found = isEmpty ? [] : (response.kvs ?? []);
    return { revision: revisionIn(response), result: found.map((entry) => this.#entry(entry)) };
  }

  async revision(): Promise<RemoteAnswer<number>> {
    return readHead(this.gateway, this.keys);
  }

  async commit(commit: StoreCommit): Promise<RemoteAnswer<RemoteCommit | undefined>> {
    this.#transactions.check(commit);
    const deadline = new Deadline(this.limits.answerWithinMs);
    if (!this.#transactions.fit(commit)) return this.#commitByHead(commit, deadline);
    const compare = commit.conditions.map((condition) => this.#transactions.compare(condition));
    return this.#transact(compare, commit, deadline);
  }

  newSession(hear: HearHint): HintSession {
    return new EtcdHintSession(this.gateway, this.keys, this.limits.answerWithinMs, hear);
  }

  explain({ name, message, code }: BareError): string {
    if (/authentication failed/.test(message)) {
      return `could not log in (${message}): check its user name and password.`;
    }
    if (/user name is empty|token is not provided/.test(message)) {
      return `was refused by its server (${message}): it wants a user; give username and password.`;
    }
    if (/permission denied/.test(message)) {
      return `was refused by its server (${message}): grant a role of its user readwrite on the prefix ${this.keys.prefix}/.`;
    }
    if (/database space exceeded/.test(message)) {
      return `has no room left on its server (${message}): compact and defragment it, disarm the alarm, and set --auto-compaction-retention.`;
    }
    if (/HTTP status 404|does not speak JSON/.test(message)) {
      return `did not find the gateway of etcd 3.4 or later (${message}): check its endpoints.`;
    }
    if (name === 'EtcdRefusal') return `did not do its work: ${message}`;
    return `could not be reached: ${message || String(code)}`;
  }

  /**
   * For more conditions than a transaction takes: judges them as of one moment, and commits on condition that no commit has come since. Every
   * one puts the head.
   */
  async #commitByHead(commit: StoreCommit, deadline: Deadline): Promise<RemoteAnswer<RemoteCommit | undefined>> {
    while (!deadline.isOver) {
      const look = await this.gateway.call<TxnResponse>(
        '/v3/kv/txn',
        this.#transactions.look(commit.conditions),
        deadline,
      );
      const found = this.#transactions.found(look);
      const revision = revisionIn(look);
      const holds = commit.conditions.every(
        (condition) => (found.get(this.keys.entry(condition.key)) ?? 0) === condition.revision,
      );
      if (!holds) return { revision, result: undefined };
      const before = found.get(this.keys.head) ?? 0;
      if (commit.writes.length === 0) return { revision, result: { before, revision: before } };
      const done = await this.#transact([this.#transactions.compareKey(this.keys.head, before)], commit, deadline);
      if (done.result !== undefined) return done;
    }
    throw new Error('others kept committing while it judged a commit with many conditions');
  }

  async #transact(
    compare: readonly Compare[],
    { writes }: StoreCommit,
    deadline: Deadline,
  ): Promise<RemoteAnswer<RemoteCommit | undefined>> {
    const response = await this.#asked(this.#transactions.commit(compare, writes), deadline);
    const revision = revisionIn(response);
    if (response.succeeded !== true) return { revision, result: undefined };
    const [head] = response.responses ?? [];
    const former = head?.response_put?.prev_kv ?? head?.response_range?.kvs?.[0];
    const before = Number(former?.mod_revision ?? 0);
    return { revision, result: { before, revision: writes.length === 0 ? before : revision } };
  }

  async #asked(body: object, deadline: Deadline): Promise<TxnResponse> {
    try {
      return await this.gateway.call<TxnResponse>('/v3/kv/txn', body, deadline);
    } catch (error) {
      if (error instanceof EtcdRefusal && /request is too large|message larger than max/.test(error.message)) {
        throw tooLarge(JSON.stringify(body).length, this.limits);
      }
      throw error;
    }
  }

  #entry({ key, value = '', mod_revision }: KeyValue): StoreEntry {
    return {
      key: this.keys.keyOf(key),
      value: new Uint8Array(fromBase64(value)),
      revision: Number(mod_revision),
    };
  }
}
