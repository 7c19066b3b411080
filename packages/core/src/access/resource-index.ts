import { type CompiledStatement, coversResource } from './compiled-policy.js';
import type { Glob } from './glob.js';

interface IndexedGlob {
  readonly glob: Glob;
  readonly statement: CompiledStatement;
}

/** Patterns by the length of what is literal in them, then by its text. */
type ByLength = Map<number, Map<string, IndexedGlob[]>>;

const NONE: readonly never[] = [];

/**
 * The statements that one principal has on one action, found by the resource asked for: those that cover it, without looking at most of the
 * others. Literal names are looked up; patterns too, by what stands before their first wildcard or after their last, whichever tells more.
 */
export class ResourceIndex {
  readonly #everywhere: CompiledStatement[] = [];
  readonly #literal = new Map<string, CompiledStatement[]>();
  readonly #prefixes: ByLength = new Map();
  readonly #suffixes: ByLength = new Map();
  readonly #allBut: CompiledStatement[] = [];

  constructor(statements: readonly CompiledStatement[]) {
    for (const statement of statements) {
      if (statement.allBut) this.#allBut.push(statement);
      else if (statement.resources.some(({ pattern }) => pattern === '*')) this.#everywhere.push(statement);
      else for (const glob of new Set(statement.resources)) this.#add(glob, statement);
    }
  }

  /** Calls `visit` with each statement that covers the resource, with some more than once. */
  visit(resourceId: string, visit: (statement: CompiledStatement) => void): void {
    for (const statement of this.#everywhere) visit(statement);
    for (const statement of this.#literal.get(resourceId) ?? NONE) visit(statement);
    const { length: whole } = resourceId;
    for (const [length, byText] of this.#prefixes) {
      const found = length > whole ? undefined : byText.get(resourceId.slice(0, length));
      for (const { glob, statement } of found ?? NONE) if (glob.matches(resourceId)) visit(statement);
    }
    for (const [length, byText] of this.#suffixes) {
      const found = length > whole ? undefined : byText.get(resourceId.slice(whole - length));
      for (const { glob, statement } of found ?? NONE) if (glob.matches(resourceId)) visit(statement);
    }
    for (const statement of this.#allBut) if (coversResource(statement, resourceId)) visit(statement);
  }

  #add(glob: Glob, statement: CompiledStatement): void {
    if (glob.literal !== undefined) {
      entry(this.#literal, glob.literal, () => []).push(statement);
      return;
    }
    const { prefix, suffix } = glob;
    // What kind of resource it is tells next to nothing: most requests are for secrets.
    const isSuffixBetter = suffix.length > prefix.length - (prefix.indexOf('/') + 1);
    const [index, text] = isSuffixBetter ? [this.#suffixes, suffix] : [this.#prefixes, prefix];
    const byText = entry(index, text.length, () => new Map<string, IndexedGlob[]>());
    entry(byText, text, () => []).push({ glob, statement });
  }
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
