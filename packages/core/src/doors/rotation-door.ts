import { secretResource } from '../access/access-request.js';
import { principalOf } from '../access/principal.js';
import type { AuditData, AuditEventInput } from '../audit/audit-event.js';
import type { AuditLog } from '../audit/audit-log.js';
import type { RotationReport, StepAsked, StepDoor } from '../rotation/step-door.js';
import { Caller } from './caller.js';
import type { Asked, Door } from './door.js';

/** The doors of the rotation engine: each step in the name of its rotator, and the sealed report when a rotation has come to its end. */
export class RotationDoor implements StepDoor {
  readonly #callers = new Map<string, Caller>();

  constructor(
    private readonly door: Door,
    private readonly log: Pick<AuditLog, 'record'> | undefined,
    private readonly instanceId: string,
  ) {}

  check(step: StepAsked): Promise<void> {
    return this.door.check(this.#caller(step.rotator), askedOf(step));
  }

  step<T>(step: StepAsked, work: () => Promise<T>): Promise<T> {
    return this.door.write(this.#caller(step.rotator), askedOf(step), work);
  }

  async conclude(make: () => Promise<RotationReport>): Promise<void> {
    if (this.log === undefined) return;
    const report = await make();
    await this.log.record({
      eventName: 'RotationReport',
      eventRW: 'Write',
      eventType: 'ServiceEvent',
      userIdentity: this.#caller(report.rotator).identity,
      resourceName: report.secretName,
      resourceType: 'Secret',
      ...(report.failure && { errorCode: 'RotationFailed', errorMessage: report.failure.message }),
      requestParameters: { rotationId: report.rotationId, reason: report.reason },
      additionalEventData: reportData(report),
    });
  }

  #caller(rotator: string): Caller {
    let caller = this.#callers.get(rotator);
    if (caller === undefined) {
      caller = new Caller(principalOf('rotator', rotator, { instanceId: this.instanceId }));
      this.#callers.set(rotator, caller);
    }
    return caller;
  }
}

function askedOf({ operation, secretName, rotationId, versionId, reason, settled }: StepAsked): Asked {
  return {
    operation,
    resource: secretResource(secretName),
    facts: { versionId },
    parameters: { rotationId, versionId, reason, acknowledged: settled?.acknowledged, cutOff: settled?.cutOff },
  };
}

/** Times as texts, like those of events. */
function reportData(report: RotationReport): NonNullable<AuditEventInput['additionalEventData']> {
  const { outcome, versionId, previousVersionId, steps, failure, settled, retired, refusals } = report;
  const refused: AuditData[] = refusals.map(({ versionId: refusedId, kind, code, consumer }) => ({
    versionId: refusedId,
    kind,
    code,
    consumer,
  }));
  return {
    outcome,
    currentVersionId: versionId,
    previousVersionId,
    steps: steps.map(({ step, at }) => ({ step, at: new Date(at).toISOString() })),
    failedAt: failure?.step,
    settledAt: settled && new Date(settled.at).toISOString(),
    acknowledged: settled?.acknowledged,
    cutOff: settled?.cutOff,
    oldOneRefused: retired?.refused,
    sessionsEnded: retired?.sessionsEnded,
    sessionsLeft: retired?.sessionsLeft,
    refusals: refused,
  };
}
