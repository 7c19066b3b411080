import { type CompiledStatement, coversResource } from './compiled-policy.js';
import type { Glob } from './glob.js';

interface IndexedGlob {
  readonly glob: Glob;
  readonly statement: CompiledStatement;
}

const NONE: readonly never[] = [];

/**
 * The statements that one principal has on one action, found by the resource asked for: those that cover it, without looking at most of the
 * others. Literal names are looked up; patterns too, by what stands before their first wildcard.
 */
export class ResourceIndex {
  readonly #everywhere: CompiledStatement[] = [];
  readonly #literal = new Map<string, CompiledStatement[]>();
  /** By length and text of what stands before the first wildcard, shortest first. */
  readonly #prefixes: (readonly [length: number, globs: Map<string, IndexedGlob[]>])[];
  readonly #allBut: CompiledStatement[] = [];

  constructor(statements: readonly CompiledStatement[]) {
    const prefixes = new Map<number, Map<string, IndexedGlob[]>>();
    for (const statement of statements) {
      if (statement.allBut) this.#allBut.push(statement);
      else if (statement.resources.some(({ pattern }) => pattern === '*')) this.#everywhere.push(statement);
      else {
        for (const glob of new Map(statement.resources.map((glob) => [glob.pattern, glob])).values()) {
          if (glob.literal === undefined) {
            const byText = entry(prefixes, glob.prefix.length, () => new Map<string, IndexedGlob[]>());
            entry(byText, glob.prefix, () => []).push({ glob, statement });
          } else entry(this.#literal, glob.literal, () => []).push(statement);
        }
      }
    }
    this.#prefixes = [...prefixes].sort(([one], [other]) => one - other);
  }

  /** Calls `visit` with each statement that covers the resource, with some more than once. */
  visit(resourceId: string, visit: (statement: CompiledStatement) => void): void {
    for (const statement of this.#everywhere) visit(statement);
    for (const statement of this.#literal.get(resourceId) ?? NONE) visit(statement);
    for (const [length, byText] of this.#prefixes) {
      if (length > resourceId.length) break;
      for (const { glob, statement } of byText.get(resourceId.slice(0, length)) ?? NONE)
        if (glob.matches(resourceId)) visit(statement);
    }
    for (const statement of this.#allBut) if (coversResource(statement, resourceId)) visit(statement);
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
