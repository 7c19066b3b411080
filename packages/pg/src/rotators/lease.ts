import { createHash } from 'node:crypto';
import type {
  CreateContext,
  DatabaseCredentials,
  LeaseTerms,
  PendingContext,
  RenewContext,
  RetireContext,
  RetireReport,
  RotationContext,
  SecretRotator,
} from '@nestjs-secrets/core';
import type { PostgresRotator } from './alternating-users.js';
import { proveUsable } from './new-credential.js';
import { derivedRoleName, dismissRole, lookAtPassingRole, makeStatements } from './passing-role.js';
import { PostgresTargetError, RoleMismatchError, RotatorOptionsError } from './postgres-target-errors.js';
import type { StepContext, TargetSession } from './postgres-target.js';
import { differenceOf, statementsFor, type RoleFact } from './role-facts.js';
import { readRoleProfiles, type RoleProfiles } from './role-profile.js';
import {
  adminCredentials,
  checkRoleName,
  rotatorSetup,
  type PostgresAdmin,
  type PostgresRotatorOptions,
  type PostgresRotatorSetup,
} from './rotator-options.js';
import { scramVerifier } from './scram-verifier.js';
import { isRoleSetting, ringFacts } from './shared-ownership.js';
import { identifier, literal } from './sql-quoting.js';

export interface PostgresLeaseOptions extends PostgresRotatorOptions {
  /** A superuser, or a role with CREATEROLE that has ADMIN OPTION on the template role. */
  readonly admin: PostgresAdmin;
  /** The role whose powers every lease has, and which owns what they create. It exists, need not log in, and is no superuser. */
  readonly templateRole: string;
  /** Roles are named `<baseName>_<8 characters of the instance>_<10 of the version>`: at most 43 bytes. */
  readonly baseName: string;
}

const REHEARSAL_MS = 600_000;

/**
 * `postgres/lease`, of the strategy `lease`: a role for each instance, which ends by itself (`VALID UNTIL`) unless it is renewed, and is
 * dropped when the instance leaves or has died. Sessions run as the template role (`ALTER ROLE … SET role`), with its settings.
 *
 * `VALID UNTIL` goes by the server's clock, so the lease's end is converted to it, and never falls later than asked for. PostgreSQL looks
 * at it at log-in only: sessions that are open live on until `retire` ends them.
 *
 * PostgreSQL 14 to 18. @throws RotatorOptionsError; its steps throw `PostgresTargetError`.
 */
export function postgresLease(options: PostgresLeaseOptions): PostgresLeaseRotator {
  return new PostgresLease(options, false);
}

export interface PostgresLeaseRotator extends PostgresRotator {
  renew(context: RenewContext<DatabaseCredentials>): Promise<void>;
}

class PostgresLease implements PostgresLeaseRotator {
  readonly strategy = 'lease';
  readonly name: string;
  private readonly setup: PostgresRotatorSetup;

  constructor(
    private readonly options: PostgresLeaseOptions,
    private readonly rehearsing: boolean,
  ) {
    this.setup = rotatorSetup('postgres/lease', options);
    this.name = this.setup.name;
    if (options.admin === undefined)
      throw new RotatorOptionsError(this.name, '`admin` is missing: roles are created by an administrator.');
    if (typeof options.baseName !== 'string' || options.baseName === '')
      throw new RotatorOptionsError(this.name, '`baseName` must be a non-empty string.');
    checkRoleName(this.name, 'templateRole', options.templateRole);
    checkRoleName(this.name, 'baseName', `${options.baseName}_${'0'.repeat(8)}_${'0'.repeat(10)}`);
  }

  identityOf(value: DatabaseCredentials): string {
    return value.username;
  }

  create(context: CreateContext<DatabaseCredentials>): DatabaseCredentials {
    const { instanceId } = this.termsOf(context);
    const password = context.randomPassword({ excludePunctuation: true });
    // Random rather than derived from the rotation: two versions never share a role, not even after a store was put back.
    const ofVersion = digest(context.randomPassword({ excludePunctuation: true })).slice(0, 10);
    const username = this.rehearsing
      ? derivedRoleName(this.options.baseName, 'rehearsal')
      : `${this.options.baseName}_${digest(instanceId).slice(0, 8)}_${ofVersion}`;
    return { username, password };
  }

  async apply(context: PendingContext<DatabaseCredentials>): Promise<void> {
    const { username, password } = context.pending.value;
    const { validUntil } = this.termsOf(context);
    const verifier = await scramVerifier(password);
    await this.asAdmin(`preparing role ${username}`, context, async (session) => {
      const profiles = await this.readProfiles(session, username);
      const found = await lookAtPassingRole(session, username);
      const making = makeStatements(username, found);
      const until = await onServerClock(session, validUntil, context);
      // Repeated after a crash, it may meet a role that was renewed since.
      const latest = found?.logsIn && Number.isFinite(found.validUntil) ? Math.max(found.validUntil, until) : until;
      const { missing } = differenceOf(this.expectedFacts(profiles), profiles.of(username)?.facts ?? []);
      await session.change([
        ...making,
        `ALTER ROLE ${identifier(username)} LOGIN PASSWORD ${literal(verifier)} VALID UNTIL ${timestamp(latest)}`,
        ...statementsFor(username, { missing, surplus: [] }),
      ]);
    });
  }

  async verify(context: PendingContext<DatabaseCredentials>): Promise<void> {
    const { username } = context.pending.value;
    const { templateRole } = this.options;
    await proveUsable(this.setup, context.pending.value, context, async (session) => {
      const profiles = await this.readProfiles(session, username);
      const { missing } = differenceOf(this.expectedFacts(profiles), profiles.of(username)?.facts ?? []);
      const differences = missing.map((fact) => `it lacks ${fact.label}`);
      if (profiles.currentUser !== templateRole)
        differences.push(`its sessions run as ${profiles.currentUser} instead of ${templateRole}`);
      const found = await lookAtPassingRole(session, username);
      if (found?.validUntil === Infinity) differences.push('its password never ends');
      if (differences.length > 0) throw new RoleMismatchError(username, differences);
    });
  }

  /**
   * Moves the end of the credential in use forward; never back, so that doing it twice or late is harmless.
   * @throws PostgresTargetError `LEASE_LOST` when the role is gone or was retired: the instance needs a new one.
   */
  async renew(context: RenewContext<DatabaseCredentials>): Promise<void> {
    const { username } = context.current.value;
    await this.asAdmin(`renewing role ${username}`, context, async (session) => {
      const found = await lookAtPassingRole(session, username);
      if (found === undefined || !found.isOurs || !found.logsIn) {
        throw new PostgresTargetError(
          'LEASE_LOST',
          `Role ${JSON.stringify(username)} was dropped or retired and cannot be renewed. Rotate ${context.secretName}, which makes a new one.`,
        );
      }
      const until = await onServerClock(session, context.lease.validUntil, context);
      if (until <= found.validUntil) return;
      await session.change([`ALTER ROLE ${identifier(username)} VALID UNTIL ${timestamp(until)}`]);
    });
  }

  /** Also of the current version itself, when its instance has left or died. */
  async retire(context: RetireContext<DatabaseCredentials>): Promise<RetireReport> {
    const { current, retiring } = context;
    if (current.versionId !== retiring.versionId && current.value.username === retiring.value.username) {
      throw new PostgresTargetError(
        'ROLE_UNSUITABLE',
        `Role ${JSON.stringify(retiring.value.username)} belongs to the current version, and is left alone. Two versions of ${context.secretName} have one role: put no versions by hand.`,
      );
    }
    return this.dismiss(retiring.value, context);
  }

  async undo(context: PendingContext<DatabaseCredentials>): Promise<void> {
    await this.dismiss(context.pending.value, context);
  }

  rehearsal(): SecretRotator<DatabaseCredentials> {
    return new PostgresLease(this.options, true);
  }

  private async dismiss(credentials: DatabaseCredentials, context: StepContext): Promise<RetireReport> {
    const admin = await adminCredentials(this.name, this.options.admin);
    // A rehearsal hands nothing on: what its probes left goes with it.
    const heir = this.rehearsing ? {} : { heir: this.options.templateRole };
    const { username: role } = credentials;
    return dismissRole({ target: this.setup.primary, admin, role, credentials, ...heir }, context);
  }

  private async asAdmin(doing: string, context: StepContext, work: (session: TargetSession) => Promise<void>) {
    const admin = await adminCredentials(this.name, this.options.admin);
    await this.setup.primary.session(admin, doing, context, work);
  }

  /** @throws PostgresTargetError `ROLE_UNSUITABLE` */
  private async readProfiles(session: TargetSession, username: string): Promise<RoleProfiles> {
    const { templateRole } = this.options;
    const profiles = await readRoleProfiles(session, { roles: [username], ownerRole: templateRole });
    const template = profiles.of(templateRole);
    if (template === undefined || template.superuser) {
      const what =
        template === undefined ? 'does not exist: create it, and grant it' : 'is a superuser: take a role with';
      throw new PostgresTargetError(
        'ROLE_UNSUITABLE',
        `The template role ${JSON.stringify(templateRole)} ${what} what the application needs.`,
      );
    }
    return profiles;
  }

  /** Membership in the template role, sessions that run as it, and its settings, which do not come with membership. */
  private expectedFacts(profiles: RoleProfiles): RoleFact[] {
    const { templateRole } = this.options;
    const settings = (profiles.of(templateRole)?.facts ?? []).filter(
      (fact) => fact.label.startsWith('setting ') && !isRoleSetting(fact),
    );
    return [...ringFacts(templateRole, profiles.serverVersion), ...settings];
  }

  /** @throws RotatorOptionsError when there are none: the engine gives them for the strategy `lease`. */
  private termsOf(context: RotationContext<DatabaseCredentials>): LeaseTerms {
    if (context.lease !== undefined) return context.lease;
    if (this.rehearsing) return { instanceId: 'rehearsal', validUntil: context.clock.now() + REHEARSAL_MS };
    throw new RotatorOptionsError(this.name, 'a lease needs to be told for which instance it is, and until when.');
  }
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** A time of this process as the server's clock will show it, at the latest. */
async function onServerClock(session: TargetSession, time: number, context: StepContext): Promise<number> {
  return time + (await session.serverNow()) - context.clock.now();
}

function timestamp(time: number): string {
  return literal(new Date(time).toISOString());
}
