import type {
  CreateContext,
  DatabaseCredentials,
  PendingContext,
  RetireContext,
  RetireReport,
  SecretRotator,
} from '@nestjs-secrets/core';
import { proveUsable } from './new-credential.js';
import { derivedRoleName, dismissRole, markStatements } from './passing-role.js';
import { RoleMismatchError } from './postgres-target-errors.js';
import type { StepContext } from './postgres-target.js';
import { membershipFact, statementsFor } from './role-facts.js';
import { readRoleProfiles, type RoleProfiles } from './role-profile.js';
import { adminCredentials, type PostgresAdmin, type PostgresRotatorSetup } from './rotator-options.js';
import { scramVerifier } from './scram-verifier.js';
import { applyStatements, equipOwnerStatements, groundworkStatements, mismatches } from './shared-ownership.js';

export interface AlternatingRehearsalOptions {
  readonly setup: PostgresRotatorSetup;
  readonly admin: PostgresAdmin;
  readonly baseName: string;
  readonly ownerRole: string;
  /** Whether something that only exists after a first rotation may be what the probes look at. */
  readonly prepares: boolean;
  /** The real `apply`, of the role whose turn it would be, rolled back at its end. */
  readonly tryApply: (context: PendingContext<DatabaseCredentials>, password: string) => Promise<void>;
}

/**
 * A rotation of alternating users in two parts: all that `apply` would do to the real roles, in a transaction that is rolled back; and what
 * only a log-in can tell, with a throw-away role. Its sessions run as a throw-away owner, a member of the real one, so that whatever the
 * probes create belongs to the throw-away owner and is dropped with it.
 */
export class AlternatingRehearsal implements SecretRotator<DatabaseCredentials> {
  readonly strategy = 'alternating-users';
  private readonly role: string;
  private readonly standIn: string;

  constructor(private readonly options: AlternatingRehearsalOptions) {
    this.role = derivedRoleName(options.baseName, 'rehearsal');
    this.standIn = derivedRoleName(options.baseName, 'rehearsal_owner');
  }

  identityOf(value: DatabaseCredentials): string {
    return value.username;
  }

  create(context: CreateContext<DatabaseCredentials>): DatabaseCredentials {
    return { username: this.role, password: context.randomPassword({ excludePunctuation: true }) };
  }

  async apply(context: PendingContext<DatabaseCredentials>): Promise<void> {
    const { setup, admin, ownerRole } = this.options;
    const { role, standIn } = this;
    await this.options.tryApply(context, context.pending.value.password);
    const verifier = await scramVerifier(context.pending.value.password);
    const credentials = await adminCredentials(setup.name, admin);
    const currentRole = context.current?.value.username;
    const roles = [role, ownerRole, ...(currentRole === undefined ? [] : [currentRole])];
    await setup.primary.session(credentials, `preparing role ${role}`, context, async (session) => {
      const fresh = await readRoleProfiles(session, { roles, ownerRole: standIn });
      const marking = await markStatements(session, [standIn, role]);
      await session.change([
        ...groundworkStatements(fresh, [standIn, role], standIn),
        ...marking,
        ...applyStatements({ fresh, pendingRole: role, ownerRole: standIn, currentRole, verifier }),
        ...(currentRole === undefined ? equipOwnerStatements(fresh, standIn) : []),
        ...this.ownershipStatements(fresh, currentRole),
      ]);
    });
  }

  async verify(context: PendingContext<DatabaseCredentials>): Promise<void> {
    const { setup, prepares } = this.options;
    const currentRole = context.current?.value.username;
    const roles = [this.role, ...(currentRole === undefined ? [] : [currentRole])];
    const asYet = prepares && currentRole === undefined ? { ...setup, probes: [] } : setup;
    await proveUsable(asYet, context.pending.value, context, async (session) => {
      const profiles = await readRoleProfiles(session, { roles, ownerRole: this.standIn });
      const differences = mismatches(profiles, this.role, this.standIn, currentRole, { currentMayOwn: true });
      if (differences.length > 0) throw new RoleMismatchError(this.role, differences);
    });
  }

  async retire(context: RetireContext<DatabaseCredentials>): Promise<RetireReport> {
    return this.cleanUp(context.retiring.value, context);
  }

  async undo(context: PendingContext<DatabaseCredentials>): Promise<void> {
    await this.cleanUp(context.pending.value, context);
  }

  private async cleanUp(credentials: DatabaseCredentials, context: StepContext): Promise<RetireReport> {
    const { setup } = this.options;
    const admin = await adminCredentials(setup.name, this.options.admin);
    const target = setup.primary;
    const report = await dismissRole({ target, admin, role: credentials.username, credentials }, context);
    await dismissRole({ target, admin, role: this.standIn }, context);
    return report;
  }

  /** Where the real rotation hands objects on to the owner, the stand-in gets their owners' powers instead. */
  private ownershipStatements(profiles: RoleProfiles, currentRole: string | undefined): string[] {
    const option = profiles.serverVersion >= 160_000 ? true : null;
    const owners = [this.options.ownerRole, currentRole].filter((owner) => owner !== undefined && profiles.of(owner));
    const missing = owners.map((owner) =>
      membershipFact({ role: owner ?? '', admin: false, inherit: option, set: option, grantors: [] }),
    );
    return statementsFor(this.standIn, { missing, surplus: [] });
  }
}
