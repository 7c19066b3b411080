import {
  RotatorOptionsError,
  type CreateContext,
  type DatabaseCredentials,
  type PendingContext,
  type RetireContext,
  type RetireReport,
  type RotationContext,
} from '@nestjs-secrets/core';
import { equipUser, mismatchesOf } from './equip-user.js';
import { MysqlTargetError, UserMismatchError } from './mysql-target-errors.js';
import { proveUsable } from './new-credential.js';
import { putToRest } from './old-credential.js';
import { Rehearsal } from './rehearsal.js';
import {
  adminCredentials,
  checkFirstUser,
  checkUserName,
  rehearsalUser,
  rotatorSetup,
  type MysqlAdmin,
  type MysqlRotator,
  type MysqlRotatorOptions,
  type MysqlRotatorSetup,
} from './rotator-options.js';

export interface MysqlAlternatingUsersOptions extends MysqlRotatorOptions {
  /**
   * Needs CREATE USER, PROCESS, CONNECTION ADMIN (MySQL: CONNECTION_ADMIN), SELECT on the `mysql` database, and what the application has, WITH
   * GRANT OPTION; roles WITH ADMIN OPTION.
   */
  readonly admin: MysqlAdmin;
  /** The users are `<baseName>_1` … `<baseName>_<users>`. */
  readonly baseName: string;
  /** How many users take turns, 2–50; 2 by default. With N, the interval × (N − 1) must exceed the longest transaction. */
  readonly users?: number;
}

/**
 * `mysql/alternating-users`: a ring of users takes turns, so that old and new credentials are both valid until the old one is retired, and no
 * log-in is ever refused.
 *
 * Each rotation gives the next user all that the current one has at that moment: its hosts, privileges down to columns and routines, roles
 * and default role, resource limits, TLS requirements, password expiry. It takes from it what it has beyond that. A current user from outside the
 * ring is taken over in the same way.
 *
 * Retired users are locked, never dropped: views, routines, triggers and events with them as DEFINER go on working.
 *
 * MariaDB 10.4.2 and later, MySQL 8.0 and later. @throws RotatorOptionsError; its steps throw `MysqlTargetError`.
 */
export function mysqlAlternatingUsers(options: MysqlAlternatingUsersOptions): MysqlRotator {
  return new AlternatingUsers(options);
}

class AlternatingUsers implements MysqlRotator {
  readonly strategy = 'alternating-users';
  readonly name: string;
  private readonly setup: MysqlRotatorSetup;
  private readonly ring: readonly string[];

  constructor(
    private readonly options: MysqlAlternatingUsersOptions,
    ring?: readonly string[],
  ) {
    this.setup = rotatorSetup('mysql/alternating-users', options);
    this.name = this.setup.name;
    const users = options.users ?? 2;
    if (!Number.isInteger(users) || users < 2 || users > 50)
      throw new RotatorOptionsError(this.name, '`users` must be a whole number from 2 to 50.');
    if (typeof options.baseName !== 'string' || options.baseName === '')
      throw new RotatorOptionsError(this.name, '`baseName` must be a non-empty string.');
    if (options.admin === undefined)
      throw new RotatorOptionsError(this.name, '`admin` is missing: users are created by an administrator.');
    this.ring = ring ?? Array.from({ length: users }, (_, index) => `${options.baseName}_${index + 1}`);
    for (const user of this.ring) checkUserName(this.name, 'baseName', user);
  }

  identityOf(value: DatabaseCredentials): string {
    return value.username;
  }

  identities(): readonly string[] {
    return this.ring;
  }

  rehearsal(): MysqlRotator {
    const user = rehearsalUser(this.options.baseName);
    const rotator = new AlternatingUsers(this.options, [user]);
    return new Rehearsal({ rotator, setup: this.setup, admin: this.options.admin, userFor: () => user });
  }

  create(context: CreateContext<DatabaseCredentials>): DatabaseCredentials {
    if (context.current === undefined) checkFirstUser(this.setup);
    // −1 for a current user from outside the ring, and for none: the search then begins at the first.
    const start = this.ring.indexOf(context.current?.value.username ?? '');
    const inOrder = [...this.ring.slice(start + 1), ...this.ring.slice(0, start + 1)];
    const username = inOrder.find(
      (user) => user !== context.current?.value.username && !context.busyIdentities.has(user),
    );
    if (username === undefined) {
      throw new MysqlTargetError(
        'NO_FREE_IDENTITY',
        `All ${this.ring.length} users of ${this.options.baseName} belong to versions that are not retired yet. Wait for them to drain, or widen the ring with \`users\`.`,
      );
    }
    return { username, password: context.randomPassword({ excludePunctuation: true }) };
  }

  async apply(context: PendingContext<DatabaseCredentials>): Promise<void> {
    const pending = context.pending.value;
    const current = this.currentBeside(context, pending.username);
    const { primary, first } = this.setup;
    const admin = await adminCredentials(this.name, this.options.admin);
    await primary.session(admin, `preparing user ${pending.username}`, context, (session) =>
      equipUser(session, context, { pending, current, first }),
    );
  }

  async verify(context: PendingContext<DatabaseCredentials>): Promise<void> {
    const pending = context.pending.value;
    const current = this.currentBeside(context, pending.username);
    await proveUsable(this.setup, pending, context);
    if (current === undefined) return;
    const admin = await adminCredentials(this.name, this.options.admin);
    await this.setup.primary.session(admin, 'comparing the new user with the old', context, async (session) => {
      const differences = await mismatchesOf(session, pending, current);
      if (differences.length > 0) throw new UserMismatchError(pending.username, differences);
    });
  }

  async retire(context: RetireContext<DatabaseCredentials>): Promise<RetireReport> {
    this.currentBeside(context, context.retiring.value.username);
    return this.disable(context.retiring.value, context);
  }

  async undo(context: PendingContext<DatabaseCredentials>): Promise<void> {
    this.currentBeside(context, context.pending.value.username);
    await this.disable(context.pending.value, context);
  }

  private async disable(
    credentials: DatabaseCredentials,
    context: RotationContext<DatabaseCredentials>,
  ): Promise<RetireReport> {
    const { primary } = this.setup;
    const admin = await adminCredentials(this.name, this.options.admin);
    return primary.session(admin, `retiring user ${credentials.username}`, context, (session) =>
      putToRest(primary, session, credentials, context),
    );
  }

  /** The current credentials, of another user than the one this step is about to change. */
  private currentBeside(context: RotationContext<DatabaseCredentials>, user: string): DatabaseCredentials | undefined {
    const current = context.current?.value;
    if (current?.username === user) {
      throw new MysqlTargetError(
        'ROLE_UNSUITABLE',
        `User ${JSON.stringify(user)} belongs to the current version, and is left alone. Two versions of ${context.secretName} have one user: rotate once more, and put no versions by hand.`,
      );
    }
    return current;
  }
}
