import { probationMs } from '../versions/rotation-policy.js';
import { promote, type SecretRecord, setVersionState, versionAt } from '../versions/secret-record.js';
import type { JointEdit } from './rotation-journal.js';
import { atStep, type RotationState } from './rotation-state.js';

/**
 * The commit that makes a version current: the rotation ends in the journal, and the version before becomes an obligation to be retired. Undefined when
 * this rotation is not under way.
 */
export function promotion(
  before: RotationState,
  record: SecretRecord | undefined,
  rotationId: string,
  versionId: string,
  now: number,
): JointEdit | undefined {
  const { active, ...rest } = before;
  if (record === undefined || active?.rotationId !== rotationId) return undefined;
  const previousVersionId = versionAt(record, 'current')?.id;
  const { rotator, startedAt, notes, reason, deadline } = active;
  const promoted = promote(record, versionId, now);
  const lastRotation = {
    rotationId,
    reason,
    startedAt,
    endedAt: now,
    outcome: 'promoted' as const,
    versionId,
    ...(previousVersionId === undefined ? {} : { previousVersionId }),
  };
  if (previousVersionId === undefined)
    return { state: { ...rest, failures: 0, lastRotation }, edit: { record: promoted } };
  const obligation = {
    versionId: previousVersionId,
    replacedBy: versionId,
    promotion: promoted.promotion,
    rotationId,
    rotator,
    step: 'settle' as const,
    since: now,
    reason,
    steps: [...(atStep(active, 'promote', now).steps ?? []), { step: 'settle' as const, at: now }],
    notes,
    ...(before.failures === 0 ? {} : { failuresBefore: before.failures }),
    ...(deadline === undefined ? { notBefore: now + probationMs(record.rotation, reason, now) } : { deadline }),
  };
  return {
    state: { ...rest, failures: 0, lastRotation, obligations: [...rest.obligations, obligation] },
    edit: { record: setVersionState(promoted, previousVersionId, 'draining') },
  };
}
