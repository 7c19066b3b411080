import { inspect } from 'node:util';
import { BLOT } from './blot.js';

type CensorText = (text: string) => string;

const MOST_PARTS = 5_000;
const DEEPEST = 12;
const LEFT_OUT = '[left out]';

/** What of an error is seen though it cannot be enumerated. */
const PARTS_OF_ERROR = ['name', 'message', 'stack', 'cause', 'errors'];

/** Whether the censor would change any text in this, or cannot tell, since it is too large. */
export function showsAny(thing: unknown, text: CensorText): boolean {
  const seen = new Set<object>();
  let parts = 0;
  const shows = (thing: unknown, depth: number): boolean => {
    if (typeof thing === 'string') return text(thing) !== thing;
    if (typeof thing !== 'object' || thing === null || seen.has(thing)) return false;
    seen.add(thing);
    parts += 1;
    if (parts > MOST_PARTS || depth > DEEPEST) return true;
    if (ArrayBuffer.isView(thing)) return showsInBytes(thing, text);
    const own = ownWords(thing);
    if (own !== undefined) return own.some((word) => shows(word, depth + 1));
    return entriesOf(thing).some(([key, value]) => shows(key, depth + 1) || shows(value, depth + 1));
  };
  return shows(thing, 0);
}

/** A copy without what the censor changes. */
export function censoredCopy(thing: unknown, text: CensorText): unknown {
  const copies = new Map<object, unknown>();
  let parts = 0;
  const copy = (thing: unknown, depth: number): unknown => {
    if (typeof thing === 'string') return text(thing);
    if (typeof thing !== 'object' || thing === null) return thing;
    if (copies.has(thing)) return copies.get(thing);
    parts += 1;
    if (parts > MOST_PARTS || depth > DEEPEST) return LEFT_OUT;
    if (ArrayBuffer.isView(thing)) return showsInBytes(thing, text) ? BLOT : thing;
    const own = ownWords(thing);
    if (own !== undefined) {
      const censored = copy(own.at(0), depth + 1);
      copies.set(thing, censored);
      return censored;
    }
    if (thing instanceof Map || thing instanceof Set) {
      const clone = thing instanceof Map ? new Map<unknown, unknown>() : new Set<unknown>();
      copies.set(thing, clone);
      for (const [key, value] of entriesOf(thing)) {
        if (clone instanceof Map) clone.set(copy(key, depth + 1), copy(value, depth + 1));
        else clone.add(copy(value, depth + 1));
      }
      return clone;
    }
    const clone: object = Array.isArray(thing) ? [] : thing instanceof Error ? new Error() : {};
    copies.set(thing, clone);
    for (const [key, value] of entriesOf(thing)) {
      const isHidden = thing instanceof Error && PARTS_OF_ERROR.includes(String(key));
      // Not assigned, since a key may be __proto__.
      Object.defineProperty(clone, text(String(key)), {
        value: copy(value, depth + 1),
        enumerable: !isHidden,
        configurable: true,
        writable: true,
      });
    }
    return clone;
  };
  return copy(thing, 0);
}

/** How a thing that decides for itself how it is seen is seen: in JSON first, then in a console. */
function ownWords(thing: object): unknown[] | undefined {
  const words: unknown[] = [];
  const toJson = read(thing, 'toJSON');
  if (typeof toJson === 'function') words.push(attempt(() => Reflect.apply(toJson, thing, [])));
  if (typeof read(thing, inspect.custom) === 'function') words.push(attempt(() => inspect(thing, { depth: DEEPEST })));
  return words.length === 0 ? undefined : words;
}

function entriesOf(thing: object): [unknown, unknown][] {
  if (thing instanceof Map) return [...thing];
  if (thing instanceof Set) return [...thing].map((value) => [undefined, value]);
  const keys = thing instanceof Error ? [...PARTS_OF_ERROR, ...Object.keys(thing)] : Object.keys(thing);
  return [...new Set(keys)]
    .map((key) => [key, read(thing, key)] as [unknown, unknown])
    .filter(([, value]) => value !== undefined);
}

function showsInBytes(view: ArrayBufferView, text: CensorText): boolean {
  const bytes = Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  return (['utf8', 'hex'] as const).some((encoding) => {
    const written = bytes.toString(encoding);
    return text(written) !== written;
  });
}

function read(holder: object, key: PropertyKey): unknown {
  return attempt(() => Reflect.get(holder, key));
}

/** Foreign code (getters, `toJSON`): what it throws is not worth losing a line of the log. */
function attempt(work: () => unknown): unknown {
  try {
    return work();
  } catch {
    return undefined;
  }
}
