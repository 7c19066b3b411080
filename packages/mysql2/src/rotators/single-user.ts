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
import { firstThatLogsIn, proveUsable } from './new-credential.js';
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
import { isNative } from './server-dialect.js';
import { lastOldSession, markSessions } from './session-marks.js';
import { checkNative, hasPassword, readOwnTraits, type AccountProfile } from './user-profile.js';

export interface MysqlSingleUserOptions extends MysqlRotatorOptions {
  /** The user whose password changes; that of the current version by default. Needed for the first version. */
  readonly username?: string;
  /**
   * Needs CREATE USER, SELECT on the `mysql` database, and for the retirement of a whole user PROCESS and CONNECTION ADMIN. Without one the user
   * changes its own password, of the account it logs in as from here, and cannot be created, nor let in again when neither stored password works.
   */
  readonly admin?: MysqlAdmin;
}

/**
 * `mysql/single-user`: one user, whose password changes, on all its accounts. Between apply and promote a new connection with the current
 * password is refused, so clients must try the pending one next, as the live pools do. Open sessions survive a change of password; retiring
 * ends those that began before it.
 *
 * MariaDB 10.4.2 and later, MySQL 8.0 and later. @throws RotatorOptionsError; its steps throw `MysqlTargetError`.
 */
export function mysqlSingleUser(options: MysqlSingleUserOptions): MysqlRotator {
  return new SingleUser(options);
}

class SingleUser implements MysqlRotator {
  readonly strategy = 'single-user';
  readonly name: string;
  private readonly setup: MysqlRotatorSetup;

  constructor(private readonly options: MysqlSingleUserOptions) {
    this.setup = rotatorSetup('mysql/single-user', options);
    this.name = this.setup.name;
    if (options.username !== undefined) checkUserName(this.name, 'username', options.username);
  }

  create(context: CreateContext<DatabaseCredentials>): DatabaseCredentials {
    return nextPassword(this.setup, context, this.options);
  }

  identityOf(value: DatabaseCredentials): string {
    return value.username;
  }

  /** @throws RotatorOptionsError without `admin`: nobody else can make a throw-away user. */
  rehearsal(): MysqlRotator {
    const { admin, username } = this.options;
    if (admin === undefined)
      throw new RotatorOptionsError(this.name, '`admin` is needed for a rehearsal, which makes a user of its own.');
    const { username: _real, ...options } = this.options;
    return new Rehearsal({
      rotator: new SingleUser(options),
      setup: this.setup,
      admin,
      userFor: (current) => rehearsalUser(username ?? current ?? 'nestjs_secrets'),
    });
  }

  async apply(context: PendingContext<DatabaseCredentials>): Promise<void> {
    const pending = context.pending.value;
    const { primary } = this.setup;
    // The note is stored before the password is touched: without it, nobody has tried yet and the pending value cannot be valid.
    const triedBefore = typeof context.notes['alteredAfter'] === 'number';
    const accepted = triedBefore && (await primary.logsIn(pending, 'looking for the new credential', context));
    if (accepted && this.options.admin === undefined) {
      await primary.session(pending, 'noting the sessions', context, (session) => this.noteChanged(context, session));
      return;
    }
    await this.asWhoMayAlter(context, [context.current?.value, pending], async (session, asAdmin) => {
      const changes = context.current === undefined ? [] : await this.changesTo(session, asAdmin, pending, accepted);
      if (changes.length === 0 && context.current !== undefined) return this.noteChanged(context, session);
      const before = await markSessions(session);
      await context.record({ alteredAfter: before.lastSession, serverStart: before.serverStart });
      if (context.current === undefined)
        await equipUser(session, context, { pending, current: undefined, first: this.setup.first });
      for (const statement of changes) await session.change(statement);
      // One with the new password follows a refusal, and so connects after this.
      await context.record({ alteredAt: (await markSessions(session)).lastSession });
    });
  }

  async verify(context: PendingContext<DatabaseCredentials>): Promise<void> {
    await proveUsable(this.setup, context.pending.value, context);
  }

  async undo(context: PendingContext<DatabaseCredentials>): Promise<void> {
    if (typeof context.notes['alteredAfter'] !== 'number') return;
    const { primary } = this.setup;
    const pending = context.pending.value;
    const current = context.current?.value;
    if (current === undefined) {
      await this.asWhoMayAlter(context, [], (session) => putToRest(primary, session, pending, context));
      return;
    }
    const accepted = await primary.logsIn(current, 'looking for the current credential', context);
    if (!accepted || this.options.admin !== undefined) {
      await this.asWhoMayAlter(context, [pending, current], async (session, asAdmin) => {
        const changes = await this.changesTo(session, asAdmin, current, accepted);
        for (const statement of changes) await session.change(statement);
      });
    }
    // Sessions opened with the pending value belong to the same user and the same application, which drains them itself.
    if (await primary.logsIn(pending, 'checking that the new credential is refused again', context))
      throw alive(primary, pending);
  }

  async retire(context: RetireContext<DatabaseCredentials>): Promise<RetireReport> {
    const { primary } = this.setup;
    const current = context.current.value;
    const old = context.retiring.value;
    // After a version for another user was put by hand, the old user goes as a whole.
    if (old.username !== current.username)
      return this.asWhoMayAlter(context, [], (session) => putToRest(primary, session, old, context));
    if (old.password === current.password) throw alive(primary, old);
    // As the user itself, whoever changed it: everybody sees and may end sessions of their own.
    return primary.session(current, 'ending sessions of the old password', context, async (session) => {
      const upTo = await lastOldSession(session, context.notes, ['alteredAt', 'alteredAfter']);
      return proveDead({ target: primary, session, old, sessions: { user: old.username, upTo }, hold: context });
    });
  }

  /**
   * The password was changed by somebody who did not live to say when, so it counts as changed now. Sessions of the new password that began
   * before now are those of stand-ins, which consumers replace once the version is current.
   */
  private async noteChanged(context: PendingContext<DatabaseCredentials>, session: TargetSession): Promise<void> {
    if (context.notes['alteredAt'] !== undefined) return;
    const { lastSession, serverStart } = await markSessions(session);
    await context.record({ alteredAt: lastSession, serverStart });
  }

  /** The statements that are still needed for this password, and no other, to open every account of the user. */
  private async changesTo(
    session: TargetSession,
    asAdmin: boolean,
    { username, password }: DatabaseCredentials,
    accepted: boolean,
  ): Promise<string[]> {
    const { dialect } = session;
    if (!asAdmin) {
      const traits = await readOwnTraits(session);
      checkNative(session, JSON.stringify(username), traits);
      if (dialect.product === 'MariaDB' && traits.authentication.length !== 1) {
        throw new MysqlTargetError(
          'ROLE_UNSUITABLE',
          `${JSON.stringify(username)} logs in in ${traits.authentication.length} ways, of which it can change only the first. Pass an \`admin\` to ${this.name}.`,
        );
      }
      return [dialect.setOwnPassword(password)];
    }
    // MySQL salts its hashes: only a log-in tells.
    if (dialect.product === 'MySQL' && accepted) return [];
    const accounts = await accountsToChange(session, this.setup.primary.label, username);
    return accounts
      .filter((account) => dialect.product === 'MySQL' || !opensWithOnly(account, password))
      .map(({ account, traits }) => {
        const others = traits.authentication.filter((way) => !isNative(way));
        return dialect.setPassword(account, password, others, '');
      });
  }

  /** A session of the administrator, or of the user itself with whichever of its own values is accepted. */
  private async asWhoMayAlter<R>(
    context: RotationContext<DatabaseCredentials>,
    own: readonly (DatabaseCredentials | undefined)[],
    work: (session: TargetSession, asAdmin: boolean) => Promise<R>,
  ): Promise<R> {
    const { primary } = this.setup;
    const doing = 'changing a password';
    if (this.options.admin !== undefined) {
      const admin = await adminCredentials(this.name, this.options.admin);
      return primary.session(admin, doing, context, (session) => work(session, true));
    }
    return firstThatLogsIn(
      own.filter((credentials) => credentials !== undefined),
      (credentials) => primary.session(credentials, doing, context, (session) => work(session, false)),
      new MysqlTargetError(
        'TARGET_REFUSED',
        `Server ${primary.label} accepts no stored value of ${context.secretName} that could change this user. Pass an \`admin\` to ${this.name}, or put a version with the right password.`,
      ),
    );
  }
}

function opensWithOnly(profile: AccountProfile, password: string): boolean {
  const passwords = profile.traits.authentication.filter(isNative);
  return passwords.length === 1 && hasPassword(profile, password);
}
