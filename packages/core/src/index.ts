export * from './foundation/clock.js';
export { syncFolder } from './foundation/durable-files.js';
export * from './foundation/errors.js';
export * from './foundation/ids.js';
export * from './foundation/randomness.js';
export * from './foundation/random-password.js';
export * from './foundation/redaction.js';
export * from './foundation/log-censor.js';
export * from './store/store-driver.js';
export * from './store/store-request.js';
export * from './store/hint-listeners.js';
export * from './store/memory-store.js';
export * from './store/move-errors.js';
export type * from './store/move-events.js';
export type { MovePhase } from './store/move-records.js';
export { isMovingStore, movingStore, type MovingStore, type MovingStoreOptions } from './store/moving-store.js';
export * from './store/back-off.js';
export * from './store/deadline.js';
export * from './store/key-range.js';
export type { Lookout } from './store/lookout.js';
export * from './store/remote-store.js';
export * from './store/revision-poll.js';
export * from './store/session-lookout.js';
export * from './store/store-calls.js';
export * from './access/access-errors.js';
export * from './access/access-request.js';
export * from './access/actions.js';
export type { CompiledStatement, StatementOrigin } from './access/compiled-policy.js';
export * from './access/decision.js';
export * from './access/policy-document.js';
export type { PolicySeal } from './access/policy-records.js';
export * from './access/policy-store.js';
export { checkIdentityPolicy, checkSecretPolicy, type ValidIdentityPolicy } from './access/policy-validator.js';
export * from './access/principal.js';
export type { Simulation, UnmetCondition, WhatIf } from './access/simulation.js';
export * from './encryption/key-provider.js';
export * from './integrity/integrity-findings.js';
export { recordPayload } from './integrity/record-seal.js';
export { SealedStore } from './integrity/sealed-store.js';
export * from './integrity/store-integrity.js';
export {
  printStoreHead,
  storeHeadsIn,
  type StoreHead,
  type StoreVerification,
  type VerifyStoreOptions,
} from './integrity/verify-store.js';
export * from './versions/secret-version.js';
export type { Acknowledgement } from './fleet/acknowledgements.js';
export * from './fleet/process-identity.js';
export * from './rotation/secret-rotator.js';
export * from './client/database-credentials.js';
export * from './client/secret.js';
export * from './client/secret-link.js';
export * from './client/secret-source.js';
export * from './client/manager-source.js';
export * from './client/pool/connection-register.js';
export * from './client/pool/credential-choice.js';
export * from './client/pool/live-pool-errors.js';
export * from './client/pool/pause-gate.js';
export * from './client/pool/renewal.js';
export * from './client/pool/roll.js';
export * from './client/pool/waiting-callers.js';
export * from './manager/descriptions.js';
export type {
  CreateSecretOptions,
  PutSecretValueOptions,
  RotateSecretOptions,
  SecretPage,
  VersionSelector,
} from './manager/requests.js';
export * from './manager/secrets-manager.js';
export type { SecretHealth } from './client/secret-handles.js';
export * from './module/authorize.decorator.js';
export {
  ACCESS_CONTROL,
  AUTHORIZE_OPTIONS,
  AuthorizeGuard,
  type AccessControl,
  type AuthorizeOptions,
} from './module/authorize.guard.js';
export * from './module/censored-logger.js';
export * from './module/on-secret-change.decorator.js';
export * from './module/pino-censor.js';
export * from './module/rotator.decorator.js';
export * from './module/secret-tokens.js';
export * from './module/secrets-health.js';
export * from './module/secrets-options.js';
export * from './module/secrets.module.js';
export * from './rotation/rotation-events.js';
export * from './rotation/rotation-result.js';
export * from './rotation/rotation-state.js';
export * from './rotation/rotator-options-error.js';
export * from './versions/rotation-policy.js';
export * from './versions/secret-definition.js';
export type { VersionState } from './versions/secret-record.js';
export * from './encryption/ephemeral-keys.js';
export * from './encryption/keyring.js';
export { movingKeys, type MovingKeysOptions } from './encryption/moving-keys.js';
export { createLocalKeyFile, localKeyFile, type LocalKeyFileOptions } from './encryption/local-key-file.js';
export * from './encryption/passphrase-key-file.js';
export type { PassphraseSource } from './encryption/passphrase-wrapping.js';
export * from './encryption/remote-key-provider.js';
export * from './encryption/remote-key-names.js';
export type { RemoteCallOptions } from './encryption/remote-calls.js';
export * from './encryption/keys/key-errors.js';
export type { CmkState } from './encryption/keys/key-record.js';
export type { KeyDescription, KeyPage, KeyVersionDescription, RunningRewrap } from './keys/key-descriptions.js';
export type { KeyEvent, RewrapReport } from './keys/key-events.js';
export type { KeyManager } from './keys/key-manager.js';
export type { KeyMoveReport } from './keys/key-move.js';
export type { KeyDesk } from './manager/key-desk.js';
export type {
  CreateKeyOptions,
  RewrapScope,
  RotateKeyOptions,
  ScheduleDestructionOptions,
  MoveKeysOptions,
} from './keys/key-requests.js';
export * from './lifecycle/lifecycle-events.js';
export type { DeleteSecretOptions, DestroyVersionOptions } from './lifecycle/lifecycle-requests.js';
export type { SealedEntry } from './versions/sealed-values.js';
export type { EnvelopeContext } from './encryption/associated-data.js';
export { SecretsRuntime, type ResolvedDefinition } from './module/secrets-runtime.js';
export type { ManagerRuntime } from './module/manager-runtime.js';
export type { Notice } from './module/notices.js';
export * from './module/access-options.js';
export { sharedAuditLog, type SharedAuditLog, type SharedAuditLogOptions } from './module/shared-audit-log.js';
export type { CallContext } from './doors/caller.js';
export { BackupError, type BackupErrorCode } from './backup/backup-errors.js';
export type { LeftOut } from './backup/backup-records.js';
export type { ImportOptions, ImportReport } from './backup/store-import.js';
export { type BackupContent, type BackupSummary, type VerifiedBackup, verifyBackup } from './backup/verify-backup.js';
export type { BackupDesk } from './manager/backup-desk.js';
export type { IntegrityDesk } from './manager/integrity-desk.js';
export { AuditDesk, type LeftLog, type VerifyOptions } from './manager/audit-desk.js';
export { PolicyDesk, type WantedPolicy } from './manager/policy-desk.js';
export type { RotationReport, StepOperation } from './rotation/step-door.js';
export type { SecretHandle } from './client/secret-handle.js';
export type { ScheduleTimers } from './rotation/rotation-scheduler.js';
export type { AuditKey, ChainHead, ChainKey, SealedRecord } from './audit/audit-chain.js';
export * from './audit/audit-anomalies.js';
export {
  AuditEventError,
  AuditFolderError,
  AuditLogDamagedError,
  AuditOffError,
  AuditOptionsError,
  AuditUnavailableError,
  CheckpointError,
  CheckpointKeyError,
} from './audit/audit-errors.js';
export * from './audit/audit-event.js';
export { auditFiles, type AuditFilesOptions } from './audit/audit-files.js';
export type { AuditFinding, AuditFindingKind } from './audit/audit-findings.js';
export { auditFolder } from './audit/audit-folder-reader.js';
export * from './audit/audit-log.js';
export type { AuditLogOptions, AuditSinkUse, CheckpointOptions } from './audit/audit-log-options.js';
export * from './audit/audit-reader.js';
export * from './audit/audit-sink.js';
export * from './audit/audit-store.js';
export * from './audit/audited-work.js';
export * from './audit/checkpoint.js';
export * from './audit/checkpoint-key-file.js';
export * from './audit/checkpoint-place.js';
export * from './audit/forwarding-sinks.js';
export * from './audit/query-audit.js';
export * from './audit/use-counts.js';
export * from './audit/verify-audit.js';
