import type { DatabaseCredentials } from '@nestjs-secrets/core';

export const LEASED = 'LeasedDbCreds';
export const BASE_NAME = 'leased';
export const TEMPLATE_ROLE = 'leased_template';
export const TTL_MS = 10_000;
export const LEASE_MS = 2_000;

/** Where the processes of a test find the server and its two databases. */
export interface LeasePlace {
  readonly server: { readonly host: string; readonly port: number };
  readonly storeDatabase: string;
  readonly targetDatabase: string;
  readonly admin: DatabaseCredentials;
  /** The key file, which all processes share. */
  readonly keys: string;
}

/** What the parent asks of a process. */
export type LeaseQuestion = 'who' | 'close';

export type LeaseMessage =
  | { readonly type: 'ready'; readonly instanceId: string }
  /** As whom the pool logs in and works. */
  | { readonly type: 'who'; readonly sessionUser: string; readonly currentUser: string }
  | { readonly type: 'refused'; readonly code: string };
