import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { scramVerifier } from '../src/rotators/scram-verifier.js';
import { queryAs, sqlStateOf } from './rotators-fixture.js';

describe('scramVerifier', () => {
  it('gives the keys of the exchange in RFC 7677 §3', async () => {
    // The RFC prints the client's proof and the server's signature; both keys below follow from its password, salt and rounds.
    const salt = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64');
    expect(await scramVerifier('pencil', { salt, iterations: 4096 })).toBe(
      'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=',
    );
  });

  it('has a fresh salt and 4096 rounds by default', async () => {
    const [one, two] = await Promise.all([scramVerifier('pencil'), scramVerifier('pencil')]);
    expect(one).toMatch(/^SCRAM-SHA-256\$4096:[A-Za-z0-9+/]{22}==\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$/);
    expect(one).not.toBe(two);
  });
});

describe('scramVerifier and the server', () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(() => server.stop());

  it.each([
    ['plain', 'correct horse battery staple'],
    ['quotes and backslashes', `a'b"c\\d$e`],
    ['a composed letter', 'caf\u00e9'],
    ['a decomposed letter', 'cafe\u0301'],
    ['a ligature, which SASLprep takes apart', '\ufb01ne'],
    ['a no-break space, which becomes a space', 'a\u00a0b'],
    ['a soft hyphen, which vanishes', 'a\u00adb'],
    ['other scripts', 'пароль密码'],
  ])('agrees with the server on %s', async (_what, password) => {
    await server.query(`CREATE ROLE theirs LOGIN PASSWORD ${literal(password)}`);
    try {
      const stored = String(
        (await server.query(`SELECT rolpassword FROM pg_authid WHERE rolname = 'theirs'`))[0]?.['rolpassword'],
      );
      const [, iterations, salt] = /^SCRAM-SHA-256\$(\d+):([^$]+)\$/.exec(stored) ?? [];
      const ours = await scramVerifier(password, {
        iterations: Number(iterations),
        salt: Buffer.from(salt ?? '', 'base64'),
      });
      expect(ours).toBe(stored);
    } finally {
      await server.query('DROP ROLE theirs');
    }
  });

  it('opens the server with the password, and with no other', async () => {
    const password = `a'b"c\\d e`;
    await server.query(`CREATE ROLE ours LOGIN PASSWORD '${await scramVerifier(password)}'`);
    expect(await queryAs(server, { username: 'ours', password }, 'SELECT current_user::text AS me')).toEqual([
      { me: 'ours' },
    ]);
    expect(await sqlStateOf(queryAs(server, { username: 'ours', password: `${password}!` }))).toBe('28P01');
  });
});

function literal(text: string): string {
  return ` E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}
