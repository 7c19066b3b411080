import { createHash } from 'node:crypto';
import type { StoreHint } from '@nestjs-secrets/core';

/** A notification carries less than 8000 bytes: https://www.postgresql.org/docs/current/sql-notify.html */
const PAYLOAD_LIMIT = 7999;

export interface Notification {
  readonly channel: string;
  readonly payload: string;
}

/**
 * The channels of one table: one for each first segment of the keys (`secret` of `secret/MyDbCreds`) and one for everything. Who watches
 * secrets only is so not woken by the acknowledgements of hundreds of instances.
 */
export class PostgresChannels {
  /** @param table the table's name with its schema, which every process that uses it must spell alike */
  constructor(private readonly table: string) {}

  /** What to listen to for watchers of these prefixes; undefined stands for watchers of everything. */
  for(prefixes: ReadonlySet<string> | undefined): string[] {
    if (prefixes === undefined) return [this.#channel(undefined)];
    // A prefix that ends within the first segment may go on in many ways.
    if ([...prefixes].some((prefix) => !prefix.includes('/'))) return [this.#channel(undefined)];
    return [...new Set([...prefixes].map((prefix) => this.#channel(segmentOf(prefix))))];
  }

  /** What a commit of these keys has to send. */
  notifications(keys: readonly string[], revision: number): Notification[] {
    const segments = new Map<string | undefined, string[]>([[undefined, [...keys]]]);
    for (const key of keys) {
      const segment = segmentOf(key);
      const others = segments.get(segment);
      if (others === undefined) segments.set(segment, [key]);
      else others.push(key);
    }
    return [...segments].map(([segment, its]) => ({
      channel: this.#channel(segment),
      payload: payloadOf(revision, its),
    }));
  }

  #channel(segment: string | undefined): string {
    // A channel's name has at most 63 bytes; a table and a segment may have more. No segment has a line break.
    const hash = createHash('sha256').update(`${this.table}\n${segment ?? '\n'}`);
    return `nestjs_secrets_${hash.digest('hex').slice(0, 32)}`;
  }
}

/** The revision of a commit, and what it says about keys. Anybody may notify, so a payload may be anything. */
export function readPayload(payload: string): { readonly revision: number; readonly hint: StoreHint } {
  const [revision, ...keys] = payload.split(' ');
  return { revision: Number(revision), hint: keys.length === 0 ? {} : { keys } };
}

function payloadOf(revision: number, keys: readonly string[]): string {
  const payload = [revision, ...keys].join(' ');
  return payload.length <= PAYLOAD_LIMIT ? payload : String(revision);
}

function segmentOf(key: string): string {
  return key.split('/', 1)[0] ?? key;
}
