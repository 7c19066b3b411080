import { inspect } from 'node:util';
import { SHORTEST_SECRET_PART, type SecretPart } from './secret-parts.js';

/**
 * Every way in which logs and messages show a string or bytes: as it is; escaped as in JSON (up to three times), in JavaScript, SQL and URLs; in
 * hexadecimal; in base64 and base64url, also in the midst of something longer that was encoded, such as a `Basic` authorization.
 */
export function formsOf(part: SecretPart): Set<string> {
  const bytes =
    typeof part === 'string' ? Buffer.from(part, 'utf8') : Buffer.from(part.buffer, part.byteOffset, part.byteLength);
  const text = typeof part === 'string' ? part : bytes.toString('utf8');
  // By way of UTF-8, since encodeURIComponent throws at half a surrogate pair.
  const inUrl = encodeURIComponent(bytes.toString('utf8'));
  const inForm = inUrl.replaceAll('%20', '+');
  const hex = bytes.toString('hex');
  const written = [
    text,
    inJson(inJson(text)),
    inspect(text).slice(1, -1),
    text.replaceAll("'", "''"),
    inUrl,
    inForm,
    inUrl.replaceAll(/%[0-9A-F]{2}/g, (escaped) => escaped.toLowerCase()),
    hex,
    hex.toUpperCase(),
    ...(['base64', 'base64url'] as const).flatMap((encoding) => [
      bytes.toString(encoding).replace(/=+$/, ''),
      ...[0, 1, 2].map((offset) => inTheMidst(bytes, offset, encoding)),
    ]),
  ];
  // Once more each, since a line of JSON escapes whatever it is made of.
  const forms = [...written, ...written.map(inJson)];
  return new Set(forms.filter((form) => form.length >= SHORTEST_SECRET_PART));
}

function inJson(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/** The characters that depend on these bytes alone, whatever stands before them (`offset` bytes, modulo 3) and behind. */
function inTheMidst(bytes: Buffer, offset: number, encoding: 'base64' | 'base64url'): string {
  const padded = Buffer.alloc(offset + bytes.length);
  bytes.copy(padded, offset);
  const encoded = padded.toString(encoding).replace(/=+$/, '');
  padded.fill(0);
  const sharesLast = (offset + bytes.length) % 3 !== 0;
  return encoded.slice(Math.ceil((offset * 8) / 6), sharesLast ? -1 : undefined);
}
