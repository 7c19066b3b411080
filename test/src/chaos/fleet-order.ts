import type { DatabaseCredentials, Duration, RotateSecretOptions, RotationEvent } from '@nestjs-secrets/core';
import type { Address } from './faulty-link.js';
import type { FleetStorePlace } from './fleet-store.js';

export const CREDENTIALS = 'FleetDbCreds';
export const BASE_NAME = 'fleet';
export const STORE_TABLE = 'nestjs_secrets';

/** What one process of a fleet is told at its start, as its one argument in JSON. */
export interface FleetOrder {
  readonly name: string;
  /** The file of its `ProcessLog`. */
  readonly log: string;
  /** The key file, which all processes share. */
  readonly keys: string;
  readonly store: FleetStorePlace;
  /** As the application reaches it. */
  readonly target: Address & { readonly database: string };
  /** As rotations reach it. */
  readonly rotatorTarget: Address;
  readonly admin: DatabaseCredentials;
  readonly leaseMs: number;
  readonly answerWithinMs: number;
  readonly roles: number;
  readonly every: Duration | undefined;
  readonly probation: Duration | undefined;
  readonly maxFailures: number;
  readonly load: FleetLoad;
}

/** Workers of each kind; see `LoadWorkers`. */
export interface FleetLoad {
  readonly short: number;
  readonly transactions: number;
  readonly long: number;
}

/** What the parent asks of a process. */
export type FleetQuestion =
  /** `crashAt` names the crash point at which the process ends by SIGKILL. */
  | { readonly ask: 'rotate'; readonly options: RotateSecretOptions; readonly crashAt?: string }
  | { readonly ask: 'health' }
  /** Seals everything under the default master key anew; answers with the report. */
  | { readonly ask: 'rewrap' }
  /** Whether the administrator's credentials that rotations use are right. */
  | { readonly ask: 'admin'; readonly works: boolean }
  /** Answers with the number of queries that have not ended within the limit. */
  | { readonly ask: 'stop-load'; readonly limitMs: number }
  | { readonly ask: 'close' };

export type FleetRequest = FleetQuestion & { readonly id: number };

export type FleetMessage =
  | { readonly type: 'ready'; readonly instanceId: string }
  | { readonly type: 'event'; readonly event: RotationEvent }
  | { readonly type: 'answer'; readonly id: number; readonly answer?: unknown; readonly failure?: FleetFailure };

export interface FleetFailure {
  readonly code: string;
  readonly message: string;
}
