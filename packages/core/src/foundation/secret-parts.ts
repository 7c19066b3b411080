/** Shorter parts are left alone: blotting them out would mangle ordinary words. Characters of a string, bytes of a buffer. */
export const SHORTEST_SECRET_PART = 6;

export type SecretPart = string | Uint8Array;

/**
 * The strings and bytes a value consists of, those of 6 characters and more: also inside of maps, sets and URLs, the password of a string that
 * is a URL, and what is in a string that is JSON. `isShown` says of a property that its value is no secret.
 */
export function secretParts(value: unknown, isShown: (key: string) => boolean = () => false): SecretPart[] {
  const parts: SecretPart[] = [];
  const seen = new Set<object>();
  const collect = (value: unknown): void => {
    if (typeof value === 'string') {
      if (value.length < SHORTEST_SECRET_PART) return;
      parts.push(value);
      for (const inner of insideOf(value)) collect(inner);
    } else if (typeof value === 'object' && value !== null && !seen.has(value)) {
      seen.add(value);
      if (value instanceof Uint8Array) {
        if (value.byteLength >= SHORTEST_SECRET_PART) parts.push(value);
      } else if (value instanceof Map || value instanceof Set) {
        for (const one of [...value].flat()) collect(one);
      } else if (value instanceof URL) {
        collect(value.href);
      } else {
        for (const [key, one] of Object.entries(value)) if (!isShown(key)) collect(one);
      }
    }
  };
  collect(value);
  return parts;
}

function insideOf(text: string): unknown[] {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    return url === undefined ? [] : [url.password, decoded(url.password)].filter((password) => password !== text);
  }
  if (!/^\s*[[{"]/.test(text)) return [];
  try {
    return [JSON.parse(text)].filter((inner) => inner !== text);
  } catch {
    // Not JSON after all. The error is not kept, since it quotes its input.
    return [];
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
