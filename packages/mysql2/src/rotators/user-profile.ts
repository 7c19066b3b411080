import { MysqlTargetError } from './mysql-target-errors.js';
import type { TargetSession } from './mysql-target.js';
import { factsOf, type AccountFact } from './account-facts.js';
import { traitsOf, type AccountTraits } from './account-traits.js';
import { nativePasswordHash } from './native-password.js';
import { isNative } from './server-dialect.js';
import { accountName, literal, type Account } from './sql-quoting.js';
import type { DatabaseCredentials } from '@nestjs-secrets/core';

/** What one account of a user is and has, its own name abstracted away. */
export interface AccountProfile {
  readonly account: Account;
  readonly traits: AccountTraits;
  /** Privileges, roles and default role. */
  readonly facts: readonly AccountFact[];
  /** On MySQL, whether it holds a second password. */
  readonly retainsPassword: boolean;
}

/** All accounts of one user name, whatever host they are for; none where nobody has this name. */
export async function readUser(session: TargetSession, user: string): Promise<AccountProfile[]> {
  const retained =
    session.dialect.product === 'MySQL' ? "JSON_CONTAINS_PATH(User_attributes, 'one', '$.additional_password')" : '0';
  const rows = await session.read<{ user: string; host: string; retained: number | null }>(
    `SELECT User AS user, Host AS host, ${retained} AS retained FROM mysql.user WHERE User = ${literal(user)} AND Host <> '' ORDER BY Host`,
  );
  const profiles: AccountProfile[] = [];
  // The server compares names without trailing spaces.
  for (const { host, retained: retains } of rows.filter((row) => row.user === user)) {
    const account = { user, host };
    const name = accountName(account);
    const traits = traitsOf((await firstColumn(session, `SHOW CREATE USER ${name}`))[0] ?? '');
    const facts = factsOf(account, await firstColumn(session, `SHOW GRANTS FOR ${name}`));
    profiles.push({
      account,
      traits,
      retainsPassword: retains === 1,
      facts: traits.defaultRole === undefined ? facts : [...facts, traits.defaultRole],
    });
  }
  return profiles;
}

/** The account the session itself runs as, without its grants. */
export async function readOwnTraits(session: TargetSession): Promise<AccountTraits> {
  return traitsOf((await firstColumn(session, 'SHOW CREATE USER CURRENT_USER()'))[0] ?? '');
}

/** These profiles without grants on tables that are no longer there, which the server keeps, but lets nobody give. */
export async function onExistingTables(
  session: TargetSession,
  profiles: readonly AccountProfile[],
): Promise<AccountProfile[]> {
  const tables = profiles.flatMap(({ facts }) => facts.flatMap(({ table }) => (table === undefined ? [] : [table])));
  if (tables.length === 0) return [...profiles];
  const schemas = [...new Set(tables.map(({ schema }) => literal(schema)))];
  const rows = await session.read<{ table_schema: string; table_name: string }>(
    `SELECT TABLE_SCHEMA AS table_schema, TABLE_NAME AS table_name FROM information_schema.TABLES WHERE TABLE_SCHEMA IN (${schemas.join(', ')})`,
  );
  const existing = new Set(rows.map((row) => JSON.stringify([row.table_schema, row.table_name])));
  return profiles.map((profile) => ({
    ...profile,
    facts: profile.facts.filter(
      ({ table }) => table === undefined || existing.has(JSON.stringify([table.schema, table.name])),
    ),
  }));
}

/** @throws MysqlTargetError `ROLE_UNSUITABLE` when what the current user is must not, or cannot, be passed on. */
export function checkSuitable(session: TargetSession, current: readonly AccountProfile[]): void {
  const powerful = /^(ALL PRIVILEGES|SUPER|CREATE USER) ON \*\.\*/;
  for (const { account, traits, facts } of current) {
    if (facts.some(({ key }) => powerful.test(key))) {
      throw new MysqlTargetError(
        'ROLE_UNSUITABLE',
        `The current user ${accountName(account)} administers the server, and its powers must not be passed on. Give the application a user of its own: let the secret begin without a value, and pass the administrator as \`admin\`.`,
      );
    }
    checkNative(session, accountName(account), traits);
  }
}

/** @throws MysqlTargetError `ROLE_UNSUITABLE` */
export function checkNative(session: TargetSession, account: string, traits: AccountTraits): void {
  if (session.dialect.product === 'MySQL' || traits.authentication.some(isNative)) return;
  throw new MysqlTargetError(
    'ROLE_UNSUITABLE',
    `${account} logs in by ${traits.authentication.map(({ plugin }) => plugin).join(' or ')}. On MariaDB these rotators set passwords of mysql_native_password only: give the account one first.`,
  );
}

/**
 * One version is one password, and one user name all of its accounts. An account of that name with a password of its own, for another host
 * and another purpose, would be lost.
 * @throws MysqlTargetError `ROLE_UNSUITABLE`
 */
export function checkOnePassword(profiles: readonly AccountProfile[], credentials: DatabaseCredentials): void {
  const others = profiles.filter((profile) => !hasPassword(profile, credentials.password));
  if (others.length === 0 || others.length === profiles.length) return;
  throw new MysqlTargetError(
    'ROLE_UNSUITABLE',
    `${others.map(({ account }) => accountName(account)).join(' and ')} has another password than the other accounts of this name, which rotate as one. Rename it.`,
  );
}

/** Whether the account lets this password in, as far as a mysql_native_password hash tells. */
export function hasPassword({ traits }: AccountProfile, password: string): boolean {
  const hash = nativePasswordHash(password);
  return traits.authentication.some((way) => isNative(way) && way.hash === hash);
}

async function firstColumn(session: TargetSession, statement: string): Promise<string[]> {
  const rows = await session.read<Record<string, unknown>>(statement);
  return rows.map((row) => String(Object.values(row)[0]));
}
