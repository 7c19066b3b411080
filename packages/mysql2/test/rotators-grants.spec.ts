import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { DatabaseCredentials } from '@nestjs-secrets/core';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb, type MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { mysqlAlternatingUsers, type MysqlAlternatingUsersOptions, type MysqlRotator } from '../src/rotators/index.js';
import { HandRotation, outcomeOf, queryAs, version, type Version } from './rotators-fixture.js';

let server: MariadbServer;
let serial = 0;
let base: string;

function rotatorFor(options: Partial<MysqlAlternatingUsersOptions> = {}): MysqlRotator {
  const { host, port, database } = server;
  return mysqlAlternatingUsers({
    connection: { host, port, database },
    admin: server.admin,
    baseName: base,
    ...options,
  });
}

async function admin(...statements: string[]): Promise<void> {
  for (const statement of statements) await server.query(statement);
}

async function rotate(rotator: MysqlRotator, current?: Version): Promise<Version> {
  const rotation = new HandRotation(rotator, current);
  const next = await rotation.upToPromotion();
  if (current !== undefined) await rotation.retire();
  return next;
}

const can = (credentials: DatabaseCredentials, ...sql: string[]): Promise<unknown> =>
  outcomeOf(queryAs(server, credentials, ...sql));

/** What the server shows of a user, but for its name and password. */
async function described(user: string, host = '%'): Promise<string[]> {
  const name = `\`${user}\`@\`${host}\``;
  const rows = [
    ...(await server.query(`SHOW GRANTS FOR ${name}`)),
    ...(await server.query(`SHOW CREATE USER ${name}`)),
  ];
  return (
    rows
      .map((row) =>
        String(Object.values(row)[0])
          .replaceAll(name, 'USER')
          .replaceAll(/\*[0-9A-F]{40}|invalid/g, '*'),
      )
      .map((line) => line.replace(' ACCOUNT LOCK', ''))
      // The server keeps no order of columns.
      .map((line) =>
        line.replace(/^GRANT (.*) ON/, (_all, what: string) => `GRANT ${[...what].toSorted().join('')} ON`),
      )
      .toSorted()
  );
}

/** One of each kind of thing a user can be given. `r` stands for the user as it stands in SQL. */
const GRANTS: readonly [what: string, make: (b: string) => string[], give: (b: string, r: string) => string[]][] = [
  ['a global privilege', () => [], (_b, r) => [`GRANT PROCESS, REPLICATION CLIENT ON *.* TO ${r}`]],
  ['a database', () => [], (b, r) => [`GRANT SELECT, CREATE VIEW ON \`${b}\\_x\`.* TO ${r}`]],
  ['a pattern of databases', () => [], (b, r) => [`GRANT ALL PRIVILEGES ON \`${b}%\`.* TO ${r}`]],
  ['a database with grant option', () => [], (b, r) => [`GRANT SELECT ON \`${b}\`.* TO ${r} WITH GRANT OPTION`]],
  ['the grant option alone', () => [], (b, r) => [`GRANT USAGE ON \`${b}\`.* TO ${r} WITH GRANT OPTION`]],
  [
    'a table',
    (b) => [`CREATE TABLE app.${b}_o (id int)`],
    (b, r) => [`GRANT SELECT, INSERT, TRIGGER, DELETE HISTORY ON app.${b}_o TO ${r}`],
  ],
  [
    'a table with grant option',
    (b) => [`CREATE TABLE app.${b}_o (id int)`],
    (b, r) => [`GRANT UPDATE ON app.${b}_o TO ${r} WITH GRANT OPTION`],
  ],
  [
    'a view with an odd name',
    (b) => [`CREATE VIEW app.\`${b} "o', TO \`\`x\` AS SELECT 1 AS one`],
    (b, r) => [`GRANT SELECT, SHOW VIEW ON app.\`${b} "o', TO \`\`x\` TO ${r}`],
  ],
  [
    'columns with odd names',
    (b) => [`CREATE TABLE app.${b}_o (id int, \`Odd, (col\` int, hidden int)`],
    (b, r) => [`GRANT SELECT (id, \`Odd, (col\`), UPDATE (id), DELETE ON app.${b}_o TO ${r}`],
  ],
  [
    'a procedure',
    (b) => [`CREATE PROCEDURE app.${b}_p() SELECT 1`],
    (b, r) => [`GRANT EXECUTE ON PROCEDURE app.${b}_p TO ${r}`],
  ],
  [
    'a function with grant option',
    (b) => [`CREATE FUNCTION app.${b}_f() RETURNS int RETURN 1`],
    (b, r) => [`GRANT EXECUTE, ALTER ROUTINE ON FUNCTION app.${b}_f TO ${r} WITH GRANT OPTION`],
  ],
  ['a role', (b) => [`CREATE ROLE ${b}_r`, `GRANT SELECT ON mysql.db TO ${b}_r`], (b, r) => [`GRANT ${b}_r TO ${r}`]],
  ['a role with admin option', (b) => [`CREATE ROLE ${b}_r`], (b, r) => [`GRANT ${b}_r TO ${r} WITH ADMIN OPTION`]],
  [
    'a default role',
    (b) => [`CREATE ROLE \`${b} r'\``],
    (b, r) => [`GRANT \`${b} r'\` TO ${r}`, `SET DEFAULT ROLE \`${b} r'\` FOR ${r}`],
  ],
  ['resource limits', () => [], (_b, r) => [`ALTER USER ${r} WITH MAX_QUERIES_PER_HOUR 5000 MAX_STATEMENT_TIME 2.5`]],
  ['password expiry', () => [], (_b, r) => [`ALTER USER ${r} PASSWORD EXPIRE INTERVAL 90 DAY`]],
];

/** Takes away again what `GRANTS` gives. */
const takeAway = (r: string): string[] => [
  `REVOKE ALL PRIVILEGES, GRANT OPTION FROM ${r}`,
  `GRANT SELECT ON app.* TO ${r}`,
  `ALTER USER ${r} WITH MAX_QUERIES_PER_HOUR 0 MAX_STATEMENT_TIME 0 PASSWORD EXPIRE DEFAULT`,
];

describeWithMariadb('what alternating users are given', () => {
  beforeAll(async () => {
    server = await startMariadb();
  });
  afterAll(() => server.stop());
  beforeEach(() => {
    serial += 1;
    base = `g${serial}`;
  });

  describe.each(GRANTS)('%s', (_what, make, give) => {
    const prepare: MysqlAlternatingUsersOptions['prepare'] = async (connection, accounts) =>
      void (await connection.query(`GRANT SELECT ON app.* TO ${accounts.join()}`));

    it('is passed on, compared both ways, and taken away again', async () => {
      await admin(...make(base));
      const rotator = rotatorFor({ prepare });
      const one = await rotate(rotator);
      const plain = await described(`${base}_1`);
      await admin(...give(base, `${base}_1`));
      const given = await described(`${base}_1`);
      expect(given).not.toEqual(plain);

      // What was given after `apply` is missed by verify…
      const rotation = new HandRotation(rotator, one);
      await rotation.create();
      await rotation.apply();
      expect(await described(`${base}_2`)).toEqual(given);
      await rotation.verify();
      await admin(...takeAway(`${base}_2`));
      await expect(rotation.verify()).rejects.toMatchObject({ code: 'ROLE_MISMATCH' });
      // …as is what the new user has beyond.
      await rotation.apply();
      await rotation.verify();
      const two = rotation.pending;
      await admin(...takeAway(`${base}_1`));
      await expect(rotation.verify()).rejects.toMatchObject({ code: 'ROLE_MISMATCH' });
      await admin(...give(base, `${base}_1`));
      await rotation.verify();
      await rotation.retire();

      // Round the ring: the first has it still, and loses it when the current one has lost it.
      await admin(...takeAway(`${base}_2`), ...give(base, `${base}_2`));
      const three = await rotate(rotator, two);
      expect(await described(`${base}_1`)).toEqual(given);
      await admin(...takeAway(`${base}_1`));
      const left = await described(`${base}_1`);
      await rotate(rotator, three);
      expect(await described(`${base}_2`)).toEqual(left);
    });
  });

  it('takes over a user from outside the ring, at its own hosts', async () => {
    await admin(
      `CREATE TABLE app.${base}_t (id int)`,
      `CREATE USER legacy_${serial}@'127.0.0.%' IDENTIFIED BY 'legacy-password'`,
      `CREATE USER legacy_${serial}@'10.%' IDENTIFIED BY 'legacy-password' REQUIRE SUBJECT 'O=it''s\\\\' AND ISSUER 'x'`,
      `GRANT SELECT, INSERT ON app.${base}_t TO legacy_${serial}@'127.0.0.%'`,
      `GRANT SELECT ON app.${base}_t TO legacy_${serial}@'10.%'`,
    );
    const legacy = { username: `legacy_${serial}`, password: 'legacy-password' };
    const two = await rotate(rotatorFor(), version(legacy));
    expect(two.value.username).toBe(`${base}_1`);
    for (const host of ['127.0.0.%', '10.%'])
      expect(await described(`${base}_1`, host)).toEqual(await described(legacy.username, host));
    expect(await can(two.value, `INSERT INTO app.${base}_t VALUES (1)`)).toBe('yes');
    expect(await can(legacy, 'SELECT 1')).toBe(1045);
    // An account of another host than the current user's is closed.
    await admin(`CREATE USER ${base}_2@'%' IDENTIFIED BY 'left over'`);
    await rotate(rotatorFor(), two);
    const [row] = await server.query<Record<string, string>>(`SHOW CREATE USER ${base}_2@'%'`);
    expect(Object.values(row ?? {})[0]).toContain('ACCOUNT LOCK');
  });

  it('requires TLS of the new user where the current one does, before it can log in', async () => {
    const one = await rotate(rotatorFor());
    await admin(`ALTER USER ${base}_1 REQUIRE X509`);
    const rotation = new HandRotation(rotatorFor(), one);
    const { value } = await rotation.create();
    await rotation.apply();
    expect(await described(`${base}_2`)).toEqual(await described(`${base}_1`));
    expect(await can(value, 'SELECT 1')).toBe(1045);
    await expect(rotation.verify()).rejects.toMatchObject({ code: 'TARGET_REFUSED' });
    await rotation.undo();
  });

  it('does not stumble over a grant whose table is gone, and has it again with the table', async () => {
    await admin(`CREATE TABLE app.${base}_gone (id int)`);
    const prepare: MysqlAlternatingUsersOptions['prepare'] = async (connection, accounts) =>
      void (await connection.query(`GRANT SELECT, INSERT ON app.${base}_gone TO ${accounts.join()}`));
    const rotator = rotatorFor({ prepare });
    const one = await rotate(rotator);
    await admin(`GRANT SELECT ON app.* TO ${base}_1`, `DROP TABLE app.${base}_gone`);
    const two = await rotate(rotator, one);
    expect(await can(two.value, 'SELECT 1')).toBe('yes');
    await admin(`CREATE TABLE app.${base}_gone (id int)`, `GRANT INSERT ON app.${base}_gone TO ${base}_2`);
    const three = await rotate(rotator, two);
    expect(await can(three.value, `INSERT INTO app.${base}_gone VALUES (1)`)).toBe('yes');
  });

  it('needs no more of the administrator than it says', async () => {
    const dba = { username: `dba_${serial}`, password: 'dba-password' };
    await admin(
      `CREATE USER ${dba.username} IDENTIFIED BY '${dba.password}'`,
      `GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO ${dba.username}`,
      `GRANT SELECT ON mysql.* TO ${dba.username}`,
      `GRANT ALL PRIVILEGES ON app.* TO ${dba.username} WITH GRANT OPTION`,
    );
    const rotator = rotatorFor({ admin: dba });
    const one = await rotate(rotator);
    const two = await rotate(rotator, one);
    const three = await rotate(rotator, two);
    expect([await can(one.value), await can(two.value), await can(three.value)]).toEqual([1045, 1045, 'yes']);
    const rehearsal = rotator.rehearsal?.();
    if (rehearsal === undefined) throw new Error('no rehearsal');
    const rotation = new HandRotation(rehearsal, three);
    await rotation.upToPromotion();
    await rotation.undo();

    // What it may not pass on itself stops the rotation, and names no statement.
    await admin(`GRANT FILE ON *.* TO ${base}_1`);
    const denied = new HandRotation(rotator, three);
    await denied.create();
    await expect(denied.apply()).rejects.toMatchObject({
      code: 'TARGET_DENIED',
      message: expect.not.stringContaining('GRANT FILE'),
    });
    await denied.undo();
  });
});
