import { SecretsError } from '@nestjs-secrets/core';

export type PostgresTargetErrorCode =
  | 'TARGET_UNREACHABLE'
  | 'TARGET_REFUSED'
  | 'TARGET_DENIED'
  | 'TARGET_FAILED'
  | 'ROLE_MISMATCH'
  | 'ROLE_UNSUITABLE'
  | 'NO_FREE_IDENTITY'
  | 'OLD_CREDENTIAL_ALIVE'
  | 'SESSIONS_LEFT';

/**
 * What a PostgreSQL rotator throws when the server does not do what a step needs. Carries the server's SQLSTATE where there is one, and
 * never the SQL that failed, since that holds password verifiers.
 *
 * `TARGET_UNREACHABLE`: no answer, or none that decides anything; the step can be tried again.
 * `TARGET_REFUSED`: the log-in of the administrator, or of the credential a step relies on, was refused.
 * `TARGET_DENIED`: logged in, but without the privilege (SQLSTATE 42501). `TARGET_FAILED`: any other error of the server.
 */
export class PostgresTargetError extends SecretsError {
  /** The five characters of PostgreSQL's appendix A; undefined when no server answered. */
  readonly sqlState: string | undefined;

  constructor(code: PostgresTargetErrorCode, message: string, sqlState?: string) {
    super(code, message);
    this.sqlState = sqlState;
  }
}

/** `ROLE_MISMATCH`: the new role does not have what the current one has. */
export class RoleMismatchError extends PostgresTargetError {
  /** One line a difference. */
  readonly differences: readonly string[];

  constructor(role: string, differences: readonly string[]) {
    const shown = differences.slice(0, 20).join('; ');
    const more = differences.length > 20 ? `; and ${differences.length - 20} more` : '';
    super('ROLE_MISMATCH', `Role ${JSON.stringify(role)} is not fit to take over: ${shown}${more}.`);
    this.differences = differences;
  }
}

/** `ROTATOR_OPTIONS_INVALID` */
export class RotatorOptionsError extends SecretsError {
  constructor(rotator: string, message: string) {
    super('ROTATOR_OPTIONS_INVALID', `${rotator}: ${message}`);
  }
}

interface ServerError extends Error {
  readonly code: string;
}

/** True for what the server said, as against what the network or the driver did. */
export function isServerError(error: unknown): error is ServerError {
  return (
    error instanceof Error &&
    'severity' in error &&
    'code' in error &&
    typeof error.code === 'string' &&
    /^[0-9A-Z]{5}$/.test(error.code)
  );
}

/**
 * True when the server turned the log-in itself down: 28P01 invalid_password, or 28000 invalid_authorization_specification, which NOLOGIN
 * and pg_hba.conf give. Only these prove anything about a credential.
 */
export function isLogInRefusal(error: unknown): boolean {
  return isServerError(error) && (error.code === '28P01' || error.code === '28000');
}

/** What the caller of a step is told: the server's own words (which quote no values), but neither detail, context nor query. */
export function targetError(error: unknown, target: string, doing: string): PostgresTargetError {
  if (!isServerError(error)) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    const words = error instanceof Error && error.message !== '' ? error.message : 'no connection';
    return new PostgresTargetError(
      'TARGET_UNREACHABLE',
      `PostgreSQL ${target} did not answer (${[code, words].filter(Boolean).join(': ')}) while ${doing}. Check that it runs and can be reached; the step is done again.`,
    );
  }
  const said = `PostgreSQL ${target}, ${doing}: ${error.message} (SQLSTATE ${error.code})`;
  if (isLogInRefusal(error)) return new PostgresTargetError('TARGET_REFUSED', `${said}. Check these credentials and pg_hba.conf.`, error.code);
  if (error.code === '42501') {
    return new PostgresTargetError(
      'TARGET_DENIED',
      `${said}. The administrator needs CREATEROLE, ADMIN OPTION on the roles that rotate, and grant options on what they may use.`,
      error.code,
    );
  }
  // Classes 08 (connection), 53 (resources) and 57P (shutdown, start-up) pass by themselves.
  const passing = /^(08|53|57P)/.test(error.code);
  return new PostgresTargetError(passing ? 'TARGET_UNREACHABLE' : 'TARGET_FAILED', `${said}.`, error.code);
}
