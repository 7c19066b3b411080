import { InvalidStoreRequestError, type StoreCommit, type StoreCondition, type StoreWrite } from '@nestjs-secrets/core';
import type { Compare, KeyValue, RequestOp, TxnRequest, TxnResponse } from './gateway-messages.js';
import { toBase64, type StoreKeys } from './store-keys.js';

export interface EtcdLimits {
  readonly maxTxnOps: number;
  readonly maxRequestBytes: number;
}

/** More bytes of keys than this are told as "everything". */
const HINT_LIMIT = 8000;
/** What a write has around its key and value in a request, at most. */
const WRITE_OVERHEAD = 48;

/**
 * The transactions of one store, within what a server takes. A transaction counts `--max-txn-ops` for its conditions and for its operations
 * apart, and a transaction nested in it has what it left over.
 */
export class EtcdTransactions {
  /** The most writes, or conditions, of one commit. */
  readonly most: number;
  readonly #nested: number;

  constructor(
    private readonly keys: StoreKeys,
    private readonly limits: EtcdLimits,
  ) {
    const outer = Math.floor(limits.maxTxnOps / 2);
    this.#nested = limits.maxTxnOps - outer;
    // One of the outer operations is for the head.
    this.most = (outer - 1) * this.#nested;
  }

  /** @throws InvalidStoreRequestError when no transaction can carry the commit */
  check({ conditions, writes }: StoreCommit): void {
    const count = Math.max(conditions.length, writes.length);
    if (count > this.most) {
      throw new InvalidStoreRequestError(
        `A commit has ${conditions.length} conditions and ${writes.length} writes; with --max-txn-ops=${this.limits.maxTxnOps} etcd takes ${this.most} of each: commit less at once, or raise that and maxTxnOps.`,
      );
    }
    const bytes = writes.reduce((sum, { key, value }) => sum + sizeOf(key, this.keys) + (value?.byteLength ?? 0), 0);
    if (bytes > this.limits.maxRequestBytes) throw tooLarge(bytes, this.limits);
  }

  /** Whether the server itself can judge these conditions together with these writes. */
  fit({ conditions, writes }: StoreCommit): boolean {
    const isFlat = writes.length < this.limits.maxTxnOps;
    return conditions.length <= (isFlat ? this.limits.maxTxnOps : this.limits.maxTxnOps - this.#nested);
  }

  /** Writes, and puts the head, whose response comes first; without writes, only reads the head. */
  commit(compare: readonly Compare[], writes: readonly StoreWrite[]): TxnRequest {
    if (writes.length === 0) return { compare, success: [{ request_range: { key: this.keys.head } }] };
    const told = writes.map((write) => write.key).join(' ');
    const value = toBase64(told.length <= HINT_LIMIT ? told : '');
    const head = { request_put: { key: this.keys.head, value, prev_kv: true } };
    return { compare, success: [head, ...this.#packed(writes.map((write) => this.#operation(write)))] };
  }

  /** Reads the head and these conditions' keys, without their values, as of one moment. */
  look(conditions: readonly StoreCondition[]): TxnRequest {
    const ranges = conditions.map(({ key }) => ({ request_range: { key: this.keys.entry(key), keys_only: true } }));
    return { success: [{ request_range: { key: this.keys.head, keys_only: true } }, ...this.#packed(ranges)] };
  }

  /** What `look` has found: the revision of each of etcd's keys that is there. */
  found(response: TxnResponse): Map<string, number> {
    return new Map(keyValuesIn(response).map(({ key, mod_revision }) => [key, Number(mod_revision)]));
  }

  compare({ key, revision }: StoreCondition): Compare {
    return this.compareKey(this.keys.entry(key), revision);
  }

  compareKey(key: string, revision: number): Compare {
    return { key, target: 'MOD', result: 'EQUAL', mod_revision: String(revision) };
  }

  #operation({ key, value }: StoreWrite): RequestOp {
    const entry = this.keys.entry(key);
    if (value === null) return { request_delete_range: { key: entry } };
    const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    return { request_put: { key: entry, value: bytes.toString('base64') } };
  }

  #packed(operations: readonly RequestOp[]): readonly RequestOp[] {
    if (operations.length < this.limits.maxTxnOps) return operations;
    const packed: RequestOp[] = [];
    for (let at = 0; at < operations.length; at += this.#nested) {
      packed.push({ request_txn: { success: operations.slice(at, at + this.#nested) } });
    }
    return packed;
  }
}

export function tooLarge(bytes: number, { maxRequestBytes }: EtcdLimits): InvalidStoreRequestError {
  return new InvalidStoreRequestError(
    `A commit of about ${bytes} bytes is more than etcd takes at once (${maxRequestBytes}): commit less at once, or raise --max-request-bytes and maxRequestBytes.`,
  );
}

function keyValuesIn({ responses = [] }: TxnResponse): KeyValue[] {
  return responses.flatMap(({ response_range, response_txn }) => [
    ...(response_range?.kvs ?? []),
    ...(response_txn === undefined ? [] : keyValuesIn(response_txn)),
  ]);
}

function sizeOf(key: string, { prefix }: StoreKeys): number {
  return key.length + prefix.length + WRITE_OVERHEAD;
}
