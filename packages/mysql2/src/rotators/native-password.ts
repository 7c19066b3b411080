import { createHash } from 'node:crypto';

/** What no password hashes to: an account with it lets nobody in. */
export const NO_PASSWORD = 'invalid';

/**
 * What the server stores for a password under mysql_native_password: `*` and SHA1(SHA1(password)) in upper-case hexadecimal digits. Sent in
 * place of the password, so that no statement, and so no log of statements, ever holds the password itself.
 * https://mariadb.com/kb/en/authentication-plugin-mysql_native_password/
 */
export function nativePasswordHash(password: string): string {
  const inner = createHash('sha1').update(password, 'utf8').digest();
  const hash = `*${createHash('sha1').update(inner).digest('hex').toUpperCase()}`;
  inner.fill(0);
  return hash;
}
