import { SecretsError } from '@nestjs-secrets/core';

export { RotatorOptionsError } from '@nestjs-secrets/core';

export type PostgresTargetErrorCode =
  | 'TARGET_UNREACHABLE'
  | 'TARGET_REFUSED'
  | 'TARGET_DENIED'
  | 'TARGET_FAILED'
  | 'STANDBY_BEHIND'
  | 'ROLE_MISMATCH'
  | 'ROLE_UNSUITABLE'
  | 'NO_FREE_IDENTITY'
  | 'OLD_CREDENTIAL_ALIVE'
  | 'SESSIONS_LEFT'
  | 'LEASE_LOST';

/**
 * What a PostgreSQL rotator throws when the server does not do what a step needs. Carries the server's SQLSTATE where there is one, and
 * never the SQL that failed, since that holds password verifiers.
 *
 * `TARGET_UNREACHABLE`: no answer, or none that decides anything; the step can be tried again.
 * `TARGET_REFUSED`: the log-in of the administrator, or of the credential a step relies on, was refused.
 * `TARGET_DENIED`: logged in, but without the privilege (SQLSTATE 42501). `TARGET_FAILED`: any other error of the server.
 * `STANDBY_BEHIND`: a standby did not replay in time what makes the new credential.
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

interface ServerError {
  readonly code: string;
  readonly message: string;
}

/** True for what the server said, as against what the network or the driver did. Goes by the shape, as pg may be loaded twice. */
export function isServerError(error: unknown): error is ServerError {
  const { severity, code, message } = shapeOf(error);
  return (
    typeof severity === 'string' &&
    typeof message === 'string' &&
    typeof code === 'string' &&
    /^[0-9A-Z]{5}$/.test(code)
  );
}

function shapeOf(error: unknown): { readonly severity?: unknown; readonly code?: unknown; readonly message?: unknown } {
  return typeof error === 'object' && error !== null ? error : {};
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
    const { code, message } = shapeOf(error);
    // A refused connection to several addresses at once has a code, but no message.
    const words =
      [code, message].filter((word) => typeof word === 'string' && word !== '').join(': ') || 'no connection';
    return new PostgresTargetError(
      'TARGET_UNREACHABLE',
      `PostgreSQL ${target} did not answer (${words}) while ${doing}. Check that it runs and can be reached; the step is done again.`,
    );
  }
  const said = `PostgreSQL ${target}, ${doing}: ${error.message} (SQLSTATE ${error.code})`;
  if (isLogInRefusal(error))
    return new PostgresTargetError('TARGET_REFUSED', `${said}. Check these credentials and pg_hba.conf.`, error.code);
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
