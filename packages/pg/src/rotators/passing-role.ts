import { createHash } from 'node:crypto';
import type { DatabaseCredentials, RetireReport } from '@nestjs-secrets/core';
import { disableRole, proveDead, sessionsOf } from './old-credential.js';
import { PostgresTargetError } from './postgres-target-errors.js';
import type { PostgresTarget, StepContext, TargetSession } from './postgres-target.js';
import { identifier, literal } from './sql-quoting.js';

/*
 * Roles that a rotator makes and drops again: leases, and the throw-away roles of a rehearsal. Each bears a comment from the transaction that
 * made it, and no role without it is ever dropped or changed, whatever its name.
 */

const MARK = 'made by nestjs-secrets, which drops it again';

/** What there is under the name of a passing role. */
export interface PassingRole {
  readonly isOurs: boolean;
  readonly logsIn: boolean;
  /** In milliseconds since the epoch, on the server's clock; `Infinity` when its password never ends. */
  readonly validUntil: number;
  /** Whether the session that read this has the role's privileges. */
  readonly reachable: boolean;
  /** Other databases in which it owns or was granted something. */
  readonly elsewhere: readonly string[];
}

/** Undefined when there is no such role. */
export async function lookAtPassingRole(session: TargetSession, role: string): Promise<PassingRole | undefined> {
  const [found] = await session.run([
    `SELECT coalesce(shobj_description(r.oid, 'pg_authid') = ${literal(MARK)}, false) AS "isOurs", r.rolcanlogin AS "logsIn",
      coalesce(extract(epoch FROM r.rolvaliduntil) * 1000, 'infinity')::float8 AS "validUntil",
      pg_has_role(r.oid, 'USAGE') AS reachable,
      ARRAY(SELECT DISTINCT d.datname::text FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid
        WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid AND d.datname <> current_database()) AS elsewhere
    FROM pg_roles r WHERE r.rolname = ${literal(role)}`,
  ]);
  return found?.rows[0] as PassingRole | undefined;
}

/** Brings a passing role into being; nothing when it is there. @throws PostgresTargetError `ROLE_UNSUITABLE` */
export function makeStatements(role: string, found: PassingRole | undefined): string[] {
  assertOurs(role, found);
  return found === undefined ? [`CREATE ROLE ${identifier(role)} LOGIN`, marking(role)] : [];
}

/** Marks those of these roles that are about to be made. @throws PostgresTargetError `ROLE_UNSUITABLE` when another one is not ours. */
export async function markStatements(session: TargetSession, roles: readonly string[]): Promise<string[]> {
  const statements: string[] = [];
  for (const role of roles) {
    const found = await lookAtPassingRole(session, role);
    assertOurs(role, found);
    if (found === undefined) statements.push(marking(role));
  }
  return statements;
}

function marking(role: string): string {
  return `COMMENT ON ROLE ${identifier(role)} IS ${literal(MARK)}`;
}

/** Gives the session the privileges of a role it administers, where it lacks them. */
export async function reachStatements(session: TargetSession, roles: readonly string[]): Promise<string[]> {
  if (roles.length === 0) return [];
  const [answer] = await session.run([
    `SELECT r.rolname AS name, current_setting('server_version_num')::int >= 160000 AS options FROM pg_roles r
    WHERE r.rolname IN (${roles.map(literal).join(', ')}) AND NOT pg_has_role(r.oid, 'USAGE')`,
  ]);
  return (answer?.rows ?? []).map(
    ({ name, options }) => `GRANT ${identifier(name)} TO CURRENT_USER${options ? ' WITH INHERIT TRUE, SET TRUE' : ''}`,
  );
}

export interface Dismissal {
  readonly target: PostgresTarget;
  readonly admin: DatabaseCredentials;
  readonly role: string;
  /** Tried at the log-in, which must be refused. Without it the role is one that never logs in. */
  readonly credentials?: DatabaseCredentials;
  /** Gets what the role owns; without an heir all of it is dropped. */
  readonly heir?: string;
}

/**
 * Drops a passing role: no log-in any more, its sessions ended, the refusal proven, what it owned handed on or dropped in every database, its
 * grants revoked. Comes to the same end when it is repeated after a crash, at whatever point, and when the role is gone already.
 * @throws PostgresTargetError `ROLE_UNSUITABLE` when no rotator made the role; what `proveDead` throws.
 */
export async function dismissRole(dismissal: Dismissal, context: StepContext): Promise<RetireReport> {
  const { target, admin, role, credentials } = dismissal;
  const doing = `dropping role ${role}`;
  return target.session(admin, doing, context, async (session) => {
    const found = await lookAtPassingRole(session, role);
    assertOurs(role, found);
    const disabling = found === undefined ? [] : [...(await reachStatements(session, [role])), disableRole(role)];
    let report: RetireReport = { refused: true, sessionsEnded: 0, sessionsLeft: 0 };
    if (credentials !== undefined) {
      report = await proveDead(target, session, credentials, sessionsOf(role), context, disabling);
    } else if (disabling.length > 0) {
      await session.change(disabling);
    }
    if (found === undefined) return report;
    for (const database of found.elsewhere) {
      await target.in(database).session(admin, doing, context, async (other) => {
        await other.change(await leftoversStatements(other, dismissal));
      });
    }
    await session.change([...(await leftoversStatements(session, dismissal)), `DROP ROLE ${identifier(role)}`]);
    return report;
  });
}

async function leftoversStatements(session: TargetSession, { role, heir }: Dismissal): Promise<string[]> {
  const name = identifier(role);
  if (heir === undefined) return [`DROP OWNED BY ${name}`];
  return [
    ...(await reachStatements(session, [heir])),
    `REASSIGN OWNED BY ${name} TO ${identifier(heir)}`,
    // What is left after that are grants and default privileges.
    `DROP OWNED BY ${name}`,
  ];
}

function assertOurs(role: string, found: PassingRole | undefined): void {
  if (found === undefined || found.isOurs) return;
  throw new PostgresTargetError(
    'ROLE_UNSUITABLE',
    `Role ${JSON.stringify(role)} was not made by nestjs-secrets, and is left alone. Choose another \`baseName\` or \`username\`.`,
  );
}

/** `<base>_<suffix>`, the base cut short and told apart by a digest where PostgreSQL's 63 bytes are not enough. */
export function derivedRoleName(base: string, suffix: string): string {
  const whole = `${base}_${suffix}`;
  if (Buffer.byteLength(whole) <= 63) return whole;
  const tail = `_${createHash('sha256').update(base).digest('hex').slice(0, 8)}_${suffix}`;
  let head = base;
  while (Buffer.byteLength(head + tail) > 63) head = Array.from(head).slice(0, -1).join('');
  return head + tail;
}
