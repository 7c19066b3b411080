import { SecretsError } from '@nestjs-secrets/core';

/** The number under which a statement that comes too late is refused, outside the server's own. */
export const TOO_LATE = 45_045;

export type MysqlTargetErrorCode =
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
 * What a MySQL or MariaDB rotator throws when the server does not do what a step needs. Carries the server's error number where there is
 * one, and never the SQL that failed, since that holds password hashes.
 *
 * `TARGET_UNREACHABLE`: no answer, or none that decides anything; the step can be tried again.
 * `TARGET_REFUSED`: the log-in of the administrator, or of the credential a step relies on, was refused.
 * `TARGET_DENIED`: logged in, but without the privilege. `TARGET_FAILED`: any other error of the server.
 */
export class MysqlTargetError extends SecretsError {
  /** The number of the server's error message reference, such as 1045; undefined when no server answered. */
  readonly errno: number | undefined;

  constructor(code: MysqlTargetErrorCode, message: string, errno?: number) {
    super(code, message);
    this.errno = errno;
  }
}

/** `ROLE_MISMATCH`: the new user does not have what the current one has. */
export class UserMismatchError extends MysqlTargetError {
  /** One line a difference. */
  readonly differences: readonly string[];

  constructor(user: string, differences: readonly string[]) {
    const shown = differences.slice(0, 20).join('; ');
    const more = differences.length > 20 ? `; and ${differences.length - 20} more` : '';
    super('ROLE_MISMATCH', `User ${JSON.stringify(user)} is not fit to take over: ${shown}${more}.`);
    this.differences = differences;
  }
}

interface ServerError {
  readonly errno: number;
  readonly sqlMessage: string;
}

// The server's own numbers; the driver's and the operating system's errors are negative or have no sqlMessage.
function isServerError(error: unknown): error is ServerError {
  const { errno, sqlMessage } = shapeOf(error);
  return typeof errno === 'number' && errno >= 1000 && typeof sqlMessage === 'string';
}

function shapeOf(error: unknown): {
  readonly errno?: unknown;
  readonly sqlMessage?: unknown;
  readonly code?: unknown;
  readonly message?: unknown;
} {
  return typeof error === 'object' && error !== null ? error : {};
}

// ER_ACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR, account locked in MySQL and in MariaDB. Only these prove anything about a
// credential, and only as the answer to a log-in: a view whose definer was dropped answers 1045 to a query.
const REFUSALS = new Set([1045, 1698, 3118, 4151]);

// Privileges missing, for a database, table, column, routine, statement, CREATE USER by GRANT, KILL and a role's grant.
const DENIALS = new Set([1044, 1045, 1095, 1142, 1143, 1227, 1370, 1410, 1959]);

// Too many connections or of one user, shutdown, broken connections, lock wait, deadlock, a blocked host, too many failed log-ins.
const PASSING = new Set([
  1040,
  1053,
  1077,
  1079,
  1129,
  1152,
  1158,
  1159,
  1160,
  1161,
  1203,
  1205,
  1213,
  1226,
  1317,
  1927,
  3032,
  3955,
  4031,
  4150,
  TOO_LATE,
]);

// Parse errors quote the statement.
const QUOTING = new Set([1064, 1149]);

/** What the caller of a step is told: the server's own words, but neither the statement nor its values. */
export function targetError(
  error: unknown,
  target: string,
  doing: string,
  during: 'log-in' | 'statement',
): MysqlTargetError {
  if (!isServerError(error)) {
    const { code, message } = shapeOf(error);
    // A refused connection to several addresses at once has a code, but no message.
    const words =
      [code, message].filter((word) => typeof word === 'string' && word !== '').join(': ') || 'no connection';
    return new MysqlTargetError(
      'TARGET_UNREACHABLE',
      `Server ${target} did not answer (${words}) while ${doing}. Check that it runs and can be reached; the step is done again.`,
    );
  }
  const { errno, sqlMessage } = error;
  const words = QUOTING.has(errno) ? 'it did not understand a statement' : sqlMessage.replace(/\.$/, '');
  const said = `Server ${target}, ${doing}: ${words} (error ${errno})`;
  if (during === 'log-in' && REFUSALS.has(errno))
    return new MysqlTargetError(
      'TARGET_REFUSED',
      `${said}. Check these credentials, and the host the account is for.`,
      errno,
    );
  if (during === 'log-in' && errno === 1044)
    return new MysqlTargetError('TARGET_DENIED', `${said}. Grant the user something in that database.`, errno);
  if (DENIALS.has(errno)) {
    return new MysqlTargetError(
      'TARGET_DENIED',
      `${said}. The administrator needs CREATE USER, PROCESS, CONNECTION ADMIN (CONNECTION_ADMIN), SELECT on the mysql database, and what the application has WITH GRANT OPTION.`,
      errno,
    );
  }
  return new MysqlTargetError(PASSING.has(errno) ? 'TARGET_UNREACHABLE' : 'TARGET_FAILED', `${said}.`, errno);
}
