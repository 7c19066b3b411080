/** Every way in which a text may stand in a file: as it is, escaped, or encoded, also in the midst of something else that was encoded. */
export function formsOf(text: string): ReadonlySet<string> {
  const bytes = Buffer.from(text, 'utf8');
  const hex = bytes.toString('hex');
  return new Set([
    text,
    JSON.stringify(text).slice(1, -1),
    JSON.stringify(JSON.stringify(text)).slice(3, -3),
    encodeURIComponent(text),
    text.replaceAll("'", "''"),
    hex,
    hex.toUpperCase(),
    ...[0, 1, 2].flatMap((offset) => [innerBase64(bytes, offset, 'base64'), innerBase64(bytes, offset, 'base64url')]),
  ]);
}

/** The characters of a base64 text that depend on these bytes alone, when `offset` others (modulo 3) come before them and any behind. */
function innerBase64(bytes: Buffer, offset: number, encoding: 'base64' | 'base64url'): string {
  const encoded = Buffer.concat([Buffer.alloc(offset), bytes])
    .toString(encoding)
    .replace(/=+$/, '');
  const isLastShared = (offset + bytes.length) % 3 !== 0;
  return encoded.slice(Math.ceil((offset * 8) / 6), isLastShared ? -1 : undefined);
}

/** Which of the named texts are seen in which places, in whatever form. */
export function leaks(texts: ReadonlyMap<string, string>, places: ReadonlyMap<string, string>): string[] {
  const found: string[] = [];
  for (const [name, text] of texts) {
    const forms = [...formsOf(text)];
    for (const [place, content] of places) {
      const form = forms.find((form) => content.includes(form));
      if (form !== undefined) found.push(`${name} in ${place}: …${around(content, form)}…`);
    }
  }
  return found;
}

function around(content: string, form: string): string {
  const at = content.indexOf(form);
  return content.slice(Math.max(0, at - 80), at).replaceAll('\n', ' ');
}
