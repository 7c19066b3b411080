import type { DatabaseCredentials } from '@nestjs-secrets/core';
import { differenceOf, statementsFor } from './account-facts.js';
import { PLAIN_TRAITS, traitClauses, traitDifferences } from './account-traits.js';
import { MysqlTargetError } from './mysql-target-errors.js';
import type { StepHold, TargetSession } from './mysql-target.js';
import type { FirstUser } from './rotator-options.js';
import type { ServerDialect } from './server-dialect.js';
import { accountName } from './sql-quoting.js';
import { checkOnePassword, checkSuitable, onExistingTables, readUser, type AccountProfile } from './user-profile.js';

export interface UserToEquip {
  readonly pending: DatabaseCredentials;
  readonly current: DatabaseCredentials | undefined;
  readonly first: FirstUser;
}

/**
 * Gives a user all that the current one has, account by account, takes what it has beyond, and only then opens its accounts with the
 * password. MySQL commits every one of these statements by itself: done again after a crash, those that are still needed are made.
 */
export async function equipUser(session: TargetSession, hold: StepHold, to: UserToEquip): Promise<void> {
  const { dialect } = session;
  const { username: user, password } = to.pending;
  checkLength(user, dialect);
  const pending = await readUser(session, user);
  const current = await currentUser(session, to.current);
  const models = new Map(current.map((profile) => [profile.account.host, profile]));
  const hosts = current.length === 0 ? to.first.hosts : [...models.keys()];
  const existing = new Map(pending.map((profile) => [profile.account.host, profile]));
  for (const host of hosts) {
    const account = { user, host };
    const have = existing.get(host);
    if (have === undefined) await session.change(dialect.createLocked(account));
    const model = models.get(host);
    const difference = differenceOf(model?.facts ?? to.first.facts, have?.facts ?? []);
    // What somebody granted a first user by hand, or `prepare` did before a crash, stays.
    const wanted = model === undefined ? { ...difference, surplus: [] } : difference;
    for (const statement of statementsFor(account, wanted)) await session.change(statement);
  }
  for (const { account, traits } of pending) {
    if (!hosts.includes(account.host) && !traits.locked) await session.change(dialect.disable(account));
  }
  if (current.length === 0 && to.first.prepare !== undefined) {
    hold.assertHolder();
    await to.first.prepare(
      session.client,
      hosts.map((host) => accountName({ user, host })),
    );
  }
  for (const host of hosts) {
    const traits = (models.get(host) ?? existing.get(host))?.traits ?? PLAIN_TRAITS;
    await session.change(dialect.setPassword({ user, host }, password, [], traitClauses(traits, dialect)));
  }
}

/** One line for each way in which the pending user would serve worse than the current one, or may do more. */
export async function mismatchesOf(
  session: TargetSession,
  pending: DatabaseCredentials,
  current: DatabaseCredentials,
): Promise<string[]> {
  const models = await currentUser(session, current);
  const existing = new Map(
    (await readUser(session, pending.username)).map((profile) => [profile.account.host, profile]),
  );
  const found: string[] = [];
  for (const { account, traits, facts } of models) {
    const own = accountName({ user: pending.username, host: account.host });
    const have = existing.get(account.host);
    existing.delete(account.host);
    if (have === undefined) {
      found.push(`${own} does not exist`);
      continue;
    }
    const { missing, surplus } = differenceOf(facts, have.facts);
    found.push(
      ...missing.map(({ key }) => `${own} lacks ${key}`),
      ...surplus.map(({ key }) => `beyond ${accountName(account)}, ${own} has ${key}`),
      ...traitDifferences(traits, have.traits).map((line) => `${own}: ${line}`),
      ...(have.traits.locked ? [`${own} is locked`] : []),
    );
  }
  const open = [...existing.values()].filter(({ traits }) => !traits.locked);
  return [...found, ...open.map(({ account }) => `${accountName(account)} has no counterpart`)];
}

/** @throws MysqlTargetError `ROLE_UNSUITABLE` */
export function checkLength(user: string, dialect: ServerDialect): void {
  if (user.length <= dialect.longestUser) return;
  throw new MysqlTargetError(
    'ROLE_UNSUITABLE',
    `${dialect.product} takes user names of at most ${dialect.longestUser} characters: ${JSON.stringify(user)} is longer.`,
  );
}

async function currentUser(
  session: TargetSession,
  credentials: DatabaseCredentials | undefined,
): Promise<AccountProfile[]> {
  if (credentials === undefined) return [];
  const profiles = await readUser(session, credentials.username);
  checkSuitable(session, profiles);
  if (session.dialect.product === 'MariaDB') checkOnePassword(profiles, credentials);
  return onExistingTables(session, profiles);
}
