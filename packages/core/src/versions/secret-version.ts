/** One immutable value of a secret, with the id of its version: the pair is never torn. Prints without its value. */
export interface SecretVersion<T = unknown> {
  /** The secret's name. */
  readonly name: string;
  readonly versionId: string;
  readonly value: T;
}
