import type { DatabaseCredentials } from '@nestjs-secrets/core';
import { MysqlTargetError } from './mysql-target-errors.js';
import { nativePasswordHash } from './native-password.js';
import { identifiedVia, isNative, type Authentication, type ServerDialect } from './server-dialect.js';
import { accountName, literal } from './sql-quoting.js';
import type { AccountProfile } from './user-profile.js';

/** What is to become of the passwords of a user. In the end the current one is valid, whatever was before. */
export type PasswordChange =
  | { readonly kind: 'add'; readonly current: DatabaseCredentials; readonly added: DatabaseCredentials }
  | { readonly kind: 'undo' | 'retire'; readonly current: DatabaseCredentials; readonly removed: DatabaseCredentials };

/** @throws MysqlTargetError `ROLE_UNSUITABLE` */
export function checkTwoPasswords(dialect: ServerDialect, rotator: string, label: string): void {
  if (dialect.holdsTwoPasswords) return;
  throw new MysqlTargetError(
    'ROLE_UNSUITABLE',
    `${dialect.product} ${dialect.version} at ${label} cannot hold two passwords of one user, as ${rotator} needs: MariaDB 10.4.2 and MySQL 8.0.14 can. Use mysqlAlternatingUsers or mysqlSingleUser.`,
  );
}

/**
 * The statements that are still needed. `opens` tells whether a password is valid, which MySQL's salted hashes do not.
 * @throws MysqlTargetError `NO_FREE_IDENTITY` on MySQL, which holds two and no more, while an older one is not retired yet.
 */
export async function secondPasswordStatements(
  dialect: ServerDialect,
  accounts: readonly AccountProfile[],
  change: PasswordChange,
  opens: (credentials: DatabaseCredentials) => Promise<boolean>,
): Promise<string[]> {
  if (dialect.product === 'MySQL') return mysqlStatements(accounts, change, opens);
  return accounts.flatMap(({ account, traits }) => {
    const before = traits.authentication;
    const after = waysAfter(before, change);
    return JSON.stringify(before) === JSON.stringify(after)
      ? []
      : [`ALTER USER ${accountName(account)} ${identifiedVia(after)}`];
  });
}

/** MariaDB: any number of passwords, side by side with other ways of authentication. */
function waysAfter(before: readonly Authentication[], change: PasswordChange): Authentication[] {
  const way = ({ password }: DatabaseCredentials): Authentication => ({
    plugin: 'mysql_native_password',
    hash: nativePasswordHash(password),
  });
  const includes = (ways: readonly Authentication[], { hash }: Authentication): boolean =>
    ways.some((other) => isNative(other) && other.hash === hash);
  const kept = change.kind === 'add' ? [...before] : before.filter((other) => !includes([other], way(change.removed)));
  for (const needed of change.kind === 'add' ? [change.current, change.added] : [change.current])
    if (!includes(kept, way(needed))) kept.push(way(needed));
  return kept;
}

/** MySQL: a current password and a retained one. https://dev.mysql.com/doc/refman/8.0/en/password-management.html#dual-passwords */
async function mysqlStatements(
  accounts: readonly AccountProfile[],
  change: PasswordChange,
  opens: (credentials: DatabaseCredentials) => Promise<boolean>,
): Promise<string[]> {
  const forEach = (tail: string): string[] =>
    accounts.map(({ account }) => `ALTER USER ${accountName(account)} ${tail}`);
  const identified = ({ password }: DatabaseCredentials): string => `IDENTIFIED BY ${literal(password)}`;
  if (change.kind === 'add') {
    if (await opens(change.added)) return [];
    if (accounts.some(({ retainsPassword }) => retainsPassword)) {
      throw new MysqlTargetError(
        'NO_FREE_IDENTITY',
        `The user ${JSON.stringify(change.current.username)} still holds an older password, and MySQL holds no third. Wait until it is retired.`,
      );
    }
    return forEach(`${identified(change.added)} RETAIN CURRENT PASSWORD`);
  }
  if (!(await opens(change.removed))) return [];
  // The new password has become the first one: the current one is made so again, before the retained copy of it goes.
  const restored = change.kind === 'undo' ? forEach(identified(change.current)) : [];
  return [...restored, ...forEach('DISCARD OLD PASSWORD')];
}
