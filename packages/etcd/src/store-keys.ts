/** Where a store stands in etcd. In JSON the gateway takes keys and values in base64. */
export class StoreKeys {
  /**
   * Put by every commit that writes, so its mod_revision is the store's revision, whoever else uses the cluster. Its value are the keys that
   * the commit wrote, for those who watch.
   */
  readonly head: string;
  readonly #entries: string;

  constructor(readonly prefix: string) {
    this.head = toBase64(`${prefix}/revision`);
    this.#entries = `${prefix}/entries/`;
  }

  entry(key: string): string {
    return toBase64(this.#entries + key);
  }

  /** The store's key for one of etcd's. */
  keyOf(entry: string): string {
    return fromBase64(entry).toString('latin1').slice(this.#entries.length);
  }
}

export function toBase64(text: string): string {
  return Buffer.from(text, 'latin1').toString('base64');
}

export function fromBase64(text: string): Buffer {
  return Buffer.from(text, 'base64');
}
