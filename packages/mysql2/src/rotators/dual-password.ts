import {
  RotatorOptionsError,
  type CreateContext,
  type DatabaseCredentials,
  type PendingContext,
  type RetireContext,
  type RetireReport,
  type RotationContext,
} from '@nestjs-secrets/core';
import { equipUser } from './equip-user.js';
import { MysqlTargetError } from './mysql-target-errors.js';
import type { TargetSession } from './mysql-target.js';
import { proveUsable } from './new-credential.js';
import { alive, proveDead, putToRest } from './old-credential.js';
import { accountsToChange, nextPassword } from './one-user.js';
import { Rehearsal } from './rehearsal.js';
import {
  adminCredentials,
  checkUserName,
  rehearsalUser,
  rotatorSetup,
  type MysqlAdmin,
  type MysqlRotator,
  type MysqlRotatorOptions,
  type MysqlRotatorSetup,
} from './rotator-options.js';
import { lastOldSession, markSessions } from './session-marks.js';
import { checkTwoPasswords, secondPasswordStatements, type PasswordChange } from './two-passwords.js';

export interface MysqlDualPasswordOptions extends MysqlRotatorOptions {
  /** Needs CREATE USER and SELECT on the `mysql` database, and for the retirement of a whole user PROCESS and CONNECTION ADMIN. */
  readonly admin: MysqlAdmin;
  /** The user that holds two passwords; that of the current version by default. Needed for the first version. */
  readonly username?: string;
}

/**
 * `mysql/dual-password`: one user, which holds the old and the new password until the old one is retired, so that no log-in is ever refused.
 * MariaDB holds them as two ways of authentication, MySQL (8.0.14 and later) as a current and a retained password; which of the two it is, the
 * server tells.
 *
 * Retiring ends the sessions that began before the new password was promoted; whoever logged in with the old one after that, in the moments
 * until the promotion was heard of, cannot be told from the others, and is left to its pool to drain.
 *
 * @throws RotatorOptionsError; its steps throw `MysqlTargetError`, `ROLE_UNSUITABLE` where the server cannot hold two passwords.
 */
export function mysqlDualPassword(options: MysqlDualPasswordOptions): MysqlRotator {
  return new DualPassword(options);
}

class DualPassword implements MysqlRotator {
  readonly strategy = 'dual-password';
  readonly name: string;
  private readonly setup: MysqlRotatorSetup;

  constructor(private readonly options: MysqlDualPasswordOptions) {
    this.setup = rotatorSetup('mysql/dual-password', options);
    this.name = this.setup.name;
    if (options.admin === undefined)
      throw new RotatorOptionsError(this.name, '`admin` is missing: a user cannot give itself a second password.');
    if (options.username !== undefined) checkUserName(this.name, 'username', options.username);
  }

  create(context: CreateContext<DatabaseCredentials>): DatabaseCredentials {
    return nextPassword(this.setup, context, this.options);
  }

  identityOf(value: DatabaseCredentials): string {
    return value.username;
  }

  rehearsal(): MysqlRotator {
    const { username, ...options } = this.options;
    return new Rehearsal({
      rotator: new DualPassword(options),
      setup: this.setup,
      admin: this.options.admin,
      userFor: (current) => rehearsalUser(username ?? current ?? 'nestjs_secrets'),
    });
  }

  async apply(context: PendingContext<DatabaseCredentials>): Promise<void> {
    const pending = context.pending.value;
    const current = context.current?.value;
    await this.asAdmin(context, 'adding a password', async (session) => {
      checkTwoPasswords(session.dialect, this.name, this.setup.primary.label);
      await context.record({ touched: true });
      if (current === undefined) {
        await equipUser(session, context, { pending, current, first: this.setup.first });
      } else {
        await this.change(session, context, pending.username, { kind: 'add', current, added: pending });
      }
    });
  }

  async verify(context: PendingContext<DatabaseCredentials>): Promise<void> {
    const { primary } = this.setup;
    await proveUsable(this.setup, context.pending.value, context);
    const current = context.current?.value;
    if (current === undefined) return;
    if (!(await primary.logsIn(current, 'checking that the current credential still works', context))) {
      throw new MysqlTargetError(
        'TARGET_REFUSED',
        `Server ${primary.label} accepts the new password of user ${JSON.stringify(current.username)}, but no longer the current one. Look for whoever else sets it.`,
      );
    }
    // Nobody has been given the new password yet: what is connected now, is so with an older one.
    await this.asAdmin(context, 'noting the sessions of the current password', async (session) => {
      const { lastSession, serverStart } = await markSessions(session);
      await context.record({ verifiedAt: lastSession, serverStart });
    });
  }

  async undo(context: PendingContext<DatabaseCredentials>): Promise<void> {
    if (context.notes['touched'] !== true) return;
    const { primary } = this.setup;
    const removed = context.pending.value;
    const current = context.current?.value;
    await this.asAdmin(context, 'taking a password back', async (session) => {
      if (current === undefined) {
        await putToRest(primary, session, removed, context);
      } else {
        await this.change(session, context, removed.username, { kind: 'undo', current, removed });
      }
    });
    if (await primary.logsIn(removed, 'checking that the new credential is refused again', context))
      throw alive(primary, removed);
  }

  async retire(context: RetireContext<DatabaseCredentials>): Promise<RetireReport> {
    const { primary } = this.setup;
    const current = context.current.value;
    const old = context.retiring.value;
    if (old.username !== current.username)
      return this.asAdmin(context, `retiring user ${old.username}`, (session) =>
        putToRest(primary, session, old, context),
      );
    if (old.password === current.password) throw alive(primary, old);
    await this.asAdmin(context, 'removing the old password', (session) =>
      this.change(session, context, old.username, { kind: 'retire', current, removed: old }),
    );
    // As the user itself: everybody sees and may end sessions of their own.
    return primary.session(current, 'ending sessions of the old password', context, async (session) => {
      const upTo = await lastOldSession(session, context.notes, ['verifiedAt']);
      return proveDead({ target: primary, session, old, sessions: { user: old.username, upTo }, hold: context });
    });
  }

  private async change(
    session: TargetSession,
    context: RotationContext<DatabaseCredentials>,
    username: string,
    change: PasswordChange,
  ): Promise<void> {
    const { primary } = this.setup;
    const accounts = await accountsToChange(session, primary.label, username);
    const opens = (credentials: DatabaseCredentials): Promise<boolean> =>
      primary.logsIn(credentials, 'looking which passwords are valid', context);
    for (const statement of await secondPasswordStatements(session.dialect, accounts, change, opens))
      await session.change(statement);
  }

  private async asAdmin<R>(
    context: RotationContext<DatabaseCredentials>,
    doing: string,
    work: (session: TargetSession) => Promise<R>,
  ): Promise<R> {
    return this.setup.primary.session(await adminCredentials(this.name, this.options.admin), doing, context, work);
  }
}
