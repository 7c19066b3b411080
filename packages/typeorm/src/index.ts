export { liveMysql, type LiveMysql, type LiveMysqlOptions } from './live-mysql.js';
export { livePostgres, type LivePostgres } from './live-postgres.js';
export { sqlStore, sqliteStore, type SqliteStoreOptions, type SqlStoreOptions } from './sql-store.js';
export { StoreOptionsError } from '@nestjs-secrets/core';
