import type { DatabaseCredentials, Secret, SecretRotator } from '@nestjs-secrets/core';
import { LiveMysqlPool, mysqlAlternatingUsers, mysqlDualPassword, mysqlSingleUser } from '@nestjs-secrets/mysql2';
import { postgresAlternatingUsers, postgresSingleUser } from '@nestjs-secrets/pg';
import { liveMysql, livePostgres } from '@nestjs-secrets/typeorm';
import mysql from 'mysql2/promise';
import pg from 'pg';
import type { CrashPoints } from './crash-points.js';
import type { AppPlace, TargetKindName } from './app-place.js';

/** A rotator of user names and passwords, with the name that policies call it by. */
export type DatabaseRotator = SecretRotator<DatabaseCredentials> & { readonly name: string };

/** What an application of the crash tests needs to know of the kind of server its credentials are for. */
export interface TargetKind {
  rotator(place: AppPlace): DatabaseRotator;
  /** The part of TypeORM's options that follows the secret. */
  live(secret: Secret<DatabaseCredentials>): object;
  /** A statement that takes so many seconds. */
  sleep(seconds: number): string;
  /** A statement whose one row says, as `name`, who the session logged in as. */
  readonly whoAmI: string;
  /** Puts a crash point on each side of the statements that rotators send, of those at least that change something. To be called before anything connects. */
  crashAroundStatements(points: CrashPoints): void;
  /** Puts crash points where a pool opens a connection. To be called before anything connects. */
  crashAroundConnections(points: CrashPoints): void;
}

const postgres: TargetKind = {
  rotator: ({ strategy, roleName, server: connection, admin }) =>
    strategy === 'alternating-users'
      ? postgresAlternatingUsers({ connection, admin, baseName: roleName })
      : postgresSingleUser({ connection, admin, username: roleName }),
  live: (secret) => livePostgres(secret),
  sleep: (seconds) => `SELECT pg_sleep(${seconds})`,
  whoAmI: 'SELECT session_user AS name',
  crashAroundStatements(points) {
    const { query } = pg.Client.prototype;
    pg.Client.prototype.query = function around(this: pg.Client, ...args: unknown[]) {
      const call = (): unknown => Reflect.apply(query, this, args);
      return isRotatorsClient(this) ? points.around('statement', call) : call();
    } as typeof query;
  },
  crashAroundConnections(points) {
    const { connect } = pg.Client.prototype;
    pg.Client.prototype.connect = function around(this: pg.Client, callback?: (error: Error | null) => void) {
      const call = (done?: (error: Error | null) => void): unknown =>
        Reflect.apply<pg.Client, unknown[], unknown>(connect, this, [done]);
      if (callback === undefined || isRotatorsClient(this)) return call(callback);
      const connected = (): Promise<Error | null> => new Promise((resolve) => void call(resolve));
      void points.around('connection', connected).then(callback);
      return undefined;
    } as typeof connect;
  },
};

function isRotatorsClient(client: pg.Client): boolean {
  const { connectionParameters } = client as unknown as { connectionParameters: { application_name?: string } };
  return connectionParameters.application_name === 'nestjs-secrets';
}

const mariadb: TargetKind = {
  rotator({ strategy, roleName, server: connection, admin }) {
    if (strategy === 'alternating-users') return mysqlAlternatingUsers({ connection, admin, baseName: roleName });
    const make = strategy === 'single-user' ? mysqlSingleUser : mysqlDualPassword;
    return make({ connection, admin, username: roleName });
  },
  live: (secret) => liveMysql(secret, { type: 'mariadb' }),
  sleep: (seconds) => `SELECT SLEEP(${seconds})`,
  whoAmI: "SELECT SUBSTRING_INDEX(USER(), '@', 1) AS name",
  crashAroundStatements(points) {
    // Only rotators use mysql2's promise face: TypeORM and the pool call back.
    const { PromiseConnection } = mysql as unknown as {
      PromiseConnection: { prototype: { query(...args: unknown[]): Promise<unknown> } };
    };
    const { query } = PromiseConnection.prototype;
    PromiseConnection.prototype.query = function around(this: unknown, ...args: unknown[]) {
      const call = (): unknown => Reflect.apply(query, this, args);
      return isReading(args[0]) ? call() : points.around('statement', call);
    } as typeof query;
  },
  crashAroundConnections(points) {
    const { emit } = LiveMysqlPool.prototype;
    LiveMysqlPool.prototype.emit = function around(this: LiveMysqlPool, event: string | symbol, ...args: unknown[]) {
      // The pool tells of a connection once it is open, so both sides are behind that.
      if (event === 'connection') void points.around('connection', () => undefined);
      return Reflect.apply(emit, this, [event, ...args]);
    } as typeof emit;
  },
};

/** What only reads has no effect that a death could come before or after; the rotators read hundreds of times before they change anything. */
function isReading(statement: unknown): boolean {
  const sql = typeof statement === 'string' ? statement : (statement as { sql: string }).sql;
  return /^\s*(?:SELECT|SHOW)\b/i.test(sql);
}

export const TARGET_KINDS: Readonly<Record<TargetKindName, TargetKind>> = { postgres, mariadb };
