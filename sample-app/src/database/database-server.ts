import type { ConnectionOptions } from 'node:tls';
import type { OnApplicationShutdown } from '@nestjs/common';
import type { DatabaseCredentials } from '@nestjs-secrets/core';
import pg from 'pg';
import { EmbeddedPostgres } from './embedded-postgres.js';

type TlsOptions = boolean | Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'rejectUnauthorized'>;

/** Where a database is, without the credentials to get in. */
export interface DatabaseConnection {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly ssl?: TlsOptions;
}

/** The server MyApp uses, and the administrator who creates MyApp's own roles there. */
export class DatabaseServer implements OnApplicationShutdown {
  private constructor(
    readonly connection: DatabaseConnection,
    readonly admin: DatabaseCredentials,
    private readonly embedded?: EmbeddedPostgres,
  ) {}

  static async embedded(folder: string, database: string): Promise<DatabaseServer> {
    const postgres = await EmbeddedPostgres.start(folder);
    await postgres.ensureDatabase(database);
    return new DatabaseServer({ host: postgres.host, port: postgres.port, database }, postgres.admin, postgres);
  }

  /** @throws Error when the URL cannot be read or lacks the administrator's log-in */
  static at(url: string): DatabaseServer {
    const { host, port, database, user, password, connectionParameters } = parse(url);
    if (!user || !password || !database) {
      throw new Error(
        'DATABASE_URL must be postgres://ADMIN:PASSWORD@HOST:PORT/DATABASE, of a role that may create roles.',
      );
    }
    const { ssl } = connectionParameters;
    return new DatabaseServer({ host, port, database, ...(ssl ? { ssl } : {}) }, { username: user, password });
  }

  async onApplicationShutdown(): Promise<void> {
    await this.embedded?.stop();
  }
}

type ParsedClient = pg.Client & { readonly connectionParameters: { readonly ssl?: TlsOptions } };

/** As pg itself reads it, TLS parameters included; a client that never connects. */
function parse(connectionString: string): ParsedClient {
  try {
    return new pg.Client({ connectionString }) as ParsedClient;
  } catch {
    // The parser's own error would carry the URL, and with it the password.
    throw new Error('DATABASE_URL cannot be read: percent-encode special characters of the user name and password.');
  }
}
