import type { PolicyStore } from '../access/policy-store.js';
import type { AuditDeskParts } from './audit-desk.js';
import type { Door } from '../doors/door.js';
import type { Clock } from '../foundation/clock.js';
import type { StoreIntegrity } from '../integrity/store-integrity.js';
import type { Randomness } from '../foundation/randomness.js';
import type { KeyManager } from '../keys/key-manager.js';
import type { Lifecycle } from '../lifecycle/lifecycle.js';
import type { RotationEngine } from '../rotation/rotation-engine.js';
import type { RotationJournal } from '../rotation/rotation-journal.js';
import type { RotationScheduler } from '../rotation/rotation-scheduler.js';
import type { SecretDefinitions } from '../versions/secret-definition.js';
import type { VersionStore } from '../versions/version-store.js';

/** What the manager stands on. */
export interface SecretsManagerParts {
  readonly door: Door;
  readonly versions: VersionStore;
  readonly definitions: SecretDefinitions;
  readonly engine: RotationEngine;
  readonly scheduler: RotationScheduler;
  readonly keys: KeyManager;
  readonly lifecycle: Lifecycle;
  readonly policies: PolicyStore;
  readonly journal: RotationJournal;
  /** Undefined where it was switched off. */
  readonly integrity: StoreIntegrity | undefined;
  /** Undefined where nothing is audited. */
  readonly audit: AuditDeskParts | undefined;
  readonly clock: Clock;
  readonly randomness: Randomness;
}
