import { blotOut } from './blot.js';
import { censoredCopy, showsAny } from './censored-copy.js';
import { Fingerprints } from './fingerprints.js';
import { cryptoRandomness, type Randomness } from './randomness.js';
import { formsOf } from './secret-forms.js';
import { secretParts } from './secret-parts.js';

export interface LogCensorOptions {
  /**
   * Properties of a value that are no secret and may be seen in logs, in whatever case they are written. By default: `username`, `user`, `role`,
   * `host`, `hostname`, `port`, `database`, `dbname`, `engine`, `region`; otherwise a database user called `orders` would blot out that word.
   */
  readonly shown?: readonly string[];
  /** For tests. */
  readonly randomness?: Randomness;
}

const SHOWN = ['username', 'user', 'role', 'host', 'hostname', 'port', 'database', 'dbname', 'engine', 'region'];

/**
 * Blots live secret values out of what is logged. The module tells it which values are live: those that handles hold (current, and the one
 * before until the next change), those a consumer may try (pending, previous), and those of a rotation's steps while a rotator is at work. It
 * keeps fingerprints of them, no copies.
 *
 * What it does not find: numbers, parts of fewer than 6 characters, pieces of a value, and encodings other than JSON, JavaScript, SQL, URL, hex
 * and base64. It is the last line of defence; the first is not to log values.
 */
export class LogCensor {
  readonly #fingerprints: Fingerprints;
  readonly #shown: ReadonlySet<string>;

  constructor({ shown = SHOWN, randomness = cryptoRandomness }: LogCensorOptions = {}) {
    this.#fingerprints = new Fingerprints(randomness);
    this.#shown = new Set(shown.map((key) => key.toLowerCase()));
  }

  /** Censors a value, in whatever form, until the function returned is called. For values that do not come from a handle. */
  hold(value: unknown): () => void {
    const parts = secretParts(value, (key) => this.#shown.has(key.toLowerCase()));
    const releases = parts.flatMap((part) => [...formsOf(part)].map((form) => this.#fingerprints.add(form)));
    return () => {
      for (const release of releases.splice(0)) release();
    };
  }

  /** The text with every live value blotted out as `[redacted]`. Takes time in proportion to the text, however many values are live. */
  text(text: string): string {
    const spans = this.#fingerprints.spansIn(text);
    return spans.length === 0 ? text : blotOut(text, spans);
  }

  /**
   * Anything that is logged: itself when it shows no live value, otherwise a copy without them, in which errors stay errors. Looks at 5,000 parts
   * and 12 levels at most; in what shows a value, or is too large to tell, parts beyond that are left out.
   */
  thing<T>(thing: T): T {
    const text = (text: string): string => this.text(text);
    if (typeof thing === 'string') return text(thing) as T & string;
    return showsAny(thing, text) ? (censoredCopy(thing, text) as T) : thing;
  }
}
