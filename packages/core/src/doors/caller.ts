import type { RequestContext } from '../access/access-request.js';
import type { Principal } from '../access/principal.js';
import type { AuditIdentity } from '../audit/audit-event.js';

/** How a call reached us, but for its time, which is when it is decided. */
export type CallContext = Omit<RequestContext, 'time'>;

/** Who asks, and how the call came: carried explicitly to every door, never looked up. */
export class Caller {
  /** The same, as events name it. */
  readonly identity: AuditIdentity;

  constructor(
    readonly principal: Principal,
    readonly context: CallContext = {},
  ) {
    const { kind, id, instanceId } = principal;
    this.identity =
      instanceId === undefined ? { type: kind, principalId: id } : { type: kind, principalId: id, instanceId };
  }
}
