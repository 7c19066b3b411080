import { RemoteStore, StoreOptionsError, type StoreDriver } from '@nestjs-secrets/core';
import { EtcdBackend } from './etcd-backend.js';
import { EtcdGateway, type EtcdConnection } from './etcd-gateway.js';
import { StoreKeys } from './store-keys.js';

export interface EtcdStoreOptions {
  /** What all keys of the store begin with, followed by a slash; `nestjs_secrets` by default. */
  readonly prefix?: string;
  /** After this time without an answer a call rejects with `STORE_UNAVAILABLE`, in milliseconds; 5000 by default. */
  readonly answerWithinMs?: number;
  /**
   * How often to look for commits of other processes, in milliseconds; 500 by default. etcd tells of them, and is asked only for as long as
   * the stream that listens is away.
   */
  readonly pollIntervalMs?: number;
  /**
   * The servers' `--max-txn-ops`; 128 by default, which is theirs. Up to so many conditions and one write less travel as one plain
   * transaction; more are nested, up to about a quarter of its square (4032 by default).
   */
  readonly maxTxnOps?: number;
  /** The servers' `--max-request-bytes`; 1,572,864 by default, which is theirs. A larger commit is refused with `STORE_REQUEST_INVALID`. */
  readonly maxRequestBytes?: number;
}

/** A value of the largest size a store takes, its key, and what a transaction has around them. */
const SMALLEST_REQUEST_LIMIT = 1_064_960;

/**
 * A store on etcd 3.4 or later, over the JSON gateway of its members. What it acknowledged is on the disks of a majority.
 * @throws StoreOptionsError for an endpoint that is none, or an option out of range.
 */
export function etcdStore(connection: EtcdConnection, options: EtcdStoreOptions = {}): StoreDriver {
  const { prefix = 'nestjs_secrets', maxTxnOps = 128, maxRequestBytes = 1_572_864 } = options;
  const { answerWithinMs = 5000, pollIntervalMs = 500 } = options;
  if (!/^[!-~]{1,128}$/.test(prefix)) {
    throw new StoreOptionsError(
      `${JSON.stringify(prefix.slice(0, 64))} is not a prefix for etcd: use 1–128 printable ASCII characters without the space.`,
    );
  }
  for (const [name, value] of Object.entries({ answerWithinMs, pollIntervalMs })) {
    if (!Number.isFinite(value) || value < 1) {
      throw new StoreOptionsError(`${name} is ${value}: use milliseconds, 1 or more.`);
    }
  }
  if (!Number.isInteger(maxTxnOps) || maxTxnOps < 8) {
    throw new StoreOptionsError(`maxTxnOps is ${maxTxnOps}: use the --max-txn-ops of the servers, 8 or more.`);
  }
  if (!Number.isInteger(maxRequestBytes) || maxRequestBytes < SMALLEST_REQUEST_LIMIT) {
    throw new StoreOptionsError(
      `maxRequestBytes is ${maxRequestBytes}: use the --max-request-bytes of the servers, ${SMALLEST_REQUEST_LIMIT} or more, since a value may have a mebibyte.`,
    );
  }
  const limits = { answerWithinMs: Math.ceil(answerWithinMs), pollIntervalMs };
  const gateway = new EtcdGateway({ ...connection, endpoints: urlsOf(connection.endpoints) }, limits.answerWithinMs);
  return new RemoteStore(
    new EtcdBackend(gateway, new StoreKeys(prefix), { ...limits, maxTxnOps, maxRequestBytes }),
    limits,
  );
}

function urlsOf(endpoints: string | readonly string[]): URL[] {
  const all = typeof endpoints === 'string' ? [endpoints] : endpoints;
  if (all.length === 0) throw new StoreOptionsError('endpoints is empty: name a member of the cluster.');
  return all.map((endpoint, index) => {
    const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
    // Not quoted: whoever puts a password in it shall not find it in a log.
    if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.username !== '') {
      throw new StoreOptionsError(
        `endpoints[${index}] is not the URL of a member: use http:// or https://, a host and a port, and username and password beside it.`,
      );
    }
    return url;
  });
}
