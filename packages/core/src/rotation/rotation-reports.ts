import type { CredentialFailure } from '../fleet/failure-reports.js';
import type { EngineContext } from './engine-context.js';
import type { ActiveRotation, RetireObligation } from './rotation-state.js';
import type { RotationReport } from './step-door.js';

/** So many refusals are named in a report; they come in threes from each instance. */
const MOST_REFUSALS = 30;

type Ending = Pick<RotationReport, 'outcome'> &
  Partial<Pick<RotationReport, 'versionId' | 'previousVersionId' | 'failure' | 'settled' | 'retired'>>;

/** Has the report of a rotation kept, before the commit that ends it. */
export function concludeRotation(
  { door, reports }: Pick<EngineContext, 'door' | 'reports'>,
  secretName: string,
  rotation: Pick<ActiveRotation | RetireObligation, 'rotationId' | 'rotator' | 'reason' | 'steps'>,
  ending: Ending,
): Promise<void> {
  const { rotationId, rotator, reason, steps = [] } = rotation;
  return door.conclude(async () => {
    const concerned = [ending.versionId, ending.previousVersionId];
    const refusals: CredentialFailure[] = await reports.read(secretName);
    return {
      secretName,
      rotationId,
      rotator,
      reason,
      steps,
      ...ending,
      refusals: refusals.filter(({ versionId }) => concerned.includes(versionId)).slice(0, MOST_REFUSALS),
    };
  });
}
