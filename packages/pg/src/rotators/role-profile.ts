import type { TargetSession } from './postgres-target.js';
import {
  attributeFact,
  membershipFact,
  settingFact,
  type Membership,
  type RoleFact,
  type RoleSetting,
} from './role-facts.js';
import { roleGrantsQuery } from './role-grants-query.js';
import { literal } from './sql-quoting.js';

/** What one role is and has, its own name abstracted away. */
export interface RoleProfile {
  readonly name: string;
  readonly superuser: boolean;
  /** Memberships, attributes, settings, and what it was granted in this database and on shared objects. */
  readonly facts: readonly RoleFact[];
  /** The role its sessions run as (`ALTER ROLE … SET role`). */
  readonly runsAs: string | undefined;
  readonly memberships: readonly Membership[];
  /** Objects of this database, and shared ones, that belong to the role itself: how many, and the first few by name. */
  readonly ownedHere: number;
  readonly ownedExamples: readonly string[];
  /** Other databases in which it owns or was granted something. */
  readonly elsewhere: readonly string[];
  /** Whether the session that read this has the role's privileges. */
  readonly reachable: boolean;
  /** Whether it may connect, and create schemas and objects in `public`. */
  readonly equipped: boolean;
}

/** The roles that exist, by name, and who asked. */
export interface RoleProfiles {
  readonly serverVersion: number;
  readonly askedBySuperuser: boolean;
  readonly currentUser: string;
  readonly database: string;
  readonly hasPublicSchema: boolean;
  of(role: string): RoleProfile | undefined;
}

interface RawRole {
  readonly oid: number;
  readonly name: string;
  readonly superuser: boolean;
  readonly attributes: readonly string[];
  readonly connection_limit: number;
  readonly settings: readonly { readonly database: string | null; readonly entry: string }[] | null;
  readonly memberships: readonly Membership[] | null;
  readonly owned: readonly string[] | null;
  readonly owned_here: number;
  readonly granted_here: boolean;
  readonly elsewhere: readonly string[] | null;
  readonly reachable: boolean;
  readonly equipped: boolean;
}

interface RawGrant {
  readonly role: string;
  readonly head: string | null;
  readonly tail: string | null;
  readonly revoke_head: string | null;
  readonly revoke_tail: string | null;
  readonly label: string;
}

export interface RolesToRead {
  readonly roles: readonly string[];
  /** What this role was granted is only read where one of the others runs as itself: it is then to be compared with it. */
  readonly ownerRole: string;
  /** Changes made ahead, in the transaction the session is in. */
  readonly after?: readonly string[];
  /** Begins a transaction with the first look. */
  readonly begin?: boolean;
}

/**
 * Reads roles from the catalogs any user may read, in one round trip, and in a second one what they were granted, when there is any.
 * Names that no role bears are left out.
 */
export async function readRoleProfiles(
  session: TargetSession,
  { roles, ownerRole, after = [], begin = false }: RolesToRead,
): Promise<RoleProfiles> {
  if (after.length > 0) await session.change(after);
  const look = rolesQuery([...roles, ownerRole]);
  const answer = (await session.run(begin ? ['BEGIN', look] : [look])).at(-1)?.rows[0] as {
    version: number;
    superuser: boolean;
    current_user: string;
    database: string;
    has_public: boolean;
    roles: readonly RawRole[];
  };
  const runAsOwner = answer.roles.every((role) => role.name === ownerRole || runsAs(settingsOf(role)) === ownerRole);
  const withGrants = answer.roles
    .filter((role) => role.granted_here && !(runAsOwner && role.name === ownerRole))
    .map((role) => role.oid);
  const grants =
    withGrants.length === 0
      ? []
      : ((await session.run([roleGrantsQuery(withGrants, answer.version)])).at(-1)?.rows as RawGrant[]);
  const profiles = new Map(answer.roles.map((role) => [role.name, profileOf(role, grants)]));
  return {
    serverVersion: answer.version,
    askedBySuperuser: answer.superuser,
    currentUser: answer.current_user,
    database: answer.database,
    hasPublicSchema: answer.has_public,
    of: (role) => profiles.get(role),
  };
}

/**
 * A first look at a role, several times as cheap as its profile: `plain` when it owns nothing here and this session has its privileges, as
 * roles of a ring in good order do.
 */
export async function glanceAtRole(session: TargetSession, role: string): Promise<'absent' | 'plain' | 'entangled'> {
  const found = (
    await session.run([
      `SELECT pg_has_role(r.oid, 'USAGE') AND NOT EXISTS (SELECT FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass
        AND s.refobjid = r.oid AND s.deptype = 'o') AS plain
      FROM pg_roles r WHERE r.rolname = ${literal(role)}`,
    ])
  ).at(-1)?.rows[0] as { plain: boolean } | undefined;
  if (found === undefined) return 'absent';
  return found.plain ? 'plain' : 'entangled';
}

function profileOf(role: RawRole, grants: readonly RawGrant[]): RoleProfile {
  const settings = settingsOf(role);
  const memberships = role.memberships ?? [];
  return {
    name: role.name,
    superuser: role.superuser,
    facts: [
      ...role.attributes.map((attribute) =>
        attributeFact(attribute, opposite(attribute), LOG_IN_ATTRIBUTES.has(attribute)),
      ),
      ...(role.connection_limit === -1
        ? []
        : [attributeFact(`CONNECTION LIMIT ${role.connection_limit}`, 'CONNECTION LIMIT -1', true)]),
      ...memberships.map(membershipFact),
      ...settings.map(settingFact),
      ...grants.filter((grant) => Number(grant.role) === role.oid).map(grantFact),
    ],
    runsAs: runsAs(settings),
    memberships,
    ownedHere: role.owned_here,
    ownedExamples: role.owned ?? [],
    elsewhere: role.elsewhere ?? [],
    reachable: role.reachable,
    equipped: role.equipped,
  };
}

function settingsOf(role: RawRole): RoleSetting[] {
  return (role.settings ?? []).map(({ database, entry }) => {
    const equals = entry.indexOf('=');
    return { database, name: entry.slice(0, equals), value: entry.slice(equals + 1) };
  });
}

function runsAs(settings: readonly RoleSetting[]): string | undefined {
  return settings.find((setting) => setting.name === 'role' && setting.database === null)?.value;
}

const LOG_IN_ATTRIBUTES = new Set(['NOINHERIT', 'REPLICATION']);

function opposite(attribute: string): string {
  return attribute.startsWith('NO') ? attribute.slice(2) : `NO${attribute}`;
}

function grantFact({ head, tail, revoke_head, revoke_tail, label }: RawGrant): RoleFact {
  if (head === null || tail === null || revoke_head === null || revoke_tail === null) {
    return { key: label, label, logInOnly: false, grant: undefined, revoke: [] };
  }
  return {
    key: head + tail,
    label,
    logInOnly: false,
    grant: { head, tail },
    revoke: [{ head: revoke_head, tail: revoke_tail }],
  };
}

/** The options of a membership came with PostgreSQL 16: read through JSON, they are null before. */
function rolesQuery(names: readonly string[]): string {
  const list = names.map((name) => `${literal(name)}::name`).join(', ');
  return `
SELECT current_setting('server_version_num')::int AS version, current_user::text AS current_user,
  current_database()::text AS database, EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public') AS has_public,
  (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
  (SELECT coalesce(json_agg(to_json(described)), '[]') FROM (
    SELECT r.oid::int8 AS oid, r.rolname AS name, r.rolsuper AS superuser, r.rolconnlimit AS connection_limit,
      array_remove(ARRAY[
        CASE WHEN NOT r.rolinherit THEN 'NOINHERIT' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
        CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END,
        CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END], NULL) AS attributes,
      (SELECT json_agg(json_build_object('database', d.datname, 'entry', entry))
        FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase CROSS JOIN LATERAL unnest(s.setconfig) entry
        WHERE s.setrole = r.oid) AS settings,
      (SELECT json_agg(to_json(grouped)) FROM (
        SELECT g.rolname AS role, bool_or(m.admin_option) AS admin, bool_or((to_jsonb(m) ->> 'inherit_option')::bool) AS inherit,
          bool_or((to_jsonb(m) ->> 'set_option')::bool) AS set,
          CASE WHEN current_setting('server_version_num')::int >= 160000 THEN array_agg(pg_get_userbyid(m.grantor)) ELSE '{}' END AS grantors
        FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid GROUP BY g.rolname) grouped) AS memberships,
      reach.owned, reach.owned_here, reach.granted_here, reach.elsewhere,
      pg_has_role(r.oid, 'USAGE') AS reachable,
      has_database_privilege(r.oid, current_database(), 'CONNECT') AND has_database_privilege(r.oid, current_database(), 'CREATE')
        AND NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = 'public'
          AND NOT (has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_schema_privilege(r.oid, n.oid, 'CREATE'))) AS equipped
    FROM pg_roles r CROSS JOIN LATERAL (
      SELECT count(*) FILTER (WHERE here AND owned)::int AS owned_here,
        (array_agg(pg_describe_object(classid, objid, objsubid)) FILTER (WHERE here AND owned))[1:3] AS owned,
        coalesce(bool_or(here AND NOT owned), false) AS granted_here,
        array_agg(DISTINCT datname) FILTER (WHERE NOT here) AS elsewhere
      FROM (
        SELECT s.classid, s.objid, s.objsubid, d.datname, s.dbid = 0 OR d.datname = current_database() AS here,
          s.deptype = 'o' AND s.classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass) AS owned
        FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid
        WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid AND s.deptype IN ('o', 'a', 'r')
          AND NOT EXISTS (SELECT FROM pg_class c WHERE s.classid = 'pg_class'::regclass AND c.oid = s.objid
            AND d.datname = current_database() AND c.relpersistence = 't')
      ) dependency
    ) reach
    WHERE r.rolname = ANY (ARRAY[${list}])
  ) described) AS roles`;
}
