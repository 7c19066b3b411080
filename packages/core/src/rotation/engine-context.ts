import type { Subject } from 'rxjs';
import type { Consumers } from '../fleet/consumers.js';
import type { FailureReports } from '../fleet/failure-reports.js';
import type { Instance } from '../fleet/instance.js';
import type { InstanceWatch } from '../fleet/instance-watch.js';
import type { Clock } from '../foundation/clock.js';
import type { Ids } from '../foundation/ids.js';
import type { Randomness } from '../foundation/randomness.js';
import type { SecretDefinitions } from '../versions/secret-definition.js';
import type { SecretVersion } from '../versions/secret-version.js';
import { ConcealedVersion } from '../versions/secret-version.js';
import type { VersionStore } from '../versions/version-store.js';
import type { RotationEvent } from './rotation-events.js';
import type { RotationJournal } from './rotation-journal.js';
import type { Tenures } from './rotation-tenure.js';
import type { Rotators } from './rotators.js';
import type { StepDoor } from './step-door.js';
import type { TargetTurns } from './target-turns.js';

/** What the engine stands on. */
export interface EngineParts {
  readonly versions: VersionStore;
  readonly journal: RotationJournal;
  readonly rotators: Rotators;
  readonly instance: Instance;
  readonly instances: InstanceWatch;
  readonly consumers: Consumers;
  readonly reports: FailureReports;
  readonly definitions: SecretDefinitions;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly ids: Ids;
  /** What stands before each step; open by default. */
  readonly door?: StepDoor;
}

/** What the parts of the engine share. */
export interface EngineContext extends EngineParts {
  readonly door: StepDoor;
  readonly tenures: Tenures;
  readonly events: Subject<RotationEvent>;
  readonly turns: TargetTurns;
  /** Aborted when the engine stops. */
  readonly signal: AbortSignal;
}

/** A stored version as steps see it. */
export async function loadVersion(
  context: EngineContext,
  secretName: string,
  versionId: string,
): Promise<SecretVersion> {
  return new ConcealedVersion(secretName, versionId, await context.versions.openValue(secretName, versionId));
}

/** How long to wait before try number `attempt` (from 1): 1 s doubling to 60 s, of which a random half is taken off so that many do not come at once. */
export function retryDelay(attempt: number, randomness: Randomness): number {
  const longest = Math.min(60_000, 1_000 * 2 ** Math.min(attempt - 1, 10));
  return longest / 2 + randomness.below(longest / 2);
}

/** The redacted or stable words of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : 'unknown error';
}
