/** From MyApp, in a process of its own, to the demo. */
export type AppMessage =
  | { readonly type: 'listening'; readonly url: string }
  | { readonly type: 'promoted' }
  | { readonly type: 'generations'; readonly connections: Readonly<Record<string, number>> }
  | { readonly type: 'proof'; readonly proof: RetirementProof };

/** From the demo to MyApp: rotate no more, retire what is left and try every old credential. */
export type DemoMessage = { readonly type: 'prove' };

/** What came of every old credential, tried for real. */
export interface RetirementProof {
  /** Credentials that were replaced; with each of them a log-in was attempted. */
  readonly attempted: number;
  /** Of these, refused by the server both when they were retired and at the end. */
  readonly refused: number;
  /** Sessions of replaced credentials still open. */
  readonly sessionsLeft: number;
}

export function tellDemo(message: AppMessage): void {
  // Without the demo there is nobody to tell, and once it is gone nobody cares.
  process.send?.(message, undefined, {}, () => undefined);
}
