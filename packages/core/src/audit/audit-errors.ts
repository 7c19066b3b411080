import { isSecretsError, SecretsError } from '../foundation/errors.js';

/**
 * `AUDIT_UNAVAILABLE`: a required sink did not take the event within the limit, so the operation did not happen (invariant I8). Nothing to undo; try
 * again once `sink` is well. The log uses it again by itself.
 */
export class AuditUnavailableError extends SecretsError {
  /** The name of the sink that holds things up. */
  readonly sink: string;

  constructor(sink: string, why: string, cause?: unknown) {
    super(
      'AUDIT_UNAVAILABLE',
      `The audit log could not record the operation, so it did not happen: ${sink} ${why}. Put that right and try again; no restart is needed.`,
      { cause },
    );
    this.sink = sink;
  }
}

/** `AUDIT_OFF`: there is no log to ask. */
export class AuditOffError extends SecretsError {
  constructor(message = 'Nothing is audited here. Give SecretsModule.forRoot({ audit: { folder } }) to have a log.') {
    super('AUDIT_OFF', message);
  }
}

/** `AUDIT_EVENT_INVALID`: an event that cannot be recorded as it is. A mistake of the caller; nothing was recorded. */
export class AuditEventError extends SecretsError {
  constructor(message: string) {
    super('AUDIT_EVENT_INVALID', message);
  }
}

/** `AUDIT_OPTIONS_INVALID` */
export class AuditOptionsError extends SecretsError {
  constructor(message: string) {
    super('AUDIT_OPTIONS_INVALID', message);
  }
}

/** `AUDIT_FOLDER_BUSY`, `AUDIT_FOLDER_EXPOSED`, `AUDIT_FOLDER_UNUSABLE` */
export class AuditFolderError extends SecretsError {
  constructor(
    code: 'AUDIT_FOLDER_BUSY' | 'AUDIT_FOLDER_EXPOSED' | 'AUDIT_FOLDER_UNUSABLE',
    message: string,
    cause?: unknown,
  ) {
    super(code, message, { cause });
  }
}

/** `AUDIT_LOG_DAMAGED`: what is stored is not what this log wrote, so it must not be continued as if it were. */
export class AuditLogDamagedError extends SecretsError {
  constructor(where: string, what: string) {
    super(
      'AUDIT_LOG_DAMAGED',
      `The audit log ${where} ${what}. Keep it as evidence and see what verifyAudit() says about it; to go on, move it away and start a new one.`,
    );
  }
}

/** `CHECKPOINT_KEY_MISSING`, `CHECKPOINT_KEY_EXPOSED`, `CHECKPOINT_KEY_INVALID` */
export class CheckpointKeyError extends SecretsError {
  constructor(
    code: 'CHECKPOINT_KEY_MISSING' | 'CHECKPOINT_KEY_EXPOSED' | 'CHECKPOINT_KEY_INVALID',
    message: string,
    cause?: unknown,
  ) {
    super(code, message, { cause });
  }
}

/** `CHECKPOINT_INVALID`: a text that is no signed checkpoint, or whose signature is not that of the key. */
export class CheckpointError extends SecretsError {
  constructor(message: string) {
    super('CHECKPOINT_INVALID', message);
  }
}

/** The `code` of a system error, which says all there is to say about it. */
export function systemCode(error: unknown): string {
  // No instanceof: under Jest the errors of node:fs come from another realm.
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : 'unknown';
}

/** What may be said about whatever a sink threw: messages of our own errors and codes of the system's, never foreign text. */
export function reasonOf(error: unknown): string {
  if (isSecretsError(error)) return error.message;
  const code = systemCode(error);
  return code === 'unknown' ? 'an error of its own' : code;
}
