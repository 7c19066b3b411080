/** The names of one store in Redis. The braces have Redis Cluster keep all of it in one slot. */
export class StoreKeys {
  /** A hash: key → the entry's revision in decimal, a space, the bytes of its value. */
  readonly entries: string;
  /** A sorted set of all keys with equal scores, which Redis orders by byte. */
  readonly index: string;
  /** A counter: the store's revision. */
  readonly revision: string;
  /** The channel on which commits are told. */
  readonly channel: string;

  constructor(prefix: string) {
    this.entries = `{${prefix}}:entries`;
    this.index = `{${prefix}}:index`;
    this.revision = `{${prefix}}:revision`;
    this.channel = `{${prefix}}:hints`;
  }
}
