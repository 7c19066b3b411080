import type { Principal } from '../access/principal.js';
import { AUDIT_KEY_ENTRY, openOwnKey } from '../doors/own-keys.js';
import type { VersionStore } from '../versions/version-store.js';
import type { AuditOptions } from './access-options.js';
import { type AuditLogMember, type JoinedAuditLog, SharedAuditLog } from './shared-audit-log.js';

/**
 * Opens the audit log that the module's options describe, or joins the one they name. A log of its own has a key in the store where the options have none.
 * @throws AuditOptionsError; what opening the sinks throws
 */
export async function openAudit(
  audit: AuditOptions | SharedAuditLog,
  versions: VersionStore,
  member: AuditLogMember,
): Promise<JoinedAuditLog> {
  // Not `instanceof`: it may come from the other build of this package.
  if ('join' in audit) return audit.join(member);
  const { origin = originOf(member.principal), key } = audit;
  return new SharedAuditLog({
    ...audit,
    origin,
    key: key ?? (await openOwnKey(versions, AUDIT_KEY_ENTRY, member.randomness)),
  }).join(member);
}

/** What the log of an application is called that says nothing else. */
function originOf({ name }: Principal): string {
  return `${name.replaceAll(/[^A-Za-z0-9._/:@-]/g, '-').replace(/^[^A-Za-z0-9]+/, '')}/audit`;
}
