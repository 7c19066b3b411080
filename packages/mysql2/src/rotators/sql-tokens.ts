/** A piece of what the server shows of a statement: a word, a quoted name or string, or one other character. */
export interface SqlToken {
  readonly text: string;
  readonly start: number;
  readonly end: number;
  /** Parentheses around it. */
  readonly depth: number;
}

/** Cuts SQL as `SHOW GRANTS` and `SHOW CREATE USER` print it under an empty sql_mode. */
export function sqlTokens(sql: string): SqlToken[] {
  const found: SqlToken[] = [];
  let depth = 0;
  for (const match of sql.matchAll(/`(?:[^`]|``)*`|'(?:[^'\\]|''|\\[^])*'|[\w.$]+|[^\s]/g)) {
    const [text] = match;
    if (text === ')') depth -= 1;
    found.push({ text, start: match.index, end: match.index + text.length, depth });
    if (text === '(') depth += 1;
  }
  return found;
}

/** The name behind `` `a``b` ``. */
export function unquoted(text: string): string {
  return text.startsWith('`') ? text.slice(1, -1).replaceAll('``', '`') : text;
}

/** The string behind `'a''b\\'`. */
export function unquotedString(text: string): string {
  return text.slice(1, -1).replaceAll(/''|\\([^])/g, (_all, escaped: string | undefined) => escaped ?? "'");
}

/** The text at depth 0 between commas. */
export function listElements(sql: string): string[] {
  const tokens = sqlTokens(sql);
  const cuts = tokens.filter(({ text, depth }) => text === ',' && depth === 0).map(({ start }) => start);
  return [...cuts, sql.length].map((end, index) => sql.slice(index === 0 ? 0 : (cuts[index - 1] ?? 0) + 1, end).trim());
}
