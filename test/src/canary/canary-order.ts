import type { AppPlace } from '../crash/rotating-app.js';

/** The child's one argument, in JSON. */
export interface CanaryOrder {
  readonly place: AppPlace;
  /** Values the application is given; none of them may be seen anywhere. */
  readonly canaries: {
    readonly initial: string;
    readonly put: string;
    /** In a value that does not fit its schema. */
    readonly misfit: string;
    /** In a value that is too large. */
    readonly oversized: string;
    /** Offered under a version id that has another value. */
    readonly conflicting: string;
    /** Put into a store on PostgreSQL, all statements logged. */
    readonly inPostgres: string;
  };
  /** The passwords that the rotator makes are written here, a line each. The only file that may show them. */
  readonly madeFile: string;
  /** Where copies of the store's files go while the application has them open. */
  readonly copyFolder: string;
}
