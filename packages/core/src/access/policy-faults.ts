import type { PolicyFault } from './access-errors.js';
import { POLICY_LIMITS } from './policy-document.js';

/** The faults of one policy, as they are found. */
export class Faults {
  readonly found: PolicyFault[] = [];

  get count(): number {
    return this.found.length;
  }

  get isFull(): boolean {
    return this.found.length >= POLICY_LIMITS.faults;
  }

  add(path: string, message: string): void {
    if (!this.isFull) this.found.push({ path: path === '' ? 'the document' : path, message });
  }
}

const LONGEST_SHOWN = 64;

export function memberPath(path: string, key: string): string {
  const shown = key.slice(0, LONGEST_SHOWN);
  if (!/^[A-Za-z]+$/.test(shown)) return `${path}[${JSON.stringify(shown)}]`;
  return path === '' ? shown : `${path}.${shown}`;
}

/** What somebody wrote, short enough for a message. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}…` : text);
}

/** The first character that is not printable ASCII: it may look like one that is. */
export function lookalikeFault(text: string): string | undefined {
  const at = text.search(/[^ -~]/);
  if (at === -1) return undefined;
  const code = text.codePointAt(at) ?? 0;
  const name = `U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
  return `has ${name} as character ${at + 1}, which is not ASCII and may only look as if it were`;
}

/** The own members of a plain object; undefined, and a fault, for anything else. Getters are not called. */
export function readObject(
  value: unknown,
  path: string,
  faults: Faults,
  limit: number = POLICY_LIMITS.members,
): Map<string, unknown> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    faults.add(path, `is ${kindOf(value)} where an object belongs`);
    return undefined;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  // Object.prototype of whichever realm: the prototype that has none itself.
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
    faults.add(path, 'is not a plain object; a policy is data, and what an object inherits is not part of it');
    return undefined;
  }
  const keys = Reflect.ownKeys(value);
  if (keys.length > limit) {
    faults.add(path, `has ${keys.length} members; at most ${limit} are possible`);
    return undefined;
  }
  const members = new Map<string, unknown>();
  for (const key of keys) {
    if (typeof key === 'symbol') faults.add(path, `has the symbol ${String(key)} as a key`);
    else {
      const descriptor = Object.getOwnPropertyDescriptor(value, key);
      if (descriptor !== undefined && 'value' in descriptor) members.set(key, descriptor.value);
      else faults.add(memberPath(path, key), 'is computed by a getter where a plain value belongs');
    }
  }
  return members;
}

/** Reports members that do not belong, with the one that was probably meant. */
export function refuseOthers(
  members: ReadonlyMap<string, unknown>,
  known: readonly string[],
  path: string,
  faults: Faults,
): void {
  for (const key of members.keys()) {
    if (known.includes(key)) continue;
    const meant = known.find((name) => name.toLowerCase() === key.toLowerCase());
    const why = lookalikeFault(key) ?? (meant === undefined ? `there are: ${known.join(', ')}` : `write ${meant}`);
    faults.add(memberPath(path, key), `is not known here: ${why}`);
  }
}

/** One value or a list of them, each with its path; undefined, and a fault, where there is none or too many. */
export function readMembers(
  value: unknown,
  path: string,
  faults: Faults,
): [path: string, member: unknown][] | undefined {
  if (!Array.isArray(value)) return [[path, value]];
  if (value.length > POLICY_LIMITS.members) {
    faults.add(path, `has ${value.length} members; at most ${POLICY_LIMITS.members} are possible`);
    return undefined;
  }
  if (value.length === 0) {
    faults.add(path, 'is empty, and so could never match');
    return undefined;
  }
  return Array.from(value, (member: unknown, index) => [`${path}[${index}]`, member]);
}

/** A text of a length that is possible; undefined, and a fault, otherwise. */
export function readText(value: unknown, path: string, faults: Faults): string | undefined {
  if (typeof value !== 'string') {
    faults.add(path, `is ${kindOf(value)} where a string belongs`);
  } else if (value === '') {
    faults.add(path, 'is empty');
  } else if (value.length > POLICY_LIMITS.memberCharacters) {
    faults.add(path, `has ${value.length} characters; at most ${POLICY_LIMITS.memberCharacters} are possible`);
  } else {
    return value;
  }
  return undefined;
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (value === undefined) return 'missing';
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
