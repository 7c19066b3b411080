import type { Subject } from 'rxjs';
import type { InstanceWatch } from '../fleet/instance-watch.js';
import type { Clock } from '../foundation/clock.js';
import type { VersionStore } from '../versions/version-store.js';
import type { EndDoor } from './end-door.js';
import type { KeyEvent } from './key-events.js';
import type { KeyTasks } from './key-tasks.js';

/** This process among those that share the store, as far as keys are concerned. */
export interface KeyInstance {
  readonly id: string;
  readonly leaseMs: number;
}

/** What everything about keys stands on. */
export interface KeyParts {
  readonly versions: VersionStore;
  readonly instance: KeyInstance;
  readonly instances: InstanceWatch;
  readonly clock: Clock;
  /** What stands before the destruction of a key. */
  readonly ends: EndDoor;
}

/** What the parts of it share. */
export interface KeyContext extends KeyParts {
  readonly tasks: KeyTasks;
  readonly events: Subject<KeyEvent>;
  /** Aborted when the application stops. */
  readonly signal: AbortSignal;
}
