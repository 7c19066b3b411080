import pg from 'pg';

// Off the default export: pg has had named ones in ESM since 8.15 only.
const { escapeIdentifier, escapeLiteral } = pg;

/** A name as it must stand in SQL, whatever it is made of. */
export function identifier(name: string): string {
  return escapeIdentifier(name);
}

/** A string as it must stand in SQL, whatever it is made of. */
export function literal(value: string): string {
  return escapeLiteral(value);
}
