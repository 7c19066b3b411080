export { etcdStore, type EtcdStoreOptions } from './etcd-store.js';
export type { EtcdConnection } from './etcd-gateway.js';
