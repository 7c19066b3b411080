import { Needles } from './needles.js';

/** Every way in which a text may stand in a file: as it is, escaped, or encoded, also in the midst of something else that was encoded. */
export function formsOf(text: string): ReadonlySet<string> {
  const bytes = Buffer.from(text, 'utf8');
  const inJson = JSON.stringify(text).slice(1, -1);
  const inUrl = encodeURIComponent(text);
  const hex = bytes.toString('hex');
  return new Set([
    text,
    inJson,
    JSON.stringify(inJson).slice(1, -1),
    // V8 and others write what is not ASCII so.
    escapedToAscii(inJson),
    escapedToAscii(inJson).toLowerCase(),
    inUrl,
    inUrl.toLowerCase(),
    inUrl.replaceAll('%20', '+'),
    text.replaceAll("'", "''"),
    text.replaceAll('\\', '\\\\'),
    text.replaceAll('\\', '\\\\').replaceAll("'", "\\'"),
    hex,
    hex.toUpperCase(),
    hex.replaceAll(/..(?!$)/g, '$& '),
    ...[0, 1, 2].flatMap((offset) => [innerBase64(bytes, offset, 'base64'), innerBase64(bytes, offset, 'base64url')]),
  ]);
}

/** Each form as bytes: in UTF-8, in UTF-16 of both orders (as in the memory of a program), and in Latin-1. */
export function bytesOfForms(text: string): Buffer[] {
  return [...formsOf(text)].flatMap((form) => {
    const utf16 = Buffer.from(form, 'utf16le');
    return [Buffer.from(form, 'utf8'), utf16, Buffer.from(utf16).swap16(), Buffer.from(form, 'latin1')];
  });
}

/** The text and its halves, so that one which was cut or kept in two is found as well. Halves of less than 12 characters could be anywhere. */
export function piecesOf(text: string): string[] {
  return text.length < 24 ? [text] : [text, text.slice(0, text.length / 2), text.slice(text.length / 2)];
}

function escapedToAscii(text: string): string {
  return text.replaceAll(
    /[^ -~]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`,
  );
}

/** The characters of a base64 text that depend on these bytes alone, when `offset` others (modulo 3) come before them and any behind. */
function innerBase64(bytes: Buffer, offset: number, encoding: 'base64' | 'base64url'): string {
  const encoded = Buffer.concat([Buffer.alloc(offset), bytes])
    .toString(encoding)
    .replace(/=+$/, '');
  const isLastShared = (offset + bytes.length) % 3 !== 0;
  return encoded.slice(Math.ceil((offset * 8) / 6), isLastShared ? -1 : undefined);
}

/** Which of the named texts are seen in which places, in whatever form and encoding. */
export function leaks(texts: ReadonlyMap<string, string>, places: ReadonlyMap<string, string | Buffer>): string[] {
  const needles = new Needles();
  for (const [name, text] of texts)
    for (const piece of piecesOf(text)) for (const bytes of bytesOfForms(piece)) needles.add(name, bytes);
  return [...places].flatMap(([place, content]) => {
    const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : content;
    return [...needles.findIn(bytes)].map(([name, at]) => `${name} in ${place}: …${around(bytes, at)}…`);
  });
}

function around(content: Buffer, at: number): string {
  return content.toString('latin1', Math.max(0, at - 80), at).replaceAll('\n', ' ');
}
