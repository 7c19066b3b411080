import type pg from 'pg';
import type {
  CreateContext,
  DatabaseCredentials,
  PendingContext,
  RetireContext,
  RetireReport,
  RotationContext,
  SecretRotator,
} from '@nestjs-secrets/core';
import { AlternatingRehearsal } from './alternating-rehearsal.js';
import { proveUsable } from './new-credential.js';
import { disableRole, proveDead, sessionsOf } from './old-credential.js';
import { PostgresTargetError, RoleMismatchError, RotatorOptionsError } from './postgres-target-errors.js';
import type { StepContext } from './postgres-target.js';
import { glanceAtRole, readRoleProfiles, type RoleProfile } from './role-profile.js';
import {
  adminCredentials,
  checkRoleName,
  rotatorSetup,
  type PostgresAdmin,
  type PostgresRotatorOptions,
  type PostgresRotatorSetup,
} from './rotator-options.js';
import { scramVerifier } from './scram-verifier.js';
import {
  applyStatements,
  equipOwnerStatements,
  groundworkStatements,
  handOver,
  mismatches,
} from './shared-ownership.js';

export interface PostgresAlternatingUsersOptions extends PostgresRotatorOptions {
  /** A superuser, or a role with CREATEROLE that may grant what the application needs. */
  readonly admin: PostgresAdmin;
  /** The roles that log in are `<baseName>_1` … `<baseName>_<roles>`. */
  readonly baseName: string;
  /** How many roles take turns, 2–50; 2 by default. With N, the interval × (N − 1) must exceed the longest transaction. */
  readonly roles?: number;
  /** The role that owns what the application creates; `<baseName>_owner` by default. */
  readonly ownerRole?: string;
  /**
   * Called as the administrator, in the transaction that makes the first role on a new target: the place to create schemas or grant the owner
   * role what it needs beyond CONNECT, and CREATE in the database and its schema `public`. Repeated when the first rotation is, so it must be
   * harmless the second time.
   */
  readonly prepare?: (client: pg.ClientBase, ownerRole: string) => Promise<void>;
}

/** A rotator of PostgreSQL roles, with the name under which a rotation policy asks for it. */
export interface PostgresRotator extends SecretRotator<DatabaseCredentials> {
  readonly name: string;
}

/**
 * `postgres/alternating-users`: a ring of roles takes turns, so that old and new credentials are both valid until the old one is retired, and
 * no log-in is ever refused. Sessions of every role of the ring run as one owner role, which owns what they create.
 *
 * Each rotation gives the next role all that the current one has at that moment (memberships, grants, default privileges, settings,
 * attributes), takes from it what it has beyond that, and hands objects that ended up with a role itself to the owner. A current role from
 * outside the ring is taken over in the same way: the owner role then also gets what it was granted.
 *
 * PostgreSQL 14 to 18. @throws RotatorOptionsError; its steps throw `PostgresTargetError`.
 */
export function postgresAlternatingUsers(options: PostgresAlternatingUsersOptions): PostgresRotator {
  return new AlternatingUsers(options);
}

class AlternatingUsers implements PostgresRotator {
  readonly strategy = 'alternating-users';
  readonly name: string;
  private readonly setup: PostgresRotatorSetup;
  private readonly ring: readonly string[];
  private readonly ownerRole: string;

  constructor(private readonly options: PostgresAlternatingUsersOptions) {
    this.setup = rotatorSetup('postgres/alternating-users', options);
    this.name = this.setup.name;
    const roles = options.roles ?? 2;
    if (!Number.isInteger(roles) || roles < 2 || roles > 50)
      throw new RotatorOptionsError(this.name, '`roles` must be a whole number from 2 to 50.');
    if (typeof options.baseName !== 'string' || options.baseName === '')
      throw new RotatorOptionsError(this.name, '`baseName` must be a non-empty string.');
    if (options.admin === undefined)
      throw new RotatorOptionsError(this.name, '`admin` is missing: roles are created by an administrator.');
    this.ring = Array.from({ length: roles }, (_, index) => `${options.baseName}_${index + 1}`);
    this.ownerRole = options.ownerRole ?? `${options.baseName}_owner`;
    for (const role of this.ring) checkRoleName(this.name, 'baseName', role);
    checkRoleName(this.name, 'ownerRole', this.ownerRole);
    if (this.ring.includes(this.ownerRole))
      throw new RotatorOptionsError(this.name, '`ownerRole` must not be one of the roles that log in.');
  }

  identityOf(value: DatabaseCredentials): string {
    return value.username;
  }

  identities(): readonly string[] {
    return this.ring;
  }

  create(context: CreateContext<DatabaseCredentials>): DatabaseCredentials {
    const username = this.inTurn(context.current?.value.username).find((role) => !context.busyIdentities.has(role));
    if (username === undefined) {
      throw new PostgresTargetError(
        'NO_FREE_IDENTITY',
        `All ${this.ring.length} roles of ${this.options.baseName} belong to versions that are not retired yet. Wait for them to drain, or widen the ring with \`roles\`.`,
      );
    }
    return { username, password: context.randomPassword({ excludePunctuation: true }) };
  }

  async apply(context: PendingContext<DatabaseCredentials>): Promise<void> {
    await this.teach(context, context.pending.value, 'COMMIT');
  }

  rehearsal(): SecretRotator<DatabaseCredentials> {
    return new AlternatingRehearsal({
      setup: this.setup,
      admin: this.options.admin,
      baseName: this.options.baseName,
      ownerRole: this.ownerRole,
      prepares: this.options.prepare !== undefined,
      tryApply: (context, password) => {
        const [username = ''] = this.inTurn(context.current?.value.username);
        return this.teach(context, { username, password }, 'ROLLBACK');
      },
    });
  }

  /** The roles of the ring but the current one, that whose turn it is in front. */
  private inTurn(current: string | undefined): string[] {
    // −1 for a current role from outside the ring, and for none: the search then begins at the first.
    const start = this.ring.indexOf(current ?? '');
    const inOrder = [...this.ring.slice(start + 1), ...this.ring.slice(0, start + 1)];
    return inOrder.filter((role) => role !== current);
  }

  /** Teaches the target a role, or only tries to. */
  private async teach(
    context: RotationContext<DatabaseCredentials>,
    { username, password }: DatabaseCredentials,
    end: 'COMMIT' | 'ROLLBACK',
  ): Promise<void> {
    const currentRole = this.currentBeside(context, username);
    const [verifier, admin] = await Promise.all([
      scramVerifier(password),
      adminCredentials(this.name, this.options.admin),
    ]);
    await this.setup.primary.session(admin, `preparing role ${username}`, context, async (session) => {
      const roles = [username, ...(currentRole === undefined ? [] : [currentRole])];
      let profiles = await readRoleProfiles(session, {
        roles,
        ownerRole: this.ownerRole,
        begin: true,
      });
      const current = currentRole === undefined ? undefined : profiles.of(currentRole);
      this.checkSuitable(current);
      let statements = groundworkStatements(
        profiles,
        [this.ownerRole, ...(current === undefined ? [username] : roles)],
        this.ownerRole,
      );
      const handOvers = [current, profiles.of(username)].flatMap((role) =>
        role === undefined ? [] : handOver(role, this.ownerRole, profiles.serverVersion),
      );
      if (handOvers.length > 0) {
        // Access lists change with the owner, so they are only compared afterwards.
        profiles = await readRoleProfiles(session, {
          roles,
          ownerRole: this.ownerRole,
          after: [...statements, ...handOvers],
        });
        statements = [];
      }
      statements.push(
        ...applyStatements({
          fresh: profiles,
          pendingRole: username,
          ownerRole: this.ownerRole,
          currentRole,
          verifier,
        }),
        ...(current === undefined ? equipOwnerStatements(profiles, this.ownerRole) : []),
      );
      if (this.options.prepare !== undefined && context.current === undefined) {
        await session.change([...statements, 'RESET search_path']);
        context.assertHolder();
        await this.options.prepare(session.client, this.ownerRole);
        statements = [];
      }
      if (end === 'COMMIT') {
        await session.change([...statements, 'COMMIT']);
      } else {
        await session.change(statements);
        await session.rollBack();
      }
    });
  }

  async verify(context: PendingContext<DatabaseCredentials>): Promise<void> {
    const { username } = context.pending.value;
    const currentRole = this.currentBeside(context, username);
    const roles = [username, ...(currentRole === undefined ? [] : [currentRole])];
    await proveUsable(this.setup, context.pending.value, context, async (session) => {
      const differences = mismatches(
        await readRoleProfiles(session, { roles, ownerRole: this.ownerRole }),
        username,
        this.ownerRole,
        currentRole,
      );
      if (differences.length > 0) throw new RoleMismatchError(username, differences);
    });
  }

  async retire(context: RetireContext<DatabaseCredentials>): Promise<RetireReport> {
    this.currentBeside(context, context.retiring.value.username);
    return this.putToRest(context.retiring.value, context);
  }

  async undo(context: PendingContext<DatabaseCredentials>): Promise<void> {
    this.currentBeside(context, context.pending.value.username);
    await this.putToRest(context.pending.value, context);
  }

  private async putToRest(credentials: DatabaseCredentials, context: StepContext): Promise<RetireReport> {
    const { username } = credentials;
    const admin = await adminCredentials(this.name, this.options.admin);
    return this.setup.primary.session(admin, `retiring role ${username}`, context, async (session) => {
      const glance = await glanceAtRole(session, username);
      const profiles =
        glance === 'entangled'
          ? await readRoleProfiles(session, { roles: [username], ownerRole: this.ownerRole })
          : undefined;
      const reaching = profiles === undefined ? [] : groundworkStatements(profiles, [username], this.ownerRole);
      const disabling = glance === 'absent' ? [] : [...reaching, disableRole(username)];
      const report = await proveDead(
        this.setup.primary,
        session,
        credentials,
        sessionsOf(username),
        context,
        disabling,
      );
      const role = profiles?.of(username);
      if (profiles !== undefined && role !== undefined && role.ownedHere > 0) {
        // What a role from outside the ring created after `apply`; only now, since its sessions held locks on it.
        await session.change(handOver(role, this.ownerRole, profiles.serverVersion));
      }
      return report;
    });
  }

  /** The role in use, which must be another one than the role this step is about to change. */
  private currentBeside(context: RotationContext<DatabaseCredentials>, role: string): string | undefined {
    const current = context.current?.value.username;
    if (current === role) {
      throw new PostgresTargetError(
        'ROLE_UNSUITABLE',
        `Role ${JSON.stringify(role)} belongs to the current version, and is left alone. Two versions of ${context.secretName} have one role: rotate once more, and put no versions by hand.`,
      );
    }
    return current;
  }

  private checkSuitable(current: RoleProfile | undefined): void {
    if (current === undefined) return;
    if (current.superuser) {
      throw new PostgresTargetError(
        'ROLE_UNSUITABLE',
        `The current role ${JSON.stringify(current.name)} is a superuser, whose powers must not be passed on. Give the application a role of its own: let the secret begin without a value, and pass the superuser as \`admin\`.`,
      );
    }
    if (current.runsAs !== undefined && current.runsAs !== this.ownerRole) {
      throw new PostgresTargetError(
        'ROLE_UNSUITABLE',
        `Sessions of ${JSON.stringify(current.name)} run as ${JSON.stringify(current.runsAs)}, while \`ownerRole\` is ${JSON.stringify(this.ownerRole)}. Make them the same.`,
      );
    }
  }
}
