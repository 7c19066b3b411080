import { describeWithServer } from './describe-with-server.js';
import { hasRedis, REDIS_DEBIAN_PACKAGE } from './redis-server.js';

/** `describe` for tests against a real Redis; see `describeWithServer`. */
export function describeWithRedis(name: string, tests: () => void): void {
  const server = { product: 'Redis', isInstalled: hasRedis(), debianPackage: REDIS_DEBIAN_PACKAGE };
  describeWithServer(server, name, tests);
}
