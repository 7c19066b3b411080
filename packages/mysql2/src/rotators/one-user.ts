import { RotatorOptionsError, type CreateContext, type DatabaseCredentials } from '@nestjs-secrets/core';
import { MysqlTargetError } from './mysql-target-errors.js';
import type { TargetSession } from './mysql-target.js';
import { checkFirstUser, type MysqlRotatorSetup } from './rotator-options.js';
import { accountName } from './sql-quoting.js';
import { checkNative, readUser, type AccountProfile } from './user-profile.js';

/** The next value of a strategy in which the user stays and the password changes. */
export function nextPassword(
  setup: MysqlRotatorSetup,
  context: CreateContext<DatabaseCredentials>,
  options: { readonly username?: string; readonly admin?: unknown },
): DatabaseCredentials {
  const current = context.current?.value.username;
  const username = options.username ?? current;
  if (username === undefined) throw new RotatorOptionsError(setup.name, '`username` is needed for the first version.');
  if (current === undefined && options.admin === undefined) {
    throw new RotatorOptionsError(setup.name, '`admin` is needed for the first version: a user cannot create itself.');
  }
  if (current !== undefined && current !== username) {
    throw new RotatorOptionsError(
      setup.name,
      `\`username\` is ${JSON.stringify(username)}, but the current version belongs to ${JSON.stringify(current)}. Put a version with the other user first, or change the option.`,
    );
  }
  if (current === undefined) checkFirstUser(setup);
  return { username, password: context.randomPassword({ excludePunctuation: true }) };
}

/** What the change of a password starts from: every account of the user, each with a password to be replaced. */
export async function accountsToChange(
  session: TargetSession,
  label: string,
  user: string,
): Promise<readonly AccountProfile[]> {
  const found = await readUser(session, user);
  if (found.length === 0) {
    throw new MysqlTargetError(
      'TARGET_FAILED',
      `Server ${label} has no user ${JSON.stringify(user)}, which the current version belongs to. Create it, or put a version of one that is there.`,
    );
  }
  for (const { account, traits } of found) checkNative(session, accountName(account), traits);
  return found;
}
