import type { AppPlace } from './rotating-app.js';

/**
 * What the process is doing when it is killed: making the very first version, rotating under load until the old version is retired, or taking
 * a rotation back whose `verify` failed.
 */
export type CrashScenario = 'bootstrap' | 'rotation' | 'undo';

/** The child's one argument, in JSON. Without `crashAt` it prints the names of all crash points it passed, in JSON. */
export interface CrashOrder {
  readonly place: AppPlace;
  readonly scenario: CrashScenario;
  readonly crashAt?: string;
}

/** In the place's folder: the last ledger value whose put was acknowledged. */
export const ACKNOWLEDGED_FILE = 'acknowledged.json';
