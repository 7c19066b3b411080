import { describe, it } from '@jest/globals';

/** A server that tests need, and where it comes from. */
export interface NeededServer {
  readonly product: string;
  readonly isInstalled: boolean;
  readonly debianPackage: string;
}

/**
 * `describe` for tests against a real server. Where it is not installed they are skipped, with a line that says what to install; under
 * `REQUIRE_SERVERS=1` or `CI=true` they fail instead.
 */
export function describeWithServer(server: NeededServer, name: string, tests: () => void): void {
  if (server.isInstalled) {
    describe(name, tests);
    return;
  }
  const advice = `${server.product} is missing: install the Debian package ${server.debianPackage}`;
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
