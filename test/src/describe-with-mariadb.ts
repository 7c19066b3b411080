import { describe, it } from '@jest/globals';
import { hasMariadb, MARIADB_DEBIAN_PACKAGE } from './mariadb-server.js';

/**
 * `describe` for tests against a real MariaDB. Where it is not installed they are skipped, with a line that says what to install; under
 * `REQUIRE_SERVERS=1` or `CI=true` they fail instead.
 */
export function describeWithMariadb(name: string, tests: () => void): void {
  if (hasMariadb()) {
    describe(name, tests);
    return;
  }
  const advice = `MariaDB is missing: install the Debian package ${MARIADB_DEBIAN_PACKAGE}`;
  if (process.env['REQUIRE_SERVERS'] === '1' || process.env['CI'] === 'true') {
    describe(name, () => {
      it('has a server', () => {
        throw new Error(`${advice}.`);
      });
    });
    return;
  }
  process.stderr.write(`SKIPPED ${name}: ${advice}.\n`);
  describe.skip(name, tests);
}
