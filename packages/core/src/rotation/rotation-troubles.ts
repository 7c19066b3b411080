import type { Observable } from 'rxjs';
import type { Clock } from '../foundation/clock.js';
import type { RotationEvent } from './rotation-events.js';

/** What is wrong with the rotation of a secret, as far as this instance has to do with it. */
export interface RotationTrouble {
  /**
   * `failing`: the latest rotation or retirement failed and is tried again. `rolled-back`: consumers could not work with the new version. `suspended`: it
   * has failed too often, and the schedule stands still. `waiting`: the next rotation waits since older versions are still held.
   */
  readonly status: 'failing' | 'rolled-back' | 'suspended' | 'waiting';
  /** Redacted. */
  readonly message: string;
  /** Milliseconds since the epoch. */
  readonly since: number;
}

/** Remembers, for health, what the rotations of this instance have met with, until it is over. */
export class RotationTroubles {
  readonly #troubles = new Map<string, RotationTrouble>();

  constructor(
    events: Observable<RotationEvent>,
    private readonly clock: Clock,
  ) {
    events.subscribe((event) => this.#take(event));
  }

  current(): ReadonlyMap<string, RotationTrouble> {
    return this.#troubles;
  }

  #take(event: RotationEvent): void {
    const { secretName, type } = event;
    const set = (status: RotationTrouble['status'], message: string): void => {
      const known = this.#troubles.get(secretName);
      const since = known?.status === status ? known.since : this.clock.now();
      this.#troubles.set(secretName, { status, message, since });
    };
    const isSuspended = this.#troubles.get(secretName)?.status === 'suspended';
    if (type === 'suspended') set('suspended', `${event.failures} rotations in a row have failed`);
    else if (type === 'rolled-back') set('rolled-back', event.message);
    else if (type === 'failed' && !isSuspended) set('failing', event.message);
    else if (type === 'waiting') set('waiting', `held by: ${event.holders.join(', ') || 'a retirement under way'}`);
    else if (type === 'promoted') this.#troubles.delete(secretName);
    else if (type === 'retired' && this.#troubles.get(secretName)?.status === 'failing')
      this.#troubles.delete(secretName);
  }
}
