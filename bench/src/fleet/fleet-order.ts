/** Where the store of a fleet is. */
export interface StoreAddress {
  readonly type: 'postgres' | 'mariadb';
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly username: string;
  readonly password: string;
  readonly pollIntervalMs: number;
}

/** What a process of the fleet is told at its start, as its one argument in JSON. */
export interface FleetOrder {
  readonly store: StoreAddress;
  /** The key file of the store. */
  readonly keys: string;
  /** Where the audit log of its applications goes, which then have policies as well; neither without it. */
  readonly guards?: string;
  /** How many applications it runs, each an instance with one live handle. They share the store connections and the audit log of their process. */
  readonly instances: number;
  /** How many bare clients it runs beside them, which listen and select; 0 where the database does not call. */
  readonly bareClients: number;
}

/** What a process says: that it is ready, or when the last of its handles (`version`) or bare clients (`bare`) had something. */
export type FleetWord =
  { readonly type: 'ready' } | { readonly type: 'version' | 'bare'; readonly id: string; readonly at: number };

export const SECRET = 'FleetToken';
export const BARE_CHANNEL = 'bare';

/** Milliseconds of a clock that all processes of the machine share. */
export function sharedMoment(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
