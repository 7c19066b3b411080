import { describeWithServer } from './describe-with-server.js';
import { hasMariadb, MARIADB_DEBIAN_PACKAGE } from './mariadb-server.js';

/** `describe` for tests against a real MariaDB; see `describeWithServer`. */
export function describeWithMariadb(name: string, tests: () => void): void {
  const server = { product: 'MariaDB', isInstalled: hasMariadb(), debianPackage: MARIADB_DEBIAN_PACKAGE };
  describeWithServer(server, name, tests);
}
