/*
 * For sessions opened by MysqlTarget, which set an empty sql_mode first: a backslash escapes and a double quote is no identifier's, whatever
 * NO_BACKSLASH_ESCAPES or ANSI_QUOTES the server has as its own.
 */

/** A name as it must stand in SQL, whatever it is made of. */
export function identifier(name: string): string {
  return `\`${name.replaceAll('`', '``')}\``;
}

/** A string as it must stand in SQL, whatever it is made of. */
export function literal(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}

/** One account: MySQL knows a user by name and by where it comes from. */
export interface Account {
  readonly user: string;
  /** A host, address or pattern, such as `%` or `10.0.%`. */
  readonly host: string;
}

export function accountName({ user, host }: Account): string {
  return `${identifier(user)}@${identifier(host)}`;
}

/** A database's name where GRANT takes a pattern: `_` and `%` stand for themselves. */
export function databasePattern(database: string): string {
  return identifier(database.replaceAll(/[\\_%]/g, (character) => `\\${character}`));
}
