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
import { RotatorOptionsError } from './postgres-target-errors.js';
import type { StepContext } from './postgres-target.js';
import { differenceOf, membershipFact, statementsFor } from './role-facts.js';
import { readRoleProfiles, type RoleProfile } from './role-profile.js';
import { adminCredentials, type PostgresAdmin, type PostgresRotatorSetup } from './rotator-options.js';
import { scramVerifier } from './scram-verifier.js';
import { groundworkStatements, isRoleSetting } from './shared-ownership.js';
import { identifier, literal } from './sql-quoting.js';

export interface SingleUserRehearsalOptions {
  readonly setup: PostgresRotatorSetup;
  readonly admin: PostgresAdmin;
  readonly username: string | undefined;
}

/**
 * A change of password in two parts: that of the real role, in a transaction that is rolled back; and what only a log-in can tell, with a
 * throw-away role. It is a member of the real one and has its settings and attributes, but does not run as it: whatever the probes create
 * belongs to the throw-away role and is dropped with it.
 */
export class SingleUserRehearsal implements SecretRotator<DatabaseCredentials> {
  readonly strategy = 'single-user';

  constructor(private readonly options: SingleUserRehearsalOptions) {}

  identityOf(value: DatabaseCredentials): string {
    return value.username;
  }

  create(context: CreateContext<DatabaseCredentials>): DatabaseCredentials {
    const base = this.options.username ?? context.current?.value.username;
    if (base === undefined)
      throw new RotatorOptionsError(this.options.setup.name, '`username` is needed for the first version.');
    return {
      username: derivedRoleName(base, 'rehearsal'),
      password: context.randomPassword({ excludePunctuation: true }),
    };
  }

  async apply(context: PendingContext<DatabaseCredentials>): Promise<void> {
    const { setup, username } = this.options;
    const { username: role, password } = context.pending.value;
    const real = context.current?.value.username ?? username;
    const verifier = literal(await scramVerifier(password));
    const admin = await adminCredentials(setup.name, this.options.admin);
    await setup.primary.session(admin, `preparing role ${role}`, context, async (session) => {
      const roles = [role, ...(real === undefined ? [] : [real])];
      const profiles = await readRoleProfiles(session, { roles, ownerRole: role });
      const found = real === undefined ? undefined : profiles.of(real);
      if (real !== undefined) {
        await session.run(['BEGIN']);
        const creating = found === undefined ? [`CREATE ROLE ${identifier(real)} LOGIN`] : [];
        await session.change([...creating, `ALTER ROLE ${identifier(real)} PASSWORD ${verifier}`]);
        await session.rollBack();
      }
      const marking = await markStatements(session, [role]);
      const expected = found === undefined ? [] : factsOfLogIn(found, profiles.serverVersion);
      const { missing } = differenceOf(expected, profiles.of(role)?.facts ?? []);
      await session.change([
        ...groundworkStatements(profiles, [role], ''),
        ...marking,
        `ALTER ROLE ${identifier(role)} LOGIN`,
        `ALTER ROLE ${identifier(role)} PASSWORD ${verifier}`,
        ...statementsFor(role, { missing, surplus: [] }),
      ]);
    });
  }

  async verify(context: PendingContext<DatabaseCredentials>): Promise<void> {
    await proveUsable(this.options.setup, context.pending.value, context);
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
    return dismissRole({ target: setup.primary, admin, role: credentials.username, credentials }, context);
  }
}

/** What does not come with membership, and the membership itself. */
function factsOfLogIn(real: RoleProfile, serverVersion: number) {
  const option = serverVersion >= 160_000 ? true : null;
  return [
    membershipFact({ role: real.name, admin: false, inherit: option, set: option, grantors: [] }),
    ...real.facts.filter(
      ({ label, ...fact }) =>
        (label.startsWith('setting ') && !isRoleSetting({ label, ...fact })) ||
        (label.startsWith('attribute ') && label !== 'attribute NOINHERIT'),
    ),
  ];
}
