import type pg from 'pg';
import type {
  CreateContext,
  DatabaseCredentials,
  PendingContext,
  RetireContext,
  RetireReport,
  RotationNotes,
  SecretRotator,
} from '@nestjs-secrets/core';
import type { PostgresRotator } from './alternating-users.js';
import { firstThatLogsIn, proveUsable } from './new-credential.js';
import { disableRole, proveDead, sessionsOf } from './old-credential.js';
import { PostgresTargetError, RotatorOptionsError } from './postgres-target-errors.js';
import type { StepContext, TargetSession } from './postgres-target.js';
import {
  adminCredentials,
  checkRoleName,
  rotatorSetup,
  type PostgresAdmin,
  type PostgresRotatorOptions,
  type PostgresRotatorSetup,
} from './rotator-options.js';
import { scramVerifier } from './scram-verifier.js';
import { SingleUserRehearsal } from './single-user-rehearsal.js';
import { identifier, literal } from './sql-quoting.js';

export interface PostgresSingleUserOptions extends PostgresRotatorOptions {
  /** The role whose password changes; that of the current version by default. Needed for the first version. */
  readonly username?: string;
  /** Without one the role changes its own password, and cannot be created, nor let in again when neither stored password works. */
  readonly admin?: PostgresAdmin;
}

/**
 * `postgres/single-user`: one role, whose password changes. Between apply and promote a new connection with the current password is refused,
 * so clients must try the pending one next, as the live pools do. Open sessions survive a change of password; retiring ends those that began
 * before it.
 *
 * PostgreSQL 14 to 18. @throws RotatorOptionsError; its steps throw `PostgresTargetError`.
 */
export function postgresSingleUser(options: PostgresSingleUserOptions): PostgresRotator {
  return new SingleUser(options);
}

// Microseconds, the resolution of backend_start, as text: JSON numbers of this size are still exact, but only just.
const SERVER_CLOCK = 'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8::text AS micros';

class SingleUser implements PostgresRotator {
  readonly strategy = 'single-user';
  readonly name: string;
  private readonly setup: PostgresRotatorSetup;

  constructor(private readonly options: PostgresSingleUserOptions) {
    this.setup = rotatorSetup('postgres/single-user', options);
    this.name = this.setup.name;
    if (options.username !== undefined) checkRoleName(this.name, 'username', options.username);
  }

  create(context: CreateContext<DatabaseCredentials>): DatabaseCredentials {
    const current = context.current?.value.username;
    const username = this.options.username ?? current;
    if (username === undefined) throw new RotatorOptionsError(this.name, '`username` is needed for the first version.');
    if (current === undefined && this.options.admin === undefined) {
      throw new RotatorOptionsError(this.name, '`admin` is needed for the first version: a role cannot create itself.');
    }
    if (current !== undefined && current !== username) {
      throw new RotatorOptionsError(
        this.name,
        `\`username\` is ${JSON.stringify(username)}, but the current version belongs to ${JSON.stringify(current)}. Put a version with the other role first, or change the option.`,
      );
    }
    return { username, password: context.randomPassword({ excludePunctuation: true }) };
  }

  identityOf(value: DatabaseCredentials): string {
    return value.username;
  }

  async apply(context: PendingContext<DatabaseCredentials>): Promise<void> {
    const pending = context.pending.value;
    // The note is stored before the password is touched: without it, nobody has tried yet and the pending value cannot be valid.
    const triedBefore = typeof context.notes['alteredAfter'] === 'string';
    if (triedBefore && (await this.setup.primary.logsIn(pending, 'looking for the new credential', context))) {
      await this.noteChanged(context, pending);
      return;
    }
    const verifier = await scramVerifier(pending.password);
    await this.asWhoMayAlter(context, [context.current?.value, pending], async (session) => {
      const creating = await this.creating(session, context, pending.username);
      if (creating.length > 0) await session.change(creating);
      const before = (await session.run([SERVER_CLOCK])).at(-1);
      await context.record({ alteredAfter: microsOf(before) });
      // The time is read after the commit, in the same round trip: a log-in with the old password began before it. One with the new
      // password follows a refusal that needed the commit and two more round trips, and so began after it.
      const after = (await session.change([altering(pending.username, verifier)], [SERVER_CLOCK])).at(-1);
      await context.record({ alteredAt: microsOf(after) });
    });
  }

  async verify(context: PendingContext<DatabaseCredentials>): Promise<void> {
    await proveUsable(this.setup, context.pending.value, context);
  }

  async undo(context: PendingContext<DatabaseCredentials>): Promise<void> {
    if (typeof context.notes['alteredAfter'] !== 'string') return;
    const pending = context.pending.value;
    const current = context.current?.value;
    if (current === undefined) {
      await this.asWhoMayAlter(context, [], async (session) => {
        const known = (await session.run([`SELECT FROM pg_roles WHERE rolname = ${literal(pending.username)}`])).at(
          -1,
        )?.rowCount;
        const disabling = known === 0 ? [] : [disableRole(pending.username)];
        await proveDead(this.setup.primary, session, pending, sessionsOf(pending.username), context, disabling);
      });
      return;
    }
    if (!(await this.setup.primary.logsIn(current, 'looking for the current credential', context))) {
      const verifier = await scramVerifier(current.password);
      await this.asWhoMayAlter(context, [pending, current], (session) =>
        session.change([altering(current.username, verifier)]),
      );
    }
    // Sessions opened with the pending value belong to the same role and the same application, which drains them itself.
    if (await this.setup.primary.logsIn(pending, 'checking that the new credential is refused again', context))
      throw this.alive(pending);
  }

  async retire(context: RetireContext<DatabaseCredentials>): Promise<RetireReport> {
    const current = context.current.value;
    const old = context.retiring.value;
    if (old.username !== current.username) return this.retireOtherRole(context);
    if (old.password === current.password) throw this.alive(old);
    // As the role itself, whoever altered it: an administrator without its privileges does not see when its sessions began.
    return this.setup.primary.session(current, 'ending sessions of the old password', context, async (session) => {
      await session.run(['SET ROLE NONE']);
      const sessions = `${sessionsOf(old.username)} AND ${beganBefore(context.notes)}`;
      return proveDead(this.setup.primary, session, old, sessions, context);
    });
  }

  /** @throws RotatorOptionsError without an `admin`: a role cannot make another one. */
  rehearsal(): SecretRotator<DatabaseCredentials> {
    const { admin, username } = this.options;
    if (admin === undefined)
      throw new RotatorOptionsError(this.name, '`admin` is needed for a rehearsal: it makes a throw-away role.');
    return new SingleUserRehearsal({ setup: this.setup, admin, username });
  }

  /** After a version for another role was put by hand, the old role goes as a whole. */
  private retireOtherRole(context: RetireContext<DatabaseCredentials>): Promise<RetireReport> {
    const old = context.retiring.value;
    return this.asWhoMayAlter(context, [], (session) =>
      proveDead(this.setup.primary, session, old, sessionsOf(old.username), context, [disableRole(old.username)]),
    );
  }

  /** A session of the administrator, or of the role itself with whichever of its own values is accepted. */
  private async asWhoMayAlter<R>(
    context: StepContext & { readonly secretName: string },
    own: readonly (DatabaseCredentials | undefined)[],
    work: (session: TargetSession) => Promise<R>,
  ): Promise<R> {
    const { primary } = this.setup;
    const doing = 'changing a password';
    if (this.options.admin !== undefined) {
      return primary.session(await adminCredentials(this.name, this.options.admin), doing, context, work);
    }
    return firstThatLogsIn(
      own.filter((credentials) => credentials !== undefined),
      (credentials) =>
        primary.session(credentials, doing, context, async (session) => {
          // A role may alter itself only as itself, also when its sessions start out as another (`ALTER ROLE … SET role`).
          await session.run(['SET ROLE NONE']);
          return work(session);
        }),
      new PostgresTargetError(
        'TARGET_REFUSED',
        `PostgreSQL ${primary.label} accepts no stored value of ${context.secretName} that could change this role. Pass an \`admin\` to ${this.name}, or put a version with the right password.`,
      ),
    );
  }

  private async creating(
    session: TargetSession,
    context: PendingContext<DatabaseCredentials>,
    username: string,
  ): Promise<string[]> {
    if (context.current !== undefined) return [];
    const known = (await session.run([`SELECT FROM pg_roles WHERE rolname = ${literal(username)}`])).at(-1)?.rowCount;
    return known === 0 ? [`CREATE ROLE ${identifier(username)} LOGIN`] : [`ALTER ROLE ${identifier(username)} LOGIN`];
  }

  /**
   * The password was changed by somebody who did not live to say when, so it counts as changed now. Sessions of the new password that began
   * before now are those of stand-ins, which consumers replace once the version is current.
   */
  private async noteChanged(
    context: PendingContext<DatabaseCredentials>,
    accepted: DatabaseCredentials,
  ): Promise<void> {
    if (context.notes['alteredAt'] !== undefined) return;
    const { primary } = this.setup;
    const now = await primary.session(accepted, 'reading the clock', context, (session) => session.run([SERVER_CLOCK]));
    await context.record({ alteredAt: microsOf(now.at(-1)) });
  }

  private alive(credentials: DatabaseCredentials): PostgresTargetError {
    return new PostgresTargetError(
      'OLD_CREDENTIAL_ALIVE',
      `PostgreSQL ${this.setup.primary.label}: role ${JSON.stringify(credentials.username)} still has a password that must no longer be valid. Rotate once more.`,
    );
  }
}

function altering(username: string, verifier: string): string {
  // Nothing but the password: more than that a role may not change about itself.
  return `ALTER ROLE ${identifier(username)} PASSWORD ${literal(verifier)}`;
}

function microsOf(result: pg.QueryResult<{ micros: string }> | undefined): string {
  return result?.rows[0]?.micros ?? '';
}

/** Without a note of the change, no session can be told from those of the new password, and none is ended. */
function beganBefore(notes: RotationNotes): string {
  const micros = notes['alteredAt'] ?? notes['alteredAfter'];
  if (typeof micros !== 'string' || !/^\d+$/.test(micros)) return 'false';
  return `backend_start < to_timestamp(${micros} / 1000000.0)`;
}
