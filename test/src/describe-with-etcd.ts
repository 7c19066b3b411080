import { describeWithServer } from './describe-with-server.js';
import { ETCD_DEBIAN_PACKAGE, hasEtcd } from './etcd-server.js';

/** `describe` for tests against a real etcd; see `describeWithServer`. */
export function describeWithEtcd(name: string, tests: () => void): void {
  const server = { product: 'etcd', isInstalled: hasEtcd(), debianPackage: ETCD_DEBIAN_PACKAGE };
  describeWithServer(server, name, tests);
}
