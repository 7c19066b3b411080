interface Needle {
  readonly name: string;
  readonly bytes: Buffer;
}

/** Looks for many byte strings in one pass: the database's files are large. */
export class Needles {
  /** Which 24 bits some needle begins with: a bit for each. */
  readonly #beginnings = new Uint8Array(2 ** 21);
  readonly #needles = new Map<number, Needle[]>();

  /** @param bytes at least 4 */
  add(name: string, bytes: Buffer): void {
    if (bytes.length < 4) throw new RangeError(`${name} is too short to be looked for.`);
    const beginning = bytes.readUIntBE(0, 3);
    this.#beginnings[beginning >> 3] = (this.#beginnings[beginning >> 3] ?? 0) | (1 << (beginning & 7));
    const sharing = this.#needles.get(beginning) ?? [];
    if (!sharing.some((other) => other.bytes.equals(bytes)))
      this.#needles.set(beginning, [...sharing, { name, bytes }]);
  }

  /** Where the first needle of each name is. */
  findIn(content: Buffer): Map<string, number> {
    const found = new Map<string, number>();
    let beginning = content.length < 3 ? 0 : content.readUInt16BE(0);
    for (let at = 0; at + 2 < content.length; at += 1) {
      beginning = ((beginning << 8) | (content[at + 2] ?? 0)) & 0xff_ff_ff;
      if (((this.#beginnings[beginning >> 3] ?? 0) & (1 << (beginning & 7))) === 0) continue;
      for (const { name, bytes } of this.#needles.get(beginning) ?? []) {
        if (found.has(name) || at + bytes.length > content.length) continue;
        if (content.compare(bytes, 0, bytes.length, at, at + bytes.length) === 0) found.set(name, at);
      }
    }
    return found;
  }
}
