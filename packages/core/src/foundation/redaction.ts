import { blotOut, type Span } from './blot.js';
import { formsOf } from './secret-forms.js';
import { secretParts } from './secret-parts.js';

const DEEPEST_CAUSE = 5;

/**
 * Every string a value consists of, in the forms a message may show it: as it is, escaped (JSON, JavaScript, SQL, URL), base64, base64url and
 * hex. Parts of fewer than 6 characters or bytes are not among them.
 */
export function secretStrings(value: unknown, found: Set<string> = new Set()): Set<string> {
  for (const part of secretParts(value)) for (const form of formsOf(part)) found.add(form);
  return found;
}

/** The text with every occurrence of the strings blotted out, overlapping ones as a whole. */
export function redactText(text: string, strings: Iterable<string>): string {
  const spans: Span[] = [];
  for (const string of strings) {
    if (string === '') continue;
    for (let at = text.indexOf(string); at !== -1; at = text.indexOf(string, at + 1))
      spans.push([at, at + string.length]);
  }
  return blotOut(text, spans);
}

/**
 * A plain `Error` that tells what a foreign error told, without the values: name, message, stack, `code`, the causes (5 deep) and the errors
 * of an `AggregateError`, every form of every value (see `secretStrings`) blotted out of them. Any other property is dropped, since drivers
 * keep whole statements there (`query`, `parameters`, `detail`). Takes whatever was thrown.
 */
export function redactError(error: unknown, values: readonly unknown[]): Error {
  return cleaned(error, secretStrings(values), 0, new Set());
}

function cleaned(error: unknown, strings: ReadonlySet<string>, depth: number, seen: Set<unknown>): Error {
  seen.add(error);
  const redact = (text: string): string => redactText(text, strings);
  const clone = new Error(redact(messageOf(error)));
  const name = property(error, 'name');
  const stack = property(error, 'stack');
  const code = property(error, 'code');
  hide(clone, 'name', typeof name === 'string' ? redact(name) : 'Error');
  hide(clone, 'stack', redact(typeof stack === 'string' ? stack : `${clone.name}: ${clone.message}`));
  if (typeof code === 'string') Object.assign(clone, { code: redact(code) });
  else if (typeof code === 'number') Object.assign(clone, { code });

  if (depth === DEEPEST_CAUSE) return clone;
  const inner = (value: unknown): Error => cleaned(value, strings, depth + 1, seen);
  const cause = property(error, 'cause');
  if (cause !== undefined && cause !== null && !seen.has(cause)) hide(clone, 'cause', inner(cause));
  const errors = property(error, 'errors');
  if (Array.isArray(errors)) hide(clone, 'errors', errors.filter((one) => !seen.has(one)).map(inner));
  return clone;
}

function messageOf(error: unknown): string {
  if (error === null || (typeof error !== 'object' && typeof error !== 'function')) return String(error);
  const message = property(error, 'message');
  return typeof message === 'string' ? message : 'Something that is not an error was thrown.';
}

function property(holder: unknown, key: string): unknown {
  if (typeof holder !== 'object' || holder === null) return undefined;
  try {
    return Reflect.get(holder, key);
  } catch {
    // A getter of foreign code; what it would have said is not worth losing the rest.
    return undefined;
  }
}

function hide(error: Error, key: string, value: unknown): void {
  Object.defineProperty(error, key, { value, enumerable: false, writable: true, configurable: true });
}
