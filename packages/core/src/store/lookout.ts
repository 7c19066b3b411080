/** How a store learns of the commits of other processes while somebody watches. Tells the store's watchers itself. */
export interface Lookout {
  /** Watchers came or went. */
  adjust(): void;
  /** Watchers have been told of all that this process committed after the revision `before`, up to `revision`. */
  told(before: number, revision: number): void;
  /** A call could not reach the server, or did not get its answer: hints may have been lost. */
  doubt(): void;
  close(): Promise<void>;
}
