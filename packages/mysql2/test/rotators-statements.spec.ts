import { describe, expect, it } from '@jest/globals';
import { differenceOf, factsOf, statementsFor } from '../src/rotators/account-facts.js';
import { traitClauses, traitDifferences, traitsOf } from '../src/rotators/account-traits.js';
import { targetError } from '../src/rotators/mysql-target-errors.js';
import { nativePasswordHash } from '../src/rotators/native-password.js';
import { dialectOf, type ServerDialect } from '../src/rotators/server-dialect.js';
import { accountName, databasePattern, literal } from '../src/rotators/sql-quoting.js';
import { checkTwoPasswords, secondPasswordStatements, type PasswordChange } from '../src/rotators/two-passwords.js';
import type { AccountProfile } from '../src/rotators/user-profile.js';

/*
 * What would be sent to MySQL, which no test here runs against; and what MariaDB shows that cannot be had from one server. The statements
 * for MariaDB itself are tested on a real one.
 */

const MYSQL_8: ServerDialect = dialectOf('8.0.36', 'db:3306');
const CURRENT = { username: 'app', password: "cur'rent\\" };
const PENDING = { username: 'app', password: 'pending' };
const account = { user: 'app', host: '%' };

const profile = (createUser: string, retainsPassword = false): AccountProfile => ({
  account,
  traits: traitsOf(createUser),
  facts: [],
  retainsPassword,
});

describe('which server it is', () => {
  it.each([
    ['10.11.19-MariaDB-0+deb12u1', 'MariaDB', true],
    ['10.4.2-MariaDB', 'MariaDB', true],
    ['11.4.3-MariaDB-ubu2404-log', 'MariaDB', true],
    ['8.0.36', 'MySQL', true],
    ['8.0.14', 'MySQL', true],
    ['8.0.13', 'MySQL', false],
    ['9.1.0-commercial', 'MySQL', true],
    ['8.4.3-aurora', 'MySQL', true],
  ])('goes by what it says: %s', (version, product, holdsTwoPasswords) => {
    expect(dialectOf(version, 'db')).toMatchObject({ product, version, holdsTwoPasswords });
  });

  it.each(['10.3.39-MariaDB', '10.4.1-MariaDB', '5.7.44-log', ''])('refuses one that is too old: %j', (version) => {
    expect(() => dialectOf(version, 'db:3306')).toThrow(expect.objectContaining({ code: 'TARGET_FAILED' }));
  });

  it('refuses two passwords where the server has one', () => {
    expect(() => checkTwoPasswords(dialectOf('8.0.13', 'db'), 'mysql/dual-password', 'db:3306')).toThrow(
      expect.objectContaining({ code: 'ROLE_UNSUITABLE', message: expect.stringContaining('8.0.14') }),
    );
    expect(() => checkTwoPasswords(MYSQL_8, 'mysql/dual-password', 'db:3306')).not.toThrow();
  });
});

describe('statements for MySQL', () => {
  it('make, open and lock accounts', () => {
    expect(MYSQL_8.createLocked(account)).toBe('CREATE USER `app`@`%` ACCOUNT LOCK');
    expect(MYSQL_8.setPassword(account, CURRENT.password, [], ' ACCOUNT UNLOCK')).toBe(
      "ALTER USER `app`@`%` IDENTIFIED BY 'cur''rent\\\\' ACCOUNT UNLOCK",
    );
    expect(MYSQL_8.setOwnPassword('new')).toBe("ALTER USER USER() IDENTIFIED BY 'new'");
    expect(MYSQL_8.disable(account)).toBe('ALTER USER `app`@`%` ACCOUNT LOCK');
  });

  const sent = (change: PasswordChange, valid: readonly string[], retains = false): Promise<string[]> =>
    secondPasswordStatements(MYSQL_8, [profile('CREATE USER `app`@`%`', retains)], change, ({ password }) =>
      Promise.resolve(valid.includes(password)),
    );

  it('add a password beside the current one, unless it is there', async () => {
    const add: PasswordChange = { kind: 'add', current: CURRENT, added: PENDING };
    expect(await sent(add, [CURRENT.password])).toEqual([
      "ALTER USER `app`@`%` IDENTIFIED BY 'pending' RETAIN CURRENT PASSWORD",
    ]);
    expect(await sent(add, [CURRENT.password, PENDING.password], true)).toEqual([]);
    // A third would push out one that somebody still uses.
    await expect(sent(add, [CURRENT.password], true)).rejects.toMatchObject({ code: 'NO_FREE_IDENTITY' });
  });

  it('take either of them away', async () => {
    expect(
      await sent({ kind: 'retire', current: PENDING, removed: CURRENT }, [CURRENT.password, PENDING.password]),
    ).toEqual(['ALTER USER `app`@`%` DISCARD OLD PASSWORD']);
    expect(
      await sent({ kind: 'undo', current: CURRENT, removed: PENDING }, [CURRENT.password, PENDING.password]),
    ).toEqual(["ALTER USER `app`@`%` IDENTIFIED BY 'cur''rent\\\\'", 'ALTER USER `app`@`%` DISCARD OLD PASSWORD']);
    expect(await sent({ kind: 'undo', current: CURRENT, removed: PENDING }, [CURRENT.password])).toEqual([]);
  });

  it('pass on what SHOW CREATE USER tells', () => {
    const shown = traitsOf(
      "CREATE USER `app`@`%` IDENTIFIED WITH 'caching_sha2_password' AS '$A$005$x\\'y' DEFAULT ROLE `r`@`%`,`s`@`%` REQUIRE SSL WITH MAX_USER_CONNECTIONS 5 PASSWORD EXPIRE INTERVAL 90 DAY ACCOUNT LOCK PASSWORD HISTORY 5 PASSWORD REUSE INTERVAL DEFAULT PASSWORD REQUIRE CURRENT DEFAULT FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 2 ATTRIBUTE '{\"team\": \"x REQUIRE\"}'",
    );
    expect(shown).toMatchObject({
      authentication: [{ plugin: 'caching_sha2_password', hash: "$A$005$x'y" }],
      locked: true,
      require: 'SSL',
      expiry: 'INTERVAL 90 DAY',
      defaultRole: { key: 'default role `r`@`%`,`s`@`%`', grant: { head: 'SET DEFAULT ROLE `r`@`%`,`s`@`%` TO ' } },
    });
    expect(traitClauses(shown, MYSQL_8)).toBe(
      ' REQUIRE SSL WITH MAX_QUERIES_PER_HOUR 0 MAX_UPDATES_PER_HOUR 0 MAX_CONNECTIONS_PER_HOUR 0 MAX_USER_CONNECTIONS 5 ACCOUNT UNLOCK PASSWORD EXPIRE INTERVAL 90 DAY PASSWORD HISTORY 5 PASSWORD REUSE INTERVAL DEFAULT PASSWORD REQUIRE CURRENT DEFAULT FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 2 ATTRIBUTE \'{"team": "x REQUIRE"}\'',
    );
  });

  it('pass on dynamic privileges, partial revokes and roles', () => {
    const rows = [
      'GRANT SELECT, PROCESS ON *.* TO `app`@`%` WITH GRANT OPTION',
      'GRANT BACKUP_ADMIN,CONNECTION_ADMIN ON *.* TO `app`@`%` WITH GRANT OPTION',
      'REVOKE SELECT ON `mysql`.* FROM `app`@`%`',
      'GRANT `r`@`%`,`s`@`%` TO `app`@`%` WITH ADMIN OPTION',
    ];
    const other = { user: 'app_2', host: '%' };
    const missing = differenceOf(factsOf(account, rows), []);
    expect(statementsFor(other, missing)).toEqual([
      'GRANT SELECT ON *.* TO `app_2`@`%`',
      'GRANT PROCESS ON *.* TO `app_2`@`%`',
      'GRANT SELECT ON *.* TO `app_2`@`%` WITH GRANT OPTION',
      'GRANT BACKUP_ADMIN ON *.* TO `app_2`@`%` WITH GRANT OPTION',
      'GRANT CONNECTION_ADMIN ON *.* TO `app_2`@`%` WITH GRANT OPTION',
      'REVOKE SELECT ON `mysql`.* FROM `app_2`@`%`',
      'GRANT `r`@`%` TO `app_2`@`%` WITH ADMIN OPTION',
      'GRANT `s`@`%` TO `app_2`@`%` WITH ADMIN OPTION',
    ]);
    expect(statementsFor(other, differenceOf([], factsOf(account, rows)))).toContain(
      'GRANT SELECT ON `mysql`.* TO `app_2`@`%`',
    );
  });
});

describe('what the server shows', () => {
  it('leaves out rows about others, and is not led astray by names', () => {
    const odd = { user: "a' TO `b`", host: '%' };
    const rows = [
      "GRANT USAGE ON *.* TO `a' TO ``b```@`%` IDENTIFIED BY PASSWORD '*0DD5' WITH MAX_QUERIES_PER_HOUR 3",
      "GRANT SELECT (`x, ON (y`) ON `d ON TO`.`t` TO `a' TO ``b```@`%`",
      'GRANT DELETE ON `d`.* TO `role`',
      'GRANT SELECT ON `d`.* TO PUBLIC',
      'GRANT SELECT ON `d`.* TO `b`@`%`',
    ];
    expect(factsOf(odd, rows)).toMatchObject([
      { key: 'SELECT (`x, ON (y`) ON `d ON TO`.`t`', table: { schema: 'd ON TO', name: 't' } },
    ]);
  });

  it('tells in what traits two accounts differ', () => {
    const one = traitsOf(
      "CREATE USER `a`@`%` IDENTIFIED BY PASSWORD '*1' REQUIRE X509 WITH MAX_STATEMENT_TIME 2.500000",
    );
    const two = traitsOf('CREATE USER `a`@`%` ACCOUNT LOCK PASSWORD EXPIRE NEVER');
    expect(traitDifferences(one, two)).toEqual([
      'it has REQUIRE NONE instead of X509',
      'it has MAX_STATEMENT_TIME unlimited instead of 2.5',
      'it has PASSWORD EXPIRE NEVER instead of DEFAULT',
    ]);
    expect(traitDifferences(one, one)).toEqual([]);
    expect(two.authentication).toEqual([{ plugin: 'mysql_native_password', hash: '' }]);
  });
});

describe('quoting', () => {
  it('lets nothing break out', () => {
    expect(literal('it\'s \\\' "x"')).toBe("'it''s \\\\'' \"x\"'");
    expect(accountName({ user: 'a`; DROP', host: '`%' })).toBe('`a``; DROP`@```%`');
    expect(databasePattern('my_db%\\`')).toBe('`my\\_db\\%\\\\```');
  });

  it('hashes as mysql_native_password does', () => {
    // MariaDB 10.11: SELECT PASSWORD('password'), PASSWORD('é密').
    expect(nativePasswordHash('password')).toBe('*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19');
    expect(nativePasswordHash('new')).toBe('*6FE2B845E049CDA9EFED8CFAF265CD29622FD852');
  });
});

describe('errors', () => {
  const error = (errno: number, sqlMessage = 'words of the server.', sql = "ALTER USER 'canary'"): object => ({
    errno,
    sqlMessage,
    sql,
    message: sqlMessage,
  });
  const codeOf = (cause: unknown, during: 'log-in' | 'statement' = 'statement'): string =>
    targetError(cause, 'db:3306', 'testing', during).code;

  it.each([
    [1045, 'log-in', 'TARGET_REFUSED'],
    [4151, 'log-in', 'TARGET_REFUSED'],
    [3118, 'log-in', 'TARGET_REFUSED'],
    // A view whose definer was dropped says so: no word about these credentials.
    [1045, 'statement', 'TARGET_DENIED'],
    [1044, 'log-in', 'TARGET_DENIED'],
    [1227, 'statement', 'TARGET_DENIED'],
    [1040, 'log-in', 'TARGET_UNREACHABLE'],
    [3955, 'log-in', 'TARGET_UNREACHABLE'],
    [4150, 'log-in', 'TARGET_UNREACHABLE'],
    [1862, 'log-in', 'TARGET_FAILED'],
    [1396, 'statement', 'TARGET_FAILED'],
  ] as const)('takes %i at a %s for %s', (errno, during, code) => {
    expect(codeOf(error(errno), during)).toBe(code);
  });

  it('never quote a statement', () => {
    const parse = targetError(error(1064, "near 'IDENTIFIED BY canary'"), 'db:3306', 'testing', 'statement');
    expect(parse.message).not.toContain('canary');
    expect(JSON.stringify(parse) + parse.stack).not.toContain('canary');
    expect(codeOf(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED', errno: -111 }))).toBe(
      'TARGET_UNREACHABLE',
    );
    expect(codeOf(undefined)).toBe('TARGET_UNREACHABLE');
  });
});
