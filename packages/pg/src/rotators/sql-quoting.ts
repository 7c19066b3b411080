import pg from 'pg';

// oxlint-disable-next-line import/no-named-as-default-member -- pg has had named ESM exports since 8.15 only
const { escapeIdentifier, escapeLiteral } = pg;

/** A name as it must stand in SQL, whatever it is made of. */
export function identifier(name: string): string {
  return escapeIdentifier(name);
}

/** A string as it must stand in SQL, whatever it is made of. */
export function literal(value: string): string {
  return escapeLiteral(value);
}
