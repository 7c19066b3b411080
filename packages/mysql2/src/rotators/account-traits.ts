import { defaultRoleFact, type AccountFact } from './account-facts.js';
import type { Authentication, ServerDialect } from './server-dialect.js';
import { sqlTokens, unquoted, unquotedString, type SqlToken } from './sql-tokens.js';

/** What `SHOW CREATE USER` tells of an account besides its name. */
export interface AccountTraits {
  readonly authentication: readonly Authentication[];
  readonly locked: boolean;
  /** `NONE`, `SSL`, `X509`, or what its certificate must say, as SQL. */
  readonly require: string;
  /** Resource limits that are not 0: name → number. */
  readonly limits: ReadonlyMap<string, string>;
  /** `DEFAULT`, `NEVER`, or `INTERVAL n DAY`. Whether the password has expired goes with the password. */
  readonly expiry: string;
  /** MySQL's further clauses, as SQL: password history, failed log-ins, attribute, comment. */
  readonly further: readonly string[];
  readonly defaultRole: AccountFact | undefined;
}

// What a clause begins with.
const CLAUSES = new Set([
  'DEFAULT',
  'REQUIRE',
  'WITH',
  'PASSWORD',
  'ACCOUNT',
  'FAILED_LOGIN_ATTEMPTS',
  'PASSWORD_LOCK_TIME',
  'ATTRIBUTE',
  'COMMENT',
]);

export function traitsOf(createUser: string): AccountTraits {
  const tokens = sqlTokens(createUser);
  // CREATE USER name @ host
  const identified = tokens.slice(5);
  const ends = identified.findIndex((_token, index) => beginsClause(identified, index));
  const clauses = ends < 0 ? [] : clausesOf(createUser, identified.slice(ends));
  const starting = (head: string): string | undefined =>
    clauses.find((clause) => clause.startsWith(`${head} `))?.slice(head.length + 1);
  const limitWords = (starting('WITH') ?? '').split(' ').filter((word) => word !== '');
  const limits = new Map<string, string>();
  for (let at = 0; at + 1 < limitWords.length; at += 2)
    limits.set(limitWords[at] ?? '', String(Number(limitWords[at + 1])));
  const defaultRole = starting('DEFAULT ROLE');
  return {
    authentication: authenticationOf(ends < 0 ? identified : identified.slice(0, ends)),
    locked: clauses.includes('ACCOUNT LOCK'),
    require: starting('REQUIRE') ?? 'NONE',
    limits,
    expiry: starting('PASSWORD EXPIRE') ?? 'DEFAULT',
    further: clauses.filter(
      (clause) => !/^(DEFAULT ROLE|REQUIRE|WITH|ACCOUNT|PASSWORD EXPIRE)\b/.test(clause) && clause !== '',
    ),
    defaultRole: defaultRole === undefined ? undefined : defaultRoleFact(defaultRole, 'TO'),
  };
}

/** The clauses that give another account the same traits. They end in its being open for log-ins. */
export function traitClauses(traits: AccountTraits, dialect: ServerDialect): string {
  const limits = dialect.limits.map((limit) => `${limit} ${traits.limits.get(limit) ?? 0}`);
  const clauses = [
    `REQUIRE ${traits.require}`,
    `WITH ${limits.join(' ')}`,
    'ACCOUNT UNLOCK',
    `PASSWORD EXPIRE ${traits.expiry}`,
    ...traits.further,
  ];
  return ` ${clauses.join(' ')}`;
}

/** One line for each trait in which `actual` is not as `expected`. */
export function traitDifferences(expected: AccountTraits, actual: AccountTraits): string[] {
  const listed = (traits: AccountTraits): Map<string, string> =>
    new Map([
      ['REQUIRE', traits.require],
      ...[...traits.limits].map(([name, value]): [string, string] => [name, value]),
      ['PASSWORD EXPIRE', traits.expiry],
      ['further options', traits.further.join(' ')],
    ]);
  const [wanted, found] = [listed(expected), listed(actual)];
  const names = new Set([...wanted.keys(), ...found.keys()]);
  return [...names]
    .filter((name) => wanted.get(name) !== found.get(name))
    .map((name) => `it has ${name} ${found.get(name) ?? 'unlimited'} instead of ${wanted.get(name) ?? 'unlimited'}`);
}

/** The traits of an account nobody has set anything of. */
export const PLAIN_TRAITS: AccountTraits = {
  authentication: [],
  locked: false,
  require: 'NONE',
  limits: new Map(),
  expiry: 'DEFAULT',
  further: [],
  defaultRole: undefined,
};

function beginsClause(tokens: readonly SqlToken[], index: number): boolean {
  const text = tokens[index]?.text ?? '';
  const before = tokens[index - 1]?.text;
  if (!CLAUSES.has(text)) return false;
  // IDENTIFIED BY PASSWORD '…', IDENTIFIED WITH '…', PASSWORD REQUIRE CURRENT DEFAULT and PASSWORD EXPIRE DEFAULT are wholes.
  if (before === 'BY' || before === 'IDENTIFIED') return false;
  if (text === 'REQUIRE') return before !== 'PASSWORD';
  return text !== 'DEFAULT' || tokens[index + 1]?.text === 'ROLE';
}

function clausesOf(sql: string, tokens: readonly SqlToken[]): string[] {
  const starts = tokens.flatMap((token, index) => (beginsClause(tokens, index) ? [token.start] : []));
  return starts.map((start, index) => sql.slice(start, starts[index + 1]).trim());
}

function authenticationOf(tokens: readonly SqlToken[]): Authentication[] {
  const [, how] = tokens;
  const strings = tokens.filter(({ text }) => text.startsWith("'"));
  const last = strings.at(-1);
  // IDENTIFIED BY PASSWORD '…'; an account without IDENTIFIED has the default plugin and no password.
  if (how === undefined) return [{ plugin: 'mysql_native_password', hash: '' }];
  if (how.text === 'BY')
    return [{ plugin: 'mysql_native_password', hash: last === undefined ? '' : unquotedString(last.text) }];
  // IDENTIFIED VIA plugin USING '…' OR plugin (MariaDB), IDENTIFIED WITH 'plugin' AS '…' (MySQL).
  const ways: Authentication[] = [];
  for (let at = 2; at < tokens.length; at += 1) {
    const plugin = tokens[at]?.text ?? '';
    const hasHash = ['USING', 'AS'].includes(tokens[at + 1]?.text ?? '');
    const hash = hasHash ? unquotedString(tokens[at + 2]?.text ?? "''") : undefined;
    ways.push({ plugin: plugin.startsWith("'") ? unquotedString(plugin) : unquoted(plugin), hash });
    at += hasHash ? 3 : 1;
  }
  return ways;
}
