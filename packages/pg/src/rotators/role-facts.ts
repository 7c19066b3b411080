import { identifier, literal } from './sql-quoting.js';

/** SQL around a role's name, which is left out so that the facts of two roles can be compared. */
export interface RoleStatement {
  readonly head: string;
  readonly tail: string;
}

/** One thing a role has, told without the role's name: two roles have the same where their facts have the same keys. */
export interface RoleFact {
  readonly key: string;
  /** For people, such as `SELECT on TABLE public.orders`. Never the value of a setting. */
  readonly label: string;
  /** Of a log-in's own: it takes effect when the role logs in, and means nothing to the owner role. */
  readonly logInOnly: boolean;
  /** Undefined for what cannot be passed on by a statement of its own, and so can only be reported. */
  readonly grant: RoleStatement | undefined;
  readonly revoke: readonly RoleStatement[];
}

export interface RoleDifference {
  readonly missing: readonly RoleFact[];
  readonly surplus: readonly RoleFact[];
}

/** What `actual` lacks of `expected`, and what it has beyond. */
export function differenceOf(expected: readonly RoleFact[], actual: readonly RoleFact[]): RoleDifference {
  const lacking = (these: readonly RoleFact[], others: readonly RoleFact[]): RoleFact[] => {
    const keys = new Set(others.map((fact) => fact.key));
    return these.filter((fact) => !keys.has(fact.key));
  };
  return { missing: lacking(expected, actual), surplus: lacking(actual, expected) };
}

/** The statements that end a difference for `role`. */
export function statementsFor(role: string, difference: RoleDifference): string[] {
  const name = identifier(role);
  const written = (statement: RoleStatement): string => `${statement.head}${name}${statement.tail}`;
  // Revoking first: a privilege held with grant option can only become one without by being taken and given again.
  return [
    ...difference.surplus.flatMap((fact) => fact.revoke.map(written)),
    ...difference.missing.flatMap((fact) => (fact.grant === undefined ? [] : [written(fact.grant)])),
  ];
}

/** A role attribute as `ALTER ROLE` spells it, and its opposite. */
export function attributeFact(attribute: string, opposite: string, logInOnly: boolean): RoleFact {
  return {
    key: `attribute ${attribute}`,
    label: `attribute ${attribute}`,
    logInOnly,
    grant: { head: 'ALTER ROLE ', tail: ` ${attribute}` },
    revoke: [{ head: 'ALTER ROLE ', tail: ` ${opposite}` }],
  };
}

export interface Membership {
  readonly role: string;
  readonly admin: boolean;
  /** PostgreSQL 16 and later; null before. */
  readonly inherit: boolean | null;
  readonly set: boolean | null;
  /** Each grantor of PostgreSQL 16 and later holds a grant of its own. Empty before. */
  readonly grantors: readonly string[];
}

export function membershipFact({ role, admin, inherit, set, grantors }: Membership): RoleFact {
  const group = identifier(role);
  const flag = (value: boolean): string => (value ? 'TRUE' : 'FALSE');
  const options =
    inherit === null || set === null
      ? admin
        ? ' WITH ADMIN OPTION'
        : ''
      : ` WITH ADMIN ${flag(admin)}, INHERIT ${flag(inherit)}, SET ${flag(set)}`;
  const grant = { head: `GRANT ${group} TO `, tail: options };
  const revoke =
    grantors.length === 0
      ? [{ head: `REVOKE ${group} FROM `, tail: '' }]
      : grantors.map((grantor) => ({
          head: `REVOKE ${group} FROM `,
          tail: ` GRANTED BY ${identifier(grantor)}`,
        }));
  return { key: grant.head + grant.tail, label: `membership in ${role}${options}`, logInOnly: false, grant, revoke };
}

export interface RoleSetting {
  /** The database it holds in; null for all. */
  readonly database: string | null;
  readonly name: string;
  /** As `pg_db_role_setting` keeps it. */
  readonly value: string;
}

// The settings PostgreSQL keeps as a list of quoted identifiers (GUC_LIST_QUOTE); quoted once more as a whole they would be one name.
const LIST_SETTINGS = new Set([
  'search_path',
  'temp_tablespaces',
  'session_preload_libraries',
  'local_preload_libraries',
]);

export function settingFact({ database, name, value }: RoleSetting): RoleFact {
  const scope = database === null ? '' : ` IN DATABASE ${identifier(database)}`;
  const variable = name.split('.').map(identifier).join('.');
  const elements = LIST_SETTINGS.has(name.toLowerCase()) ? listElements(value) : [value];
  const literals = elements.length === 0 ? "''" : elements.map(literal).join(', ');
  const grant = { head: 'ALTER ROLE ', tail: `${scope} SET ${variable} TO ${literals}` };
  return {
    key: grant.tail,
    label: `setting ${name}${scope}`,
    logInOnly: true,
    grant,
    revoke: [{ head: 'ALTER ROLE ', tail: `${scope} RESET ${variable}` }],
  };
}

/** `"$user", public` → `$user`, `public`. */
function listElements(list: string): string[] {
  const elements = list.match(/"(?:[^"]|"")*"|[^\s,"]+/g) ?? [];
  return elements.map((element) => (element.startsWith('"') ? element.slice(1, -1).replaceAll('""', '"') : element));
}
