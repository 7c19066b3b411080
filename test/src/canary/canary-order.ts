import type { AppPlace } from '../crash/rotating-app.js';

/** What an application lives through, beside its start and its end. */
export type Chapter =
  | 'listener'
  | 'creation'
  | 'manager'
  | 'rotation'
  | 'queries'
  | 'rollback'
  | 'lease'
  | 'store'
  | 'audit'
  | 'keys'
  | 'ends'
  | 'reports'
  | 'loggers'
  | 'process-report';

export const CHAPTERS: readonly Chapter[] = [
  'listener',
  'creation',
  'manager',
  'rotation',
  'queries',
  'rollback',
  'lease',
  'store',
  'audit',
  'keys',
  'ends',
  'reports',
  'loggers',
  'process-report',
];

/** In a file whose path is the child's one argument, since a command line can be seen by all; the child deletes it. */
export interface CanaryOrder {
  readonly place: AppPlace;
  readonly chapters: readonly Chapter[];
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
    /** Put into a store on the server, all statements logged. */
    readonly inStore: string;
    /** Given to a store on the server in the clear, past the manager: the server gets to see it, nobody else. */
    readonly givenToStore: string;
    /** In a URL that cannot be read. */
    readonly inUrl: string;
  };
  /** What rotators make is written here, a line each. The only file that may show it. */
  readonly madeFile: string;
  /** Where copies of the store's files go while the application has them open. */
  readonly copyFolder: string;
}
