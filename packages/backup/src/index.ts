export { generateBackupIdentity, type BackupIdentity, type BackupKey, type BackupLock } from './age-encryption.js';
export * from './backups.js';
