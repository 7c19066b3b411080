/** Every string a value consists of, as it may appear in a message, if it is long enough to blot out without mangling ordinary words. */
export function secretStrings(value: unknown, found: Set<string> = new Set()): Set<string> {
  if (typeof value === 'string') {
    if (value.length >= 6) {
      found.add(value);
      found.add(encodeURIComponent(value));
      found.add(JSON.stringify(value).slice(1, -1));
    }
  } else if (value instanceof Uint8Array) {
    const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    if (bytes.length >= 6) for (const encoding of ['utf8', 'base64', 'hex'] as const) found.add(bytes.toString(encoding));
  } else if (typeof value === 'object' && value !== null) {
    for (const part of Object.values(value)) secretStrings(part, found);
  }
  return found;
}
