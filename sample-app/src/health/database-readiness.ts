import { Injectable } from '@nestjs/common';
import { InjectSecret, type DatabaseCredentials, type Secret } from '@nestjs-secrets/core';
import { LivePool } from '@nestjs-secrets/pg';
import { DatabaseServer } from '../database/database-server.js';
import { myDbCreds } from '../secrets/my-db-creds.js';

const LIMIT_MS = 2000;

/** Whether a new connection can be opened: a pool that lives on old ones looks healthy until it has to grow. */
@Injectable()
export class DatabaseReadiness {
  constructor(
    @InjectSecret(myDbCreds) private readonly credentials: Secret<DatabaseCredentials>,
    private readonly server: DatabaseServer,
  ) {}

  async isReady(): Promise<boolean> {
    // A pool of its own for one connection: fresh, and let in with the credentials a request would be let in with.
    const pool = new LivePool(this.credentials, {
      ...this.server.connection,
      application_name: 'my-app-readiness',
      max: 1,
      connectionTimeoutMillis: LIMIT_MS,
      query_timeout: LIMIT_MS,
    });
    pool.on('error', () => undefined);
    try {
      await pool.query('SELECT 1');
      return true;
    } catch {
      return false;
    } finally {
      await pool.end();
    }
  }
}
