import type { Connection } from 'mysql2/promise';
import { RotatorOptionsError, type DatabaseCredentials, type Secret, type SecretRotator } from '@nestjs-secrets/core';
import { databaseFact, type AccountFact } from './account-facts.js';
import { MysqlTarget, type MysqlConnection } from './mysql-target.js';
import { databasePattern } from './sql-quoting.js';

/** A rotator of MySQL and MariaDB users, with the name under which a rotation policy asks for it. */
export interface MysqlRotator extends SecretRotator<DatabaseCredentials> {
  readonly name: string;
}

/** The server a probe runs on. Only the primary can be written to. */
export type MysqlProbedServer = 'primary' | 'replica';

/** Runs as the new credential before it becomes current, on the primary and on every replica; what it throws stops the rotation. */
export type MysqlProbe = (connection: Connection, server: MysqlProbedServer) => Promise<void>;

/** Who administers the users: the credentials, a secret that holds them, or a function that gets them for each step. */
export type MysqlAdmin =
  Secret<DatabaseCredentials> | DatabaseCredentials | (() => DatabaseCredentials | Promise<DatabaseCredentials>);

export interface MysqlRotatorOptions {
  /** What a rotation policy calls this rotator; by default that of the strategy. */
  readonly name?: string;
  /** The primary, and the application's database where it has one. Connections are given 5 s, unless stated here, and statements 30 s. */
  readonly connection: MysqlConnection;
  /** Replicas on which a new credential must log in, and the probes pass, too before it becomes current. */
  readonly replicas?: readonly MysqlConnection[];
  /** How long replicas may refuse a new credential because they lag behind, in milliseconds, all together; 10,000 by default. */
  readonly replicaLagLimitMs?: number;
  readonly probes?: readonly MysqlProbe[];
  /** For the first version: where its accounts log in from; `['%']` by default. Later ones have the hosts of the current user's accounts. */
  readonly hosts?: readonly string[];
  /**
   * Called as the administrator when the first version is made, with the names of its accounts as they stand in SQL: the place to grant what
   * the application begins with. Repeated when the first rotation is, so it must be harmless the second time. Without it the first user gets
   * ALL PRIVILEGES on the connection's database.
   */
  readonly prepare?: (connection: Connection, accounts: readonly string[]) => Promise<void>;
}

/** The options all rotators share, checked, and what they come to. */
export interface MysqlRotatorSetup {
  readonly name: string;
  readonly primary: MysqlTarget;
  readonly replicas: readonly MysqlTarget[];
  readonly replicaLagLimitMs: number;
  readonly probes: readonly MysqlProbe[];
  readonly first: FirstUser;
}

/** How the user of a first version comes about; a later one has what the current one has. */
export interface FirstUser {
  readonly hosts: readonly string[];
  readonly facts: readonly AccountFact[];
  readonly prepare: MysqlRotatorOptions['prepare'];
}

/** @throws RotatorOptionsError */
export function rotatorSetup(defaultName: string, options: MysqlRotatorOptions): MysqlRotatorSetup {
  const name = options.name ?? defaultName;
  if (typeof name !== 'string' || name === '')
    throw new RotatorOptionsError(defaultName, '`name` must be a non-empty string.');
  const target = (connection: MysqlConnection, what: string): MysqlTarget => {
    if (typeof connection !== 'object' || connection === null)
      throw new RotatorOptionsError(name, `\`${what}\` must be a mysql2 configuration.`);
    for (const option of ['user', 'password', 'password1', 'password2', 'password3', 'passwordSha1', 'uri']) {
      if (option in connection) {
        throw new RotatorOptionsError(
          name,
          `\`${what}.${option}\` must not be given: this connection logs in as several users. State host, port and database.`,
        );
      }
    }
    return new MysqlTarget(connection);
  };
  const replicaLagLimitMs = options.replicaLagLimitMs ?? 10_000;
  if (!Number.isFinite(replicaLagLimitMs) || replicaLagLimitMs < 0) {
    throw new RotatorOptionsError(name, '`replicaLagLimitMs` must be a number of milliseconds, 0 or more.');
  }
  const hosts = options.hosts ?? ['%'];
  if (!Array.isArray(hosts) || hosts.length === 0 || hosts.some((host) => !isHost(host))) {
    throw new RotatorOptionsError(
      name,
      '`hosts` must be a list of hosts, addresses or patterns of 1 to 255 characters.',
    );
  }
  return {
    name,
    primary: target(options.connection, 'connection'),
    replicas: (options.replicas ?? []).map((replica, index) => target(replica, `replicas[${index}]`)),
    replicaLagLimitMs,
    probes: options.probes ?? [],
    first: {
      hosts: [...new Set(hosts)],
      facts:
        options.prepare === undefined && options.connection.database !== undefined
          ? [databaseFact(databasePattern(options.connection.database))]
          : [],
      prepare: options.prepare,
    },
  };
}

/** @throws RotatorOptionsError when a first user would be able to do nothing. */
export function checkFirstUser({ name, first }: MysqlRotatorSetup): void {
  if (first.prepare !== undefined || first.facts.length > 0) return;
  throw new RotatorOptionsError(
    name,
    'the first version needs `connection.database`, of which its user gets ALL PRIVILEGES, or `prepare`, to grant something else.',
  );
}

function isHost(host: unknown): boolean {
  return typeof host === 'string' && host !== '' && host.length <= 255 && !host.includes('\0');
}

/** MariaDB's limit. MySQL's is 32, which only shows when the server has said what it is. */
const LONGEST_USER = 80;

/** What is left of MySQL's 32 characters beside `_rehearsal`, so that one name fits both. */
const REHEARSED_LENGTH = 22;

/** The throw-away user of a rehearsal. */
export function rehearsalUser(base: string): string {
  return `${[...base].slice(0, REHEARSED_LENGTH).join('')}_rehearsal`;
}

/** @throws RotatorOptionsError */
export function checkUserName(rotator: string, option: string, user: unknown): void {
  // Names are stored in the Basic Multilingual Plane, and compared without trailing spaces.
  if (
    typeof user !== 'string' ||
    user.trim() === '' ||
    user !== user.trimEnd() ||
    user.length > LONGEST_USER ||
    /[\0\uD800-\uDFFF]/.test(user)
  ) {
    throw new RotatorOptionsError(
      rotator,
      `\`${option}\` must give user names of 1 to ${LONGEST_USER} characters (on MySQL 32), none above U+FFFF, and no space at the end.`,
    );
  }
}

/** @throws RotatorOptionsError when what the secret or the function gave is no log-in. */
export async function adminCredentials(rotator: string, admin: MysqlAdmin): Promise<DatabaseCredentials> {
  const given = typeof admin === 'function' ? await admin() : 'value' in admin ? admin.value : admin;
  if (typeof given?.username !== 'string' || given.username === '' || typeof given.password !== 'string') {
    throw new RotatorOptionsError(rotator, '`admin` must give a `username` and a `password`.');
  }
  return given;
}
