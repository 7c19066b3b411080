import { accountName, type Account } from './sql-quoting.js';
import { listElements, sqlTokens, unquoted, type SqlToken } from './sql-tokens.js';

/** SQL around an account's name, which is left out so that the facts of two accounts can be compared. */
interface AccountStatement {
  readonly head: string;
  readonly tail: string;
}

/** One thing an account was given, told without its name: two accounts have the same where their facts have the same keys. */
export interface AccountFact {
  /** For people as well, such as ``SELECT ON `app`.`orders` ``. */
  readonly key: string;
  readonly grant: AccountStatement;
  readonly revoke: AccountStatement;
  /** The table it is about; one that was dropped may keep its grants, which nobody can give then. */
  readonly table: { readonly schema: string; readonly name: string } | undefined;
}

interface AccountDifference {
  readonly missing: readonly AccountFact[];
  readonly surplus: readonly AccountFact[];
}

/** What `actual` lacks of `expected`, and what it has beyond. */
export function differenceOf(expected: readonly AccountFact[], actual: readonly AccountFact[]): AccountDifference {
  const lacking = (these: readonly AccountFact[], others: readonly AccountFact[]): AccountFact[] => {
    const keys = new Set(others.map((fact) => fact.key));
    return these.filter((fact) => !keys.has(fact.key));
  };
  return { missing: lacking(expected, actual), surplus: lacking(actual, expected) };
}

/** The statements that end a difference for `account`. */
export function statementsFor(account: Account, difference: AccountDifference): string[] {
  const written = ({ head, tail }: AccountStatement): string => `${head}${accountName(account)}${tail}`;
  // Revoking first: ALL PRIVILEGES takes single ones with it, and a role with ADMIN OPTION can only lose that by being taken and given again.
  return [
    ...difference.surplus.map((fact) => written(fact.revoke)),
    ...difference.missing.map((fact) => written(fact.grant)),
  ];
}

/**
 * The facts of `account` in what `SHOW GRANTS` answers, one statement a row. Rows about roles and PUBLIC, which the server may add, are left out.
 */
export function factsOf(account: Account, rows: readonly string[]): AccountFact[] {
  return rows.flatMap((row) => {
    const tokens = sqlTokens(row);
    const verb = tokens[0]?.text;
    const isDefaultRole = verb === 'SET';
    const link = tokens.findIndex(
      ({ text, depth }) => depth === 0 && text === (isDefaultRole ? 'FOR' : verb === 'REVOKE' ? 'FROM' : 'TO'),
    );
    const grantee = tokens.slice(link + 1, link + 4);
    if (link < 1 || !isSame(account, grantee)) return [];
    const what = between(row, tokens, isDefaultRole ? 2 : 0, link);
    if (isDefaultRole) return [defaultRoleFact(what, 'FOR')];
    const on = tokens.slice(0, link).findIndex(({ text, depth }) => depth === 0 && text === 'ON');
    const options = tokens.slice(link + 4).map(({ text }) => text);
    const has = (option: string): boolean =>
      options.some((text, index) => text === option && options[index + 1] === 'OPTION');
    if (on < 0) return listElements(what).map((role) => roleFact(role, has('ADMIN')));
    const object = between(row, tokens, on, link);
    const privileges = listElements(between(row, tokens, 0, on)).flatMap(eachColumn);
    return verb === 'REVOKE'
      ? privileges.map((privilege) => reversed(privilegeFact(privilege, object, false)))
      : grantFacts(privileges, object, has('GRANT'));
  });
}

function isSame({ user, host }: Account, [name, at, place]: readonly SqlToken[]): boolean {
  return name !== undefined && at?.text === '@' && unquoted(name.text) === user && unquoted(place?.text ?? '') === host;
}

function between(row: string, tokens: readonly SqlToken[], from: number, to: number): string {
  return row.slice(tokens[from]?.end, tokens[to]?.start).trim();
}

/** ``SELECT (`a`, `b`)`` → one for each column, since the server keeps no order of them. */
function eachColumn(privilege: string): string[] {
  const open = privilege.indexOf('(');
  if (open < 0) return [privilege];
  const name = privilege.slice(0, open).trim();
  return listElements(privilege.slice(open + 1, -1)).map((column) => `${name} (${column})`);
}

function grantFacts(privileges: readonly string[], object: string, grantOption: boolean): AccountFact[] {
  // Of the proxy right, and of MySQL's dynamic privileges (BACKUP_ADMIN…), each has a grant option of its own; elsewhere one is for all.
  const own = privileges.filter((privilege) => privilege === 'PROXY' || /^[A-Z]+_[A-Z_]+$/.test(privilege));
  const facts = privileges
    .filter((privilege) => privilege !== 'USAGE')
    .map((privilege) => privilegeFact(privilege, object, grantOption && own.includes(privilege)));
  const shared = privileges.find((privilege) => !own.includes(privilege));
  if (!grantOption || shared === undefined) return facts;
  const option: AccountFact = {
    key: `GRANT OPTION ON ${object}`,
    grant: { head: `GRANT ${shared} ON ${object} TO `, tail: ' WITH GRANT OPTION' },
    revoke: { head: `REVOKE GRANT OPTION ON ${object} FROM `, tail: '' },
    table: tableOf(object),
  };
  return [...facts, option];
}

function privilegeFact(privilege: string, object: string, grantOption: boolean): AccountFact {
  const what = `${privilege} ON ${object}`;
  const tail = grantOption ? ' WITH GRANT OPTION' : '';
  return {
    key: what + tail,
    grant: { head: `GRANT ${what} TO `, tail },
    revoke: { head: `REVOKE ${what} FROM `, tail: '' },
    table: tableOf(object),
  };
}

/** A restriction, as MySQL's partial revokes are. */
function reversed(fact: AccountFact): AccountFact {
  return { ...fact, key: `no ${fact.key}`, grant: fact.revoke, revoke: fact.grant };
}

function roleFact(role: string, admin: boolean): AccountFact {
  const tail = admin ? ' WITH ADMIN OPTION' : '';
  return {
    key: `role ${role}${tail}`,
    grant: { head: `GRANT ${role} TO `, tail },
    revoke: { head: `REVOKE ${role} FROM `, tail: '' },
    table: undefined,
  };
}

/** MariaDB says SET DEFAULT ROLE … FOR, and MySQL … TO. */
export function defaultRoleFact(roles: string, link: 'FOR' | 'TO'): AccountFact {
  return {
    key: `default role ${roles}`,
    grant: { head: `SET DEFAULT ROLE ${roles} ${link} `, tail: '' },
    revoke: { head: `SET DEFAULT ROLE NONE ${link} `, tail: '' },
    table: undefined,
  };
}

/** The table of `` `app`.`orders` ``; undefined for `*.*`, `` `app`.* ``, routines and users. */
function tableOf(object: string): AccountFact['table'] {
  const tokens = sqlTokens(object);
  const [schema, dot, name] = tokens;
  if (tokens.length !== 3 || schema === undefined || dot?.text !== '.' || name === undefined) return undefined;
  if (!schema.text.startsWith('`') || !name.text.startsWith('`')) return undefined;
  return { schema: unquoted(schema.text), name: unquoted(name.text) };
}

/** What the first account of an application is given where nothing else is asked for: its database. */
export function databaseFact(pattern: string): AccountFact {
  return privilegeFact('ALL PRIVILEGES', `${pattern}.*`, false);
}
