import type { DatabaseCredentials } from '@nestjs-secrets/core';

/** The kinds of server that applications of the end-to-end tests have their credentials for. */
export type TargetKindName = 'postgres' | 'mariadb';

export type Strategy = 'alternating-users' | 'single-user' | 'dual-password';

/** Where an application of the end-to-end tests lives: its folder, and its place on a server. JSON, so that a child can be told. */
export interface AppPlace {
  /** Holds the store and the key file; both are found again after a restart. */
  readonly folder: string;
  /** What kind of server it is on; PostgreSQL by default. */
  readonly kind?: TargetKindName;
  readonly strategy: Strategy;
  /** The role of `single-user`, or the base name of the ring of `alternating-users`. */
  readonly roleName: string;
  readonly server: { readonly host: string; readonly port: number; readonly database: string };
  readonly admin: DatabaseCredentials;
}
