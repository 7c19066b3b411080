import { type CompiledStatement, coversResource } from './compiled-policy.js';
import type { Glob } from './glob.js';

interface IndexedGlob {
  readonly glob: Glob;
  readonly statement: CompiledStatement;
}

/** Patterns by the length of what is literal in them, then by its text. */
type ByLength = Map<number, Map<string, IndexedGlob[]>>;

const NONE: readonly never[] = [];
/** What stands between wildcards is looked up by so many of its characters: each length there is costs a look at every place of the name. */
const INSIDE_LENGTHS = [8, 4, 2, 1];

/**
 * The statements that one principal has on one action, found by the resource asked for: those that cover it, without looking at most of the
 * others. Literal names are looked up; patterns too, by what stands before their first wildcard, after their last or between two, whichever
 * tells most.
 */
export class ResourceIndex {
  readonly #everywhere: CompiledStatement[] = [];
  readonly #literal = new Map<string, CompiledStatement[]>();
  readonly #prefixes: ByLength = new Map();
  readonly #suffixes: ByLength = new Map();
  readonly #insides: ByLength = new Map();
  readonly #allBut: CompiledStatement[] = [];

  constructor(statements: readonly CompiledStatement[]) {
    const withInsides: IndexedGlob[] = [];
    for (const statement of statements) {
      if (statement.allBut) this.#allBut.push(statement);
      else if (statement.resources.some(({ pattern }) => pattern === '*')) this.#everywhere.push(statement);
      else for (const glob of new Set(statement.resources)) this.#add({ glob, statement }, withInsides);
    }
    this.#addInsides(withInsides);
  }

  /** Calls `visit` with each statement that covers the resource, with some more than once. */
  visit(resourceId: string, visit: (statement: CompiledStatement) => void): void {
    for (const statement of this.#everywhere) visit(statement);
    for (const statement of this.#literal.get(resourceId) ?? NONE) visit(statement);
    const { length: whole } = resourceId;
    const tryAll = (found: readonly IndexedGlob[] | undefined): void => {
      for (const { glob, statement } of found ?? NONE) if (glob.matches(resourceId)) visit(statement);
    };
    for (const [length, byText] of this.#prefixes) if (length <= whole) tryAll(byText.get(resourceId.slice(0, length)));
    for (const [length, byText] of this.#suffixes)
      if (length <= whole) tryAll(byText.get(resourceId.slice(whole - length)));
    for (const [length, byText] of this.#insides)
      for (let end = length; end <= whole; end += 1) tryAll(byText.get(resourceId.slice(end - length, end)));
    for (const statement of this.#allBut) if (coversResource(statement, resourceId)) visit(statement);
  }

  /** What is looked up by the text inside it waits until all of those are known. */
  #add(indexed: IndexedGlob, withInsides: IndexedGlob[]): void {
    const { literal, prefix, suffix, inside } = indexed.glob;
    if (literal !== undefined) {
      entry(this.#literal, literal, () => []).push(indexed.statement);
      return;
    }
    // What kind of resource it is tells next to nothing: most requests are for secrets.
    const ofPrefix = prefix.length - (prefix.indexOf('/') + 1);
    if (inside.length > Math.max(ofPrefix, suffix.length)) withInsides.push(indexed);
    else if (suffix.length > ofPrefix) addTo(this.#suffixes, suffix, indexed);
    else addTo(this.#prefixes, prefix, indexed);
  }

  /** Each by the piece of its text that the fewest of the others have. */
  #addInsides(globs: readonly IndexedGlob[]): void {
    const counts = new Map<string, number>();
    for (const { glob } of globs)
      for (const piece of piecesOf(glob.inside)) counts.set(piece, (counts.get(piece) ?? 0) + 1);
    const count = (piece: string): number => counts.get(piece) ?? 0;
    for (const indexed of globs) {
      const rarest = piecesOf(indexed.glob.inside).reduce((one, other) => (count(other) < count(one) ? other : one));
      addTo(this.#insides, rarest, indexed);
    }
  }
}

/** All runs of the length by which this is looked up. */
function piecesOf(text: string): string[] {
  const length = INSIDE_LENGTHS.find((one) => one <= text.length) ?? text.length;
  return Array.from({ length: text.length - length + 1 }, (_, at) => text.slice(at, at + length));
}

function addTo(index: ByLength, text: string, indexed: IndexedGlob): void {
  const byText = entry(index, text.length, () => new Map<string, IndexedGlob[]>());
  entry(byText, text, () => []).push(indexed);
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
