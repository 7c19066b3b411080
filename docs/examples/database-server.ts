import type { DatabaseCredentials } from '@nestjs-secrets/core';

/** Where an example finds a PostgreSQL and its administrator. */
export interface DatabaseServer {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly admin: DatabaseCredentials;
}
