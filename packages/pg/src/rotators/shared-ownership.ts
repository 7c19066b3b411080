import { differenceOf, membershipFact, settingFact, statementsFor, type RoleFact } from './role-facts.js';
import type { RoleProfile, RoleProfiles } from './role-profile.js';
import { identifier, literal } from './sql-quoting.js';

/*
 * The scheme under alternating users: the roles of the ring log in, and every session of theirs runs as one owner role, which never logs in
 * (`ALTER ROLE … SET role`). What a session creates belongs to the owner, and so to all of the ring alike.
 */

/** The schema facts a role of the ring has of its own accord. */
export function ringFacts(ownerRole: string, serverVersion: number): RoleFact[] {
  const options = serverVersion >= 160_000;
  return [
    membershipFact({
      role: ownerRole,
      admin: false,
      inherit: options ? true : null,
      set: options ? true : null,
      grantors: [],
    }),
    settingFact({ database: null, name: 'role', value: ownerRole }),
  ];
}

export const isRoleSetting = (fact: RoleFact): boolean => fact.label === 'setting role';

/** What the pending role must have: the ring's own facts, and whatever the current role has. */
export function expectedFacts(ownerRole: string, serverVersion: number, current: RoleProfile | undefined): RoleFact[] {
  const ring = ringFacts(ownerRole, serverVersion);
  const inOwner = new Set(
    current?.memberships.filter((membership) => membership.role === ownerRole).map((own) => membershipFact(own).key),
  );
  // Policies and user mappings go by the role a session runs as, which is the owner.
  const copied = (current?.facts ?? []).filter(
    (fact) => fact.grant !== undefined && !inOwner.has(fact.key) && !isRoleSetting(fact),
  );
  return [...ring, ...copied];
}

/**
 * What the owner role must have: everything of a current role whose sessions do not run as the owner, because it comes from outside the ring.
 * Sessions of the new role will run as the owner, so a grant to the new role itself would do nothing for them.
 */
export function ownerFacts(ownerRole: string, current: RoleProfile | undefined): RoleFact[] {
  if (current === undefined || current.runsAs === ownerRole) return [];
  return current.facts.filter((fact) => !fact.logInOnly && fact.grant?.head !== `GRANT ${identifier(ownerRole)} TO `);
}

/** Statements that make a role the owner's equal in what the owner owns, and give the owner what belongs to the role. */
export function handOver(from: RoleProfile, ownerRole: string, serverVersion: number): string[] {
  if (from.ownedHere === 0) return [];
  const membership = from.memberships.some((own) => own.role === ownerRole)
    ? []
    : statementsFor(from.name, { missing: ringFacts(ownerRole, serverVersion).slice(0, 1), surplus: [] });
  return [...membership, `REASSIGN OWNED BY ${identifier(from.name)} TO ${identifier(ownerRole)}`];
}

/** One line for each way in which `pending` (as read) would serve worse than `current`, or than the scheme demands. */
export function mismatches(
  profiles: RoleProfiles,
  pendingRole: string,
  ownerRole: string,
  currentRole: string | undefined,
  { currentMayOwn = false }: { readonly currentMayOwn?: boolean } = {},
): string[] {
  const pending = profiles.of(pendingRole);
  const owner = profiles.of(ownerRole);
  const current = currentRole === undefined ? undefined : profiles.of(currentRole);
  if (pending === undefined) return [`role ${pendingRole} does not exist`];
  if (owner === undefined) return [`the owner role ${ownerRole} does not exist`];
  const found: string[] = [];
  if (profiles.currentUser !== ownerRole)
    found.push(`its sessions run as ${profiles.currentUser} instead of ${ownerRole}`);
  const { missing, surplus } = differenceOf(expectedFacts(ownerRole, profiles.serverVersion, current), pending.facts);
  found.push(...missing.map((fact) => `it lacks ${fact.label}`));
  // Without a current role there is nothing to have more than, and the owner must have what an application begins with.
  if (current === undefined) {
    if (!owner.equipped)
      found.push(`${ownerRole} may not connect to ${profiles.database} or not create in it and in its schema public`);
  } else {
    found.push(
      ...surplus
        .filter((fact) => fact.grant !== undefined)
        .map((fact) => `beyond ${current.name} it has ${fact.label}`),
    );
  }
  const lacking = differenceOf(ownerFacts(ownerRole, current), owner.facts).missing;
  found.push(
    ...lacking.map((fact) => `${ownerRole}, which its sessions run as, lacks ${fact.label} of ${currentRole ?? ''}`),
  );
  for (const role of new Set([current, pending])) {
    if (role === undefined) continue;
    if (role.ownedHere > 0 && !(currentMayOwn && role === current)) {
      found.push(
        `${role.name} itself owns ${role.ownedHere} object(s) that should belong to ${ownerRole}, such as ${role.ownedExamples.join(', ')}`,
      );
    }
    if (role.elsewhere.length > 0) {
      found.push(
        `${role.name} has objects or grants in other databases (${role.elsewhere.join(', ')}), which this rotator cannot pass on: reassign them to ${ownerRole} there`,
      );
    }
  }
  return found;
}

/** The statements that teach the server the pending role. `fresh` must have been read after any hand-over. */
export function applyStatements(options: {
  readonly fresh: RoleProfiles;
  readonly pendingRole: string;
  readonly ownerRole: string;
  readonly currentRole: string | undefined;
  readonly verifier: string;
}): string[] {
  const { fresh, pendingRole, ownerRole, currentRole, verifier } = options;
  const pending = fresh.of(pendingRole);
  const current = currentRole === undefined ? undefined : fresh.of(currentRole);
  const difference = differenceOf(expectedFacts(ownerRole, fresh.serverVersion, current), pending?.facts ?? []);
  const ownerLacks = differenceOf(ownerFacts(ownerRole, current), fresh.of(ownerRole)?.facts ?? []).missing;
  const revocable = current === undefined ? [] : difference.surplus;
  return [
    // VALID UNTIL limits a password rather than a role: this password is new.
    `ALTER ROLE ${identifier(pendingRole)} LOGIN PASSWORD ${literal(verifier)} VALID UNTIL 'infinity'`,
    ...statementsFor(pendingRole, { missing: difference.missing, surplus: revocable }),
    ...statementsFor(ownerRole, { missing: ownerLacks, surplus: [] }),
  ];
}

/** Brings the roles into being, and the administrator to where it may act for them; nothing when that is so already. */
export function groundworkStatements(profiles: RoleProfiles, roles: readonly string[], ownerRole: string): string[] {
  return roles.flatMap((role) => {
    const profile = profiles.of(role);
    const name = identifier(role);
    const create = profile === undefined ? [`CREATE ROLE ${name} ${role === ownerRole ? 'NOLOGIN' : 'LOGIN'}`] : [];
    if (profiles.askedBySuperuser || profile?.reachable) return create;
    // PostgreSQL 16 gives the creator of a role ADMIN OPTION alone: what it needs to act for the role it grants itself.
    const options = profiles.serverVersion >= 160_000 ? ' WITH INHERIT TRUE, SET TRUE' : '';
    return [...create, `GRANT ${name} TO CURRENT_USER${options}`];
  });
}

/** What an application needs on an empty database: to connect, and to create schemas and what goes into `public`. */
export function equipOwnerStatements(profiles: RoleProfiles, ownerRole: string): string[] {
  if (profiles.of(ownerRole)?.equipped) return [];
  const owner = identifier(ownerRole);
  return [
    `GRANT CONNECT, CREATE, TEMPORARY ON DATABASE ${identifier(profiles.database)} TO ${owner}`,
    ...(profiles.hasPublicSchema ? [`GRANT USAGE, CREATE ON SCHEMA public TO ${owner}`] : []),
  ];
}
