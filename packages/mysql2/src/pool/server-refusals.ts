/*
 * Told by number: mysql2 names some of MariaDB's after other errors of MySQL.
 * https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html, https://mariadb.com/kb/en/mariadb-error-code-reference/
 */

/** The server does not let the user in: not with this password, or not at all. */
const REFUSED_LOG_INS = new Set([
  1045, // ER_ACCESS_DENIED_ERROR
  1698, // ER_ACCESS_DENIED_NO_PASSWORD_ERROR
  1862, // ER_MUST_CHANGE_PASSWORD_LOGIN
  3118, // ER_ACCOUNT_HAS_BEEN_LOCKED, MySQL
  3955, // ER_USER_ACCESS_DENIED_FOR_USER_ACCOUNT_BLOCKED_BY_PASSWORD_LOCK, MySQL
  4150, // ER_USER_IS_BLOCKED, MariaDB
  4151, // ER_ACCOUNT_HAS_BEEN_LOCKED, MariaDB
]);

/** The user is in, but may not do this. */
const DENIED = new Set([
  1044, // ER_DBACCESS_DENIED_ERROR
  1142, // ER_TABLEACCESS_DENIED_ERROR
  1143, // ER_COLUMNACCESS_DENIED_ERROR
  1227, // ER_SPECIFIC_ACCESS_DENIED_ERROR
  1370, // ER_PROCACCESS_DENIED_ERROR
  1820, // ER_MUST_CHANGE_PASSWORD
]);

export interface Refusal {
  readonly kind: 'authentication' | 'permission';
  /** The server's error number. */
  readonly code: string;
}

/**
 * Why the server turned a log-in down for the credentials it was tried with; undefined when it is away, full or without the database.
 * To be barred from the database is a refusal as well, since another user may not be.
 */
export function refusedLogIn(error: unknown): Refusal | undefined {
  const number = errorNumber(error);
  if (REFUSED_LOG_INS.has(number)) return { kind: 'authentication', code: String(number) };
  return deniedStatement(error);
}

/** Which privilege error a statement failed with; undefined for any other error. */
export function deniedStatement(error: unknown): Refusal | undefined {
  const number = errorNumber(error);
  return DENIED.has(number) ? { kind: 'permission', code: String(number) } : undefined;
}

function errorNumber(error: unknown): number {
  return error instanceof Error && 'errno' in error ? Number(error.errno) : Number.NaN;
}
