import { describe, it } from '@jest/globals';
import { SOFTHSM_DEBIAN_PACKAGE, softhsmLibrary } from './softhsm-tokens.js';

/**
 * `describe` for tests against a real SoftHSM. Where it is not installed they are skipped, with a line that says what to install; under
 * `REQUIRE_SERVERS=1` or `CI=true` they fail instead.
 */
export function describeWithSofthsm(name: string, tests: () => void): void {
  if (softhsmLibrary() !== undefined) {
    describe(name, tests);
    return;
  }
  const advice = `SoftHSM is missing: install the Debian package ${SOFTHSM_DEBIAN_PACKAGE}`;
  if (process.env['REQUIRE_SERVERS'] === '1' || process.env['CI'] === 'true') {
    describe(name, () => {
      it('has a token', () => {
        throw new Error(`${advice}.`);
      });
    });
    return;
  }
  process.stderr.write(`SKIPPED ${name}: ${advice}.\n`);
  describe.skip(name, tests);
}
