/** An instance's word on one secret: what it runs on, and what its consumers still hold. */
export interface Acknowledgement {
  readonly secretName: string;
  /** The promotion its handle has reached. */
  readonly promotion: number;
  /** The label of each consumer, with the version ids it holds. */
  readonly held: readonly { readonly label: string; readonly versionIds: readonly string[] }[];
}
