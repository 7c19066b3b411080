import { MysqlTargetError, TOO_LATE } from './mysql-target-errors.js';
import { nativePasswordHash, NO_PASSWORD } from './native-password.js';
import { accountName, literal, type Account } from './sql-quoting.js';

/** One way an account lets itself in, as `SHOW CREATE USER` tells it. */
export interface Authentication {
  readonly plugin: string;
  /** The hash or the plugin's parameter; undefined where there is none. */
  readonly hash: string | undefined;
}

/**
 * What MariaDB and MySQL say differently. Statements only: nothing here talks to a server, so that what would be sent to either can be
 * looked at in tests.
 */
export interface ServerDialect {
  readonly product: 'MariaDB' | 'MySQL';
  readonly version: string;
  /** How many characters a user's name may have. */
  readonly longestUser: number;
  readonly limits: readonly string[];
  /** Whether an account can hold two passwords at once. */
  readonly holdsTwoPasswords: boolean;
  /** Makes the account, locked. */
  createLocked(account: Account): string;
  /** Gives the account this password and no other, keeping what it lets itself in by besides passwords. `options` follow. */
  setPassword(account: Account, password: string, others: readonly Authentication[], options: string): string;
  /** An account's change of its own password, for which it needs no privilege. */
  setOwnPassword(password: string): string;
  /** The statement, to be refused by the server where it can when its clock is past `latest`, in seconds since the epoch. */
  inTime(statement: string, latest: number): string;
  /** Makes the account refuse every log-in. */
  disable(account: Account): string;
}

/** @throws MysqlTargetError `TARGET_FAILED` for a server too old to lock accounts. */
export function dialectOf(version: string, label: string): ServerDialect {
  const [major = 0, minor = 0, patch = 0] = (/\d+(?:\.\d+)*/.exec(version)?.[0] ?? '').split('.').map(Number);
  const number = major * 10_000 + minor * 100 + patch;
  if (/mariadb/i.test(version)) {
    if (number >= 100_402) return mariadb(version);
  } else if (number >= 80_000) {
    return mysql(version, number);
  }
  throw new MysqlTargetError(
    'TARGET_FAILED',
    `Server ${label} is version ${version}: these rotators need MariaDB 10.4.2 or MySQL 8.0, or later.`,
  );
}

const NATIVE = 'mysql_native_password';

/** The hash where an account lets itself in by a password that these rotators can set and recognise. */
export function isNative({ plugin }: Authentication): boolean {
  return plugin.toLowerCase() === NATIVE;
}

function mariadb(version: string): ServerDialect {
  return {
    product: 'MariaDB',
    version,
    longestUser: 80,
    limits: [
      'MAX_QUERIES_PER_HOUR',
      'MAX_UPDATES_PER_HOUR',
      'MAX_CONNECTIONS_PER_HOUR',
      'MAX_USER_CONNECTIONS',
      'MAX_STATEMENT_TIME',
    ],
    holdsTwoPasswords: true,
    createLocked: (account) =>
      `CREATE USER ${accountName(account)} ${identifiedVia([{ plugin: NATIVE, hash: NO_PASSWORD }])} ACCOUNT LOCK`,
    setPassword: (account, password, others, options) =>
      `ALTER USER ${accountName(account)} ${identifiedVia([...others, { plugin: NATIVE, hash: nativePasswordHash(password) }])}${options}`,
    setOwnPassword: (password) => `SET PASSWORD = ${literal(nativePasswordHash(password))}`,
    inTime: (statement, latest) =>
      `BEGIN NOT ATOMIC IF UNIX_TIMESTAMP() > ${latest} THEN SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = ${TOO_LATE}, MESSAGE_TEXT = 'sent too long ago to take effect'; END IF; ${statement}; END`,
    disable: (account) =>
      `ALTER USER ${accountName(account)} ${identifiedVia([{ plugin: NATIVE, hash: NO_PASSWORD }])} ACCOUNT LOCK`,
  };
}

/** `IDENTIFIED VIA … OR …`: MariaDB 10.4 and later. */
export function identifiedVia(ways: readonly Authentication[]): string {
  const written = ways.map(({ plugin, hash }) => `${plugin}${hash === undefined ? '' : ` USING ${literal(hash)}`}`);
  return `IDENTIFIED VIA ${written.join(' OR ')}`;
}

function mysql(version: string, number: number): ServerDialect {
  return {
    product: 'MySQL',
    version,
    longestUser: 32,
    limits: ['MAX_QUERIES_PER_HOUR', 'MAX_UPDATES_PER_HOUR', 'MAX_CONNECTIONS_PER_HOUR', 'MAX_USER_CONNECTIONS'],
    holdsTwoPasswords: number >= 80_014,
    createLocked: (account) => `CREATE USER ${accountName(account)} ACCOUNT LOCK`,
    // The server blots the password out of its own logs (MySQL manual, 8.1.2.3 Passwords and Logging).
    setPassword: (account, password, _others, options) =>
      `ALTER USER ${accountName(account)} IDENTIFIED BY ${literal(password)}${options}`,
    setOwnPassword: (password) => `ALTER USER USER() IDENTIFIED BY ${literal(password)}`,
    // MySQL has compound statements in stored programs only.
    inTime: (statement) => statement,
    disable: (account) => `ALTER USER ${accountName(account)} ACCOUNT LOCK`,
  };
}
