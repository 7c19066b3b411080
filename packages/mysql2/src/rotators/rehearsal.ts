import { createHash } from 'node:crypto';
import type {
  CreateContext,
  DatabaseCredentials,
  PendingContext,
  RetireReport,
  RotationContext,
  RotationStrategy,
} from '@nestjs-secrets/core';
import { equipUser } from './equip-user.js';
import { MysqlTargetError } from './mysql-target-errors.js';
import { proveDead } from './old-credential.js';
import { adminCredentials, type MysqlAdmin, type MysqlRotator, type MysqlRotatorSetup } from './rotator-options.js';
import { accountName } from './sql-quoting.js';
import { readUser } from './user-profile.js';

export interface RehearsalParts {
  /** Does the work, on the throw-away user. */
  readonly rotator: MysqlRotator;
  readonly setup: MysqlRotatorSetup;
  readonly admin: MysqlAdmin;
  /** The throw-away user, by the current version's. */
  readonly userFor: (current: string | undefined) => string;
}

/**
 * A rotation of a user that no version has, and that is dropped in the end. Where the strategy changes a user that is there, it first gets the
 * throw-away one, equal to the current user but for name and password.
 */
export class Rehearsal implements MysqlRotator {
  readonly strategy: RotationStrategy | undefined;
  readonly name: string;

  constructor(private readonly parts: RehearsalParts) {
    this.strategy = parts.rotator.strategy;
    this.name = parts.rotator.name;
  }

  identityOf(value: DatabaseCredentials): string {
    return value.username;
  }

  create(context: CreateContext<DatabaseCredentials>): DatabaseCredentials {
    return {
      username: this.parts.userFor(context.current?.value.username),
      password: context.randomPassword({ excludePunctuation: true }),
    };
  }

  async apply(context: PendingContext<DatabaseCredentials>): Promise<void> {
    const { setup } = this.parts;
    const { username } = context.pending.value;
    const rehearsed = this.rehearsed(context);
    await this.asAdmin(context, async (session) => {
      if (context.notes['rehearsing'] !== true) {
        if ((await readUser(session, username)).length > 0) {
          throw new MysqlTargetError(
            'ROLE_UNSUITABLE',
            `The user ${JSON.stringify(username)} exists: a rehearsal would change and drop it. Drop it yourself if an earlier rehearsal was broken off.`,
          );
        }
        await context.record({ rehearsing: true });
      }
      if (!this.takesTurns() && rehearsed.current !== undefined) {
        const current = context.current?.value;
        await equipUser(session, context, { pending: rehearsed.current.value, current, first: setup.first });
      }
    });
    await this.parts.rotator.apply(rehearsed);
  }

  async verify(context: PendingContext<DatabaseCredentials>): Promise<void> {
    await this.parts.rotator.verify(this.rehearsed(context));
  }

  /** Nothing of a rehearsal becomes current, so that nothing of it is ever retired. */
  retire(): Promise<RetireReport> {
    return Promise.reject(
      new MysqlTargetError('ROLE_UNSUITABLE', 'A rehearsal ends with undo: it has nothing to retire.'),
    );
  }

  async undo(context: PendingContext<DatabaseCredentials>): Promise<void> {
    if (context.notes['rehearsing'] !== true) return;
    const { primary } = this.parts.setup;
    const pending = context.pending.value;
    await this.asAdmin(context, async (session) => {
      if ((await readUser(session, pending.username)).length > 0)
        await this.parts.rotator.undo?.(this.rehearsed(context));
      for (const { account } of await readUser(session, pending.username))
        await session.change(`DROP USER ${accountName(account)}`);
      await proveDead({
        target: primary,
        session,
        old: pending,
        sessions: { user: pending.username },
        hold: context,
      });
    });
  }

  private async asAdmin(
    context: RotationContext<DatabaseCredentials>,
    work: Parameters<typeof this.parts.setup.primary.session<void>>[3],
  ): Promise<void> {
    const admin = await adminCredentials(this.name, this.parts.admin);
    await this.parts.setup.primary.session(admin, 'rehearsing a rotation', context, work);
  }

  /** For a strategy that changes one user, the throw-away user before it changes is the current one. */
  private rehearsed(context: PendingContext<DatabaseCredentials>): PendingContext<DatabaseCredentials> {
    if (this.takesTurns()) return context;
    const { username, password } = context.pending.value;
    // The same again after a crash, without being stored.
    const before = createHash('sha256').update(`before ${password}`).digest('hex');
    return {
      ...context,
      current: { ...context.pending, versionId: 'rehearsal', value: { username, password: before } },
    };
  }

  private takesTurns(): boolean {
    return this.strategy === 'alternating-users';
  }
}
