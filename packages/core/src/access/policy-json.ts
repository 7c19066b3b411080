import type { Faults } from './policy-faults.js';
import { POLICY_LIMITS } from './policy-document.js';
import { memberPath } from './policy-faults.js';

const DEEPEST = 16;
/** Blanks and escapes make a text longer than its document. */
const LONGEST_TEXT = 4 * POLICY_LIMITS.documentCharacters;
const STRING = /"(?:[^"\\]|\\.)*"/y;

interface Level {
  readonly path: string;
  /** Undefined in a list. */
  readonly keys: Set<string> | undefined;
  index: number;
  key: string;
}

/**
 * A policy from its text. Beyond what `JSON.parse` checks, no object may have a key twice (of which it would silently keep the last, and
 * another reader perhaps the first) and nothing may be nested deeper than any policy is. Undefined when there are faults.
 */
export function parsePolicyText(text: string, faults: Faults): unknown {
  if (text.length > LONGEST_TEXT) {
    faults.add('', `has ${text.length} characters; a policy has at most ${LONGEST_TEXT} as text`);
    return undefined;
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    faults.add('', 'is not JSON');
    return undefined;
  }
  const before = faults.count;
  findDuplicateKeys(text, faults);
  return faults.count === before ? parsed : undefined;
}

/** Walks through a text that is known to be JSON, without recursion. */
function findDuplicateKeys(text: string, faults: Faults): void {
  const levels: Level[] = [];
  let expectsKey = false;
  for (let at = 0; at < text.length; at += 1) {
    const level = levels.at(-1);
    switch (text.charAt(at)) {
      case '{':
      case '[': {
        if (levels.length === DEEPEST) {
          faults.add(level?.path ?? '', `is nested deeper than ${DEEPEST} levels`);
          return;
        }
        expectsKey = text.charAt(at) === '{';
        const keys = expectsKey ? new Set<string>() : undefined;
        levels.push({ path: pathInto(level), keys, index: 0, key: '' });
        break;
      }
      case '}':
      case ']':
        levels.pop();
        expectsKey = false;
        break;
      case ',':
        expectsKey = level?.keys !== undefined;
        if (level !== undefined) level.index += 1;
        break;
      case '"': {
        STRING.lastIndex = at;
        const written = STRING.exec(text)?.[0] ?? '""';
        at += written.length - 1;
        if (!expectsKey || level?.keys === undefined) break;
        expectsKey = false;
        // Two spellings of one key (`\u0041ction`) are one key.
        level.key = String(JSON.parse(written));
        if (level.keys.has(level.key)) faults.add(memberPath(level.path, level.key), 'is there twice');
        level.keys.add(level.key);
        break;
      }
      default:
    }
  }
}

function pathInto(level: Level | undefined): string {
  if (level === undefined) return '';
  return level.keys === undefined ? `${level.path}[${level.index}]` : memberPath(level.path, level.key);
}
