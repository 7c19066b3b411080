import { AccessDeniedError } from '../access/access-errors.js';
import {
  secretResource,
  UNKNOWN,
  type AccessContext,
  type OperationFacts,
  type Resource,
  type SecretFacts,
  type Unknown,
} from '../access/access-request.js';
import { OPERATIONS, type ActionName, type OperationName } from '../access/actions.js';
import { describeDecision, type Decision } from '../access/decision.js';
import type { PolicyStore } from '../access/policy-store.js';
import { errorFields, type AuditEventInput } from '../audit/audit-event.js';
import { auditedRead, auditedWrite } from '../audit/audited-work.js';
import type { AuditLog } from '../audit/audit-log.js';
import { AuditUnavailableError } from '../audit/audit-errors.js';
import type { Clock } from '../foundation/clock.js';
import { stagesOf, type SecretRecord } from '../versions/secret-record.js';
import type { VersionStore } from '../versions/version-store.js';
import type { Caller } from './caller.js';
import { eventNameOf, resourceFieldsOf } from './operation-events.js';

export interface DoorParts {
  readonly policies: Pick<PolicyStore, 'decide' | 'refresh'>;
  /** Undefined where nothing is audited. */
  readonly log: Pick<AuditLog, 'record' | 'nextEventId' | 'health'> | undefined;
  /** Where the record of a secret is looked up when a policy asks about it. */
  readonly versions: Pick<VersionStore, 'find'>;
  readonly clock: Clock;
}

/** What somebody wants to do. */
export interface Asked {
  readonly operation: OperationName;
  readonly resource: Resource;
  readonly facts?: Omit<OperationFacts, 'operation' | 'stage'>;
  /** The stages asked for: each is decided by itself. */
  readonly stages?: readonly string[];
  /** The version whose stages are asked for, where it is named and they are not. */
  readonly stagesOf?: string;
  /** A listing of what is under a prefix: where policies ask about the secrets themselves, each is decided when it is listed. */
  readonly isListing?: boolean;
  /** For the event; never a value. */
  readonly parameters?: AuditEventInput['requestParameters'];
  /** Failures that are no event, since nothing was reached. */
  readonly isNoFailure?: (error: unknown) => boolean;
}

/** What was looked up to decide: undefined when no policy asked for it, null when there is no such secret. */
export type Seen = SecretRecord | null | undefined;

/**
 * The one way to everything that is worth guarding: authorise → act → audit. What is denied is not done: the store is not read for it (but for
 * the record of a secret that a policy asks about), nothing is decrypted, and the log has one event of it.
 */
export class Door {
  constructor(private readonly parts: DoorParts) {}

  /** Whether there is a log. */
  get isAudited(): boolean {
    return this.parts.log !== undefined;
  }

  /**
   * An operation that hands something out: one event when it is over, and nothing is handed out that was not recorded. `more` adds to the event
   * what only the result tells; where it returns null there is nothing to record.
   * @throws AccessDeniedError, AuditUnavailableError; otherwise what the work threw
   */
  async read<T>(
    caller: Caller,
    asked: Asked,
    work: (seen: Seen) => Promise<T>,
    more?: (result: T) => Partial<AuditEventInput> | null,
  ): Promise<T> {
    const now = this.parts.clock.now();
    const seen = await this.#admit(caller, asked, now);
    const { log } = this.parts;
    if (log === undefined) return work(seen);
    return auditedRead(log, this.#event(caller, asked, now), () => work(seen), more, asked.isNoFailure);
  }

  /**
   * An operation that changes something: recorded first, then done; a second event says when it failed.
   * @throws AccessDeniedError, AuditUnavailableError before anything was done; otherwise what the work threw
   */
  async write<T>(caller: Caller, asked: Asked, work: (seen: Seen) => Promise<T>): Promise<T> {
    const now = this.parts.clock.now();
    const seen = await this.#admit(caller, asked, now);
    const { log } = this.parts;
    if (log === undefined) return work(seen);
    return auditedWrite(log, this.#event(caller, asked, now), () => work(seen));
  }

  /**
   * For an operation whose answer cannot wait, and that hands out nothing that is stored: decided now, and recorded while the caller goes on. It does
   * not happen while a required sink is known to fail.
   * @throws AccessDeniedError, AuditUnavailableError
   */
  readNow<T>(caller: Caller, asked: Asked, work: () => T): T {
    const now = this.parts.clock.now();
    const decision = this.#decide(caller, asked, now, undefined);
    const { log } = this.parts;
    const failing = log?.health().find(({ mode, status }) => mode === 'required' && status === 'failing');
    if (failing !== undefined) throw new AuditUnavailableError(failing.name, failing.why ?? 'fails');
    const event = this.#event(caller, asked, now);
    const denial = decision.allowed ? undefined : deniedError(caller, asked, decision);
    log
      ?.record(denial === undefined ? event : { ...event, ...deniedFields(caller, asked, decision) })
      .catch(() => undefined);
    if (denial !== undefined) throw denial;
    return work();
  }

  /**
   * Whether something would be let in, before any work on it begins. Only a denial is recorded.
   * @throws AccessDeniedError, AuditUnavailableError
   */
  async check(caller: Caller, asked: Asked): Promise<void> {
    await this.#admit(caller, asked, this.parts.clock.now());
  }

  /** Decides, looking up what policies ask about; records nothing. */
  async decide(caller: Caller, asked: Asked): Promise<Decision> {
    return (await this.#judge(caller, asked, this.parts.clock.now())).decision;
  }

  /** Records what was denied elsewhere, by a decision of this door. */
  async recordDenial(caller: Caller, asked: Asked, decision: Decision): Promise<void> {
    const event = this.#event(caller, asked, this.parts.clock.now());
    await this.parts.log?.record({ ...event, ...deniedFields(caller, asked, decision) });
  }

  async #admit(caller: Caller, asked: Asked, now: number): Promise<Seen> {
    let judged: { decision: Decision; seen: Seen };
    try {
      judged = await this.#judge(caller, asked, now);
    } catch (error) {
      // Nothing could be decided, as when the address of the caller is none: so nothing is done.
      if (asked.isNoFailure?.(error) !== true)
        await this.parts.log?.record({ ...this.#event(caller, asked, now), ...errorFields(error) });
      throw error;
    }
    const { allowed, reason } = judged.decision;
    if (allowed || (reason === 'facts-needed' && asked.isListing === true)) return judged.seen;
    await this.recordDenial(caller, asked, judged.decision);
    throw deniedError(caller, asked, judged.decision);
  }

  async #judge(caller: Caller, asked: Asked, now: number): Promise<{ decision: Decision; seen: Seen }> {
    const isOfSecret = OPERATIONS[asked.operation].resource === 'secret' && asked.isListing !== true;
    if (isOfSecret && asked.resource.id.includes('@')) {
      const lease = await this.#leaseOf(asked.resource);
      if (lease !== undefined) return this.#judgeBy(caller, { ...asked, resource: lease.resource }, now, lease.record);
    }
    const judged = await this.#judgeBy(caller, asked, now, undefined);
    if (judged.decision.reason !== 'facts-needed' || !isOfSecret) return judged;
    const found = await this.parts.versions.find(nameOf(asked.resource));
    return this.#judgeBy(caller, asked, now, found?.record ?? null);
  }

  async #judgeBy(caller: Caller, asked: Asked, now: number, seen: Seen): Promise<{ decision: Decision; seen: Seen }> {
    const decision = this.#decide(caller, asked, now, seen);
    if (decision.reason !== 'policies-stale') return { decision, seen };
    // This process may just have slept for longer than its policies are good for.
    await this.parts.policies.refresh();
    return { decision: this.#decide(caller, asked, now, seen), seen };
  }

  /** A credential that belongs to an instance is decided as the secret it stands for; undefined for any other secret. */
  async #leaseOf(resource: Resource): Promise<{ resource: Resource; record: SecretRecord } | undefined> {
    const { versions } = this.parts;
    const record = (await versions.find(nameOf(resource)))?.record;
    if (record?.lease === undefined) return undefined;
    const secret = (await versions.find(record.lease.of))?.record;
    return { resource: secretResource(record.lease.of, secret === undefined ? NO_FACTS : factsOf(secret)), record };
  }

  /** Of several stages the worst decision; one that is certain before one that is not. */
  #decide(caller: Caller, asked: Asked, now: number, seen: Seen): Decision {
    const { operation, facts } = asked;
    const resource = seen === undefined ? asked.resource : withFacts(asked.resource, seen);
    const { action } = OPERATIONS[operation];
    const { principal, context } = caller;
    let worst: Decision | undefined;
    for (const stage of stagesAsked(asked, seen)) {
      const about: AccessContext = { ...context, time: now, operation, ...facts };
      const decision = this.#decideOne(principal, action, resource, stage === undefined ? about : { ...about, stage });
      if (!decision.allowed && decision.reason !== 'facts-needed') return decision;
      if (worst === undefined || !decision.allowed) worst = decision;
    }
    return worst ?? NOTHING_ASKED;
  }

  #decideOne(principal: Caller['principal'], action: ActionName, resource: Resource, context: AccessContext): Decision {
    return this.parts.policies.decide(principal, action, resource, context);
  }

  #event({ identity, context }: Caller, asked: Asked, now: number): AuditEventInput {
    const { operation, resource, parameters } = asked;
    const { resourceName, resourceType } = resourceFieldsOf(operation, resource);
    return {
      eventName: eventNameOf(operation),
      eventRW: OPERATIONS[operation].access === 'read' ? 'Read' : 'Write',
      eventTime: new Date(now).toISOString(),
      userIdentity: identity,
      sourceIpAddress: context.sourceAddress,
      userAgent: context.userAgent,
      requestId: context.requestId,
      resourceName,
      resourceType,
      requestParameters: parameters,
    };
  }
}

const nameOf = ({ id }: Resource): string => id.slice('secret/'.length);
const NO_STAGE: readonly undefined[] = [undefined];
const UNKNOWN_STAGE: readonly Unknown[] = [UNKNOWN];
const NO_FACTS: SecretFacts = { tags: {} };
const NOTHING_ASKED: Decision = { allowed: false, reason: 'no-allow', statements: [] };

function stagesAsked({ stages, stagesOf: versionId }: Asked, seen: Seen): readonly (string | Unknown | undefined)[] {
  if (stages !== undefined) return stages.length === 0 ? NO_STAGE : stages;
  if (versionId === undefined) return NO_STAGE;
  if (seen === undefined) return UNKNOWN_STAGE;
  const known = seen === null ? [] : stagesOf(seen, versionId);
  return known.length === 0 ? NO_STAGE : known;
}

function withFacts({ id, facts }: Resource, seen: SecretRecord | null): Resource {
  return { id, facts: facts ?? (seen === null ? NO_FACTS : factsOf(seen)) };
}

/** What conditions may ask about a secret. */
export function factsOf({ tags, type }: SecretRecord): SecretFacts {
  return { tags, secretType: type };
}

/** Which policy decided is for the log and for `simulate`, not for whoever was turned away. */
function deniedError({ principal }: Caller, { operation, resource }: Asked, decision: Decision): AccessDeniedError {
  const why =
    decision.reason === 'explicit-deny' ? 'a policy denies it' : describeDecision({ ...decision, statements: [] });
  return new AccessDeniedError(principal.id, OPERATIONS[operation].action, resource.id, why);
}

function deniedFields(
  { principal }: Caller,
  { operation, resource }: Asked,
  decision: Decision,
): Pick<AuditEventInput, 'errorCode' | 'errorMessage'> {
  const why = describeDecision(decision);
  return errorFields(new AccessDeniedError(principal.id, OPERATIONS[operation].action, resource.id, why));
}
