import type pg from 'pg';
import type { DatabaseCredentials, Secret } from '@nestjs-secrets/core';
import { RotatorOptionsError } from './postgres-target-errors.js';
import { PostgresTarget, type PostgresConnection } from './postgres-target.js';

/** The server a probe runs on. Only the primary can be written to. */
export type ProbedServer = 'primary' | 'replica';

/** Runs as the new credential before it becomes current, on the primary and on every replica; what it throws stops the rotation. */
export type PostgresProbe = (client: pg.ClientBase, server: ProbedServer) => Promise<void>;

/** Who administers the roles: the credentials, a secret that holds them, or a function that gets them for each step. */
export type PostgresAdmin =
  Secret<DatabaseCredentials> | DatabaseCredentials | (() => DatabaseCredentials | Promise<DatabaseCredentials>);

export interface PostgresRotatorOptions {
  /** What a rotation policy calls this rotator; by default that of the strategy. */
  readonly name?: string;
  /** The primary, and the database whose grants and objects are looked after. Connections are given 5 s and queries 30 s, unless stated here. */
  readonly connection: PostgresConnection;
  /** Standbys on which a new credential must log in, and the probes pass, too before it becomes current. */
  readonly replicas?: readonly PostgresConnection[];
  /** How long standbys may take to replay what makes the new credential, in milliseconds; 10,000 by default. */
  readonly replicaLagLimitMs?: number;
  /** Run with no more time limits than the role's own. */
  readonly probes?: readonly PostgresProbe[];
}

/** The options all rotators share, checked, and what they come to. */
export interface PostgresRotatorSetup {
  readonly name: string;
  readonly primary: PostgresTarget;
  readonly replicas: readonly PostgresTarget[];
  readonly replicaLagLimitMs: number;
  readonly probes: readonly PostgresProbe[];
}

/** @throws RotatorOptionsError */
export function rotatorSetup(defaultName: string, options: PostgresRotatorOptions): PostgresRotatorSetup {
  const name = options.name ?? defaultName;
  if (typeof name !== 'string' || name === '')
    throw new RotatorOptionsError(defaultName, '`name` must be a non-empty string.');
  const target = (connection: PostgresConnection, what: string): PostgresTarget => {
    if (typeof connection !== 'object' || connection === null || !connection.database) {
      throw new RotatorOptionsError(name, `\`${what}\` must be a pg configuration that names a \`database\`.`);
    }
    for (const option of ['user', 'password', 'connectionString']) {
      if (option in connection) {
        throw new RotatorOptionsError(
          name,
          `\`${what}.${option}\` must not be given: this connection logs in as several roles. State host, port and database.`,
        );
      }
    }
    return new PostgresTarget(connection);
  };
  const replicaLagLimitMs = options.replicaLagLimitMs ?? 10_000;
  if (!Number.isFinite(replicaLagLimitMs) || replicaLagLimitMs < 0) {
    throw new RotatorOptionsError(name, '`replicaLagLimitMs` must be a number of milliseconds, 0 or more.');
  }
  return {
    name,
    primary: target(options.connection, 'connection'),
    replicas: (options.replicas ?? []).map((replica, index) => target(replica, `replicas[${index}]`)),
    replicaLagLimitMs,
    probes: options.probes ?? [],
  };
}

/**
 * PostgreSQL cuts longer names short (NAMEDATALEN − 1 = 63 bytes), so that two of them could mean one role.
 * @throws RotatorOptionsError
 */
export function checkRoleName(rotator: string, option: string, role: unknown): void {
  if (typeof role !== 'string' || role === '' || role.includes('\0') || Buffer.byteLength(role) > 63) {
    throw new RotatorOptionsError(rotator, `\`${option}\` must give role names of 1 to 63 bytes.`);
  }
  // PostgreSQL reserves both (CREATE ROLE: "role name is reserved").
  if (role.startsWith('pg_') || role === 'public' || role === 'none') {
    throw new RotatorOptionsError(
      rotator,
      `\`${option}\` gives the role name ${JSON.stringify(role)}, which PostgreSQL reserves.`,
    );
  }
}

/** @throws RotatorOptionsError when what the secret or the function gave is no log-in. */
export async function adminCredentials(rotator: string, admin: PostgresAdmin): Promise<DatabaseCredentials> {
  const given = typeof admin === 'function' ? await admin() : 'value' in admin ? admin.value : admin;
  if (typeof given?.username !== 'string' || given.username === '' || typeof given.password !== 'string') {
    throw new RotatorOptionsError(rotator, '`admin` must give a `username` and a `password`.');
  }
  return given;
}
