const ERROR_BRAND = Symbol.for('@nestjs-secrets/error');

export interface SecretsErrorOptions {
  /** Must have passed through `redactError` when it comes from foreign code that saw a value. */
  readonly cause?: unknown;
  readonly secretName?: string;
}

/**
 * The base of every error this library throws: a stable `code` to branch on, and a message that says what happened and what to do. Never
 * carries a value. Tell one with `isSecretsError` rather than `instanceof`, since both builds of the package may be loaded at once.
 */
export class SecretsError extends Error {
  readonly code: string;
  readonly secretName: string | undefined;

  constructor(code: string, message: string, options: SecretsErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.secretName = options.secretName;
    Object.defineProperty(this, ERROR_BRAND, { value: true });
  }
}

/** True for every error of this library, whichever build threw it; with `code`, only for that one. */
export function isSecretsError(error: unknown, code?: string): error is SecretsError {
  if (typeof error !== 'object' || error === null || !(ERROR_BRAND in error)) return false;
  return code === undefined || ('code' in error && error.code === code);
}

/** `SECRET_NAME_INVALID` */
export class InvalidSecretNameError extends SecretsError {
  constructor(name: unknown) {
    const shown = typeof name === 'string' ? JSON.stringify(name.slice(0, 64)) : `a ${typeof name}`;
    super('SECRET_NAME_INVALID', `${shown} is not a secret name: use 1 to 192 characters of A-Z a-z 0-9 / _ + = . @ -`);
  }
}

/** `SECRET_NOT_FOUND` */
export class SecretNotFoundError extends SecretsError {
  constructor(secretName: string) {
    super(
      'SECRET_NOT_FOUND',
      `There is no secret ${secretName}. Create it with SecretsManager.createSecret, or give its definition an \`initial\` value: defineSecret('${secretName}', schema, { initial: … }).`,
      { secretName },
    );
  }
}

/** `SECRET_EXISTS` */
export class SecretExistsError extends SecretsError {
  constructor(secretName: string) {
    super(
      'SECRET_EXISTS',
      `There is a secret ${secretName} already. Use putSecretValue for a new version, or another name.`,
      {
        secretName,
      },
    );
  }
}

/** `VERSION_NOT_FOUND` */
export class VersionNotFoundError extends SecretsError {
  constructor(secretName: string, what: string) {
    super('VERSION_NOT_FOUND', `Secret ${secretName} has no ${what}. listVersions shows what there is.`, {
      secretName,
    });
  }
}

/** `VERSION_CONFLICT`: the same version id with another value. */
export class VersionConflictError extends SecretsError {
  constructor(secretName: string, versionId: string) {
    super(
      'VERSION_CONFLICT',
      `Secret ${secretName} has a version ${versionId} with another value. Versions never change: put the value under a new version id.`,
      { secretName },
    );
  }
}

/** `STAGE_INVALID`: a stage name out of range, or a move of a stage that only a promotion may make. */
export class StageError extends SecretsError {
  constructor(secretName: string, message: string) {
    super('STAGE_INVALID', message, { secretName });
  }
}

/** `VALUE_TOO_LARGE` */
export class ValueTooLargeError extends SecretsError {
  constructor(secretName: string, bytes: number, limit: number) {
    super(
      'VALUE_TOO_LARGE',
      `The value for ${secretName} has ${bytes} bytes; a secret holds at most ${limit}. Keep a key here and the data elsewhere.`,
      {
        secretName,
      },
    );
  }
}

/** `VERSION_LIMIT`: a secret has as many versions as it may. */
export class VersionLimitError extends SecretsError {
  constructor(secretName: string, limit: number) {
    super(
      'VERSION_LIMIT',
      `Secret ${secretName} would have more than ${limit} versions; nothing was stored. Take stages of your own off old versions, see whether rotations get to retire theirs, or raise the limit.`,
      { secretName },
    );
  }
}

/** `VERSION_IN_USE`: a version that a stage points at, or that is still to be retired, cannot be destroyed. */
export class VersionInUseError extends SecretsError {
  constructor(secretName: string, versionId: string) {
    super(
      'VERSION_IN_USE',
      `Version ${versionId} of ${secretName} has a stage, or is still to be retired. Take the stage off it, or wait until it is retired; nothing was destroyed.`,
      { secretName },
    );
  }
}

/** `SECRET_DELETED`: the secret is to be removed and gives no value until it is restored. */
export class SecretDeletedError extends SecretsError {
  constructor(secretName: string, purgeAt: number) {
    super(
      'SECRET_DELETED',
      `Secret ${secretName} is deleted and will be gone at ${new Date(purgeAt).toISOString()}. Bring it back with restoreSecret('${secretName}'), or delete it for good with deleteSecret('${secretName}', { force: true }).`,
      { secretName },
    );
  }
}

/** `SECRET_IN_USE`: a rotation of the secret is not through, or instances have credentials of their own of it. */
export class SecretInUseError extends SecretsError {
  constructor(secretName: string, why: string) {
    super('SECRET_IN_USE', `Secret ${secretName} cannot be removed yet: ${why}. Nothing was removed.`, { secretName });
  }
}

/** `DELETION_INVALID`: a recovery window out of range, or two wishes that exclude each other. */
export class DeletionRequestError extends SecretsError {
  constructor(message: string) {
    super('DELETION_INVALID', message);
  }
}

/** `VALUE_INVALID`: not JSON, or not what the secret's schema says. Names paths and never shows the value. */
export class InvalidSecretValueError extends SecretsError {
  constructor(secretName: string, message: string) {
    super('VALUE_INVALID', message, { secretName });
  }
}

/** `SECRET_UNAVAILABLE`: the source did not deliver. */
export class SecretUnavailableError extends SecretsError {
  constructor(secretName: string, message: string, cause?: unknown) {
    super('SECRET_UNAVAILABLE', message, { secretName, cause });
  }
}

/** `SECRET_EXPIRED`: past its TTL. */
export class SecretExpiredError extends SecretsError {
  constructor(secretName: string, versionId: string, expiredAt: number) {
    super(
      'SECRET_EXPIRED',
      `Version ${versionId} of ${secretName} expired at ${new Date(expiredAt).toISOString()} and no newer one is known. Put or rotate a new value.`,
      { secretName },
    );
  }
}

/** `SECRET_DEFINED_TWICE` */
export class SecretDefinedTwiceError extends SecretsError {
  constructor(secretName: string) {
    super(
      'SECRET_DEFINED_TWICE',
      `There are two definitions of the secret ${secretName}. Define it once, export the definition, and name it by its string elsewhere.`,
      { secretName },
    );
  }
}

/** `PASSWORD_OPTIONS_INVALID` */
export class PasswordOptionsError extends SecretsError {
  constructor(message: string) {
    super('PASSWORD_OPTIONS_INVALID', message);
  }
}

/** `KEY_FILE_MISSING`, `KEY_FILE_EXPOSED`, `KEY_FILE_INVALID`; `KEY_FILE_LOCKED`: not with this passphrase; `KEY_FILE_UNWRITABLE`: no key can be made or destroyed in it. */
export class KeyFileError extends SecretsError {
  constructor(
    code: 'KEY_FILE_MISSING' | 'KEY_FILE_EXPOSED' | 'KEY_FILE_INVALID' | 'KEY_FILE_LOCKED' | 'KEY_FILE_UNWRITABLE',
    message: string,
    cause?: unknown,
  ) {
    super(code, message, { cause });
  }
}

/** `KEY_MISMATCH`: the store was sealed under a key this provider does not have. */
export class KeyMismatchError extends SecretsError {
  constructor(message: string) {
    super('KEY_MISMATCH', message);
  }
}

/**
 * `KEY_UNAVAILABLE`: the service with the master keys gave no usable answer in time. Nothing was sealed or opened; the same call may succeed later.
 */
export class KeyUnavailableError extends SecretsError {
  constructor(provider: string, message: string, cause?: unknown) {
    super('KEY_UNAVAILABLE', `The key provider ${provider} ${message}`, { cause });
  }
}

/** `KEY_REFUSED`: the service with the master keys answered, and will not: no permission, or the key is disabled or destroyed. Trying again does not help. */
export class KeyRefusedError extends SecretsError {
  constructor(provider: string, message: string, cause?: unknown) {
    super('KEY_REFUSED', `The key provider ${provider} ${message}`, { cause });
  }
}

/** `RECORD_CORRUPT`: a stored record does not open or does not parse; the others are not affected. */
export class CorruptRecordError extends SecretsError {
  constructor(what: string, message: string, secretName?: string) {
    super('RECORD_CORRUPT', `${what}: ${message}`, { secretName });
  }
}

/** `STORE_UNAVAILABLE` */
export class StoreUnavailableError extends SecretsError {
  constructor(driver: string, message: string, cause?: unknown) {
    super('STORE_UNAVAILABLE', `The store ${driver} ${message}`, { cause });
  }
}

/** `STORE_CLOSED` */
export class StoreClosedError extends SecretsError {
  constructor(driver: string) {
    super(
      'STORE_CLOSED',
      `The store ${driver} is not open: open() was not called yet, or the application is shutting down.`,
    );
  }
}

/** `STORE_CONTENTION`: other writers kept winning. */
export class StoreContentionError extends SecretsError {
  constructor(secretName: string) {
    super('STORE_CONTENTION', `Other writers kept changing ${secretName}; nothing was written. Try again.`, {
      secretName,
    });
  }
}

/** `ROTATION_POLICY_INVALID` */
export class RotationPolicyError extends SecretsError {
  constructor(secretName: string | undefined, message: string) {
    super('ROTATION_POLICY_INVALID', message, { secretName });
  }
}

/** `ROTATOR_NOT_FOUND` */
export class RotatorNotFoundError extends SecretsError {
  constructor(secretName: string, rotator: string, known: readonly string[]) {
    const list = known.length === 0 ? 'none is registered' : `registered: ${known.join(', ')}`;
    super(
      'ROTATOR_NOT_FOUND',
      `Secret ${secretName} wants the rotator ${rotator}, but ${list}. Pass it in SecretsModule.forRoot({ rotators }), or provide a class with @Rotator('${rotator}').`,
      { secretName },
    );
  }
}

/**
 * `ROTATION_FAILED`: a step threw; `step` says which. With `undone`, the secret and its target are what they were before; without, taking
 * it back failed too and is tried again in the background. No version was lost either way.
 */
export class RotationFailedError extends SecretsError {
  readonly step: string;
  readonly rotationId: string;
  readonly undone: boolean;

  constructor(
    secretName: string,
    step: string,
    rotationId: string,
    why: string,
    details: { cause: unknown; undone: boolean },
  ) {
    const outcome = details.undone ? 'and was undone' : 'and is not undone yet';
    super('ROTATION_FAILED', `The rotation of ${secretName} failed at ${step} ${outcome}: ${why}`, {
      secretName,
      cause: details.cause,
    });
    this.step = step;
    this.rotationId = rotationId;
    this.undone = details.undone;
  }
}

/** `ROTATION_STOPPED`: the application shut down before the rotation was through; it goes on after the next start. */
export class RotationStoppedError extends SecretsError {
  constructor(secretName: string) {
    super(
      'ROTATION_STOPPED',
      `The application is shutting down; the rotation of ${secretName} goes on after the next start.`,
      {
        secretName,
      },
    );
  }
}

/** `ROTATION_INTERRUPTED`: this instance is no longer sure to be the one that rotates the secret, or is not any more; it changed nothing more. */
export class RotationInterruptedError extends SecretsError {
  constructor(secretName: string) {
    super(
      'ROTATION_INTERRUPTED',
      `The rotation of ${secretName} is another instance's by now, or this one lost touch with the store; it stopped and changed nothing more. See its rotation status.`,
      {
        secretName,
      },
    );
  }
}

/** `REHEARSAL_UNSUPPORTED`: the rotator of a secret cannot rehearse. */
export class RehearsalUnsupportedError extends SecretsError {
  constructor(secretName: string) {
    super(
      'REHEARSAL_UNSUPPORTED',
      `The rotator of ${secretName} has no rehearsal(), so a dry run would have to use a real identity. Nothing was done.`,
      { secretName },
    );
  }
}

/** `LEASE_UNSUPPORTED`: the policy of a secret asks for leases, and its rotator has none to give. */
export class LeaseUnsupportedError extends SecretsError {
  constructor(secretName: string, rotator: string) {
    super(
      'LEASE_UNSUPPORTED',
      `The rotation policy of ${secretName} has a \`lease\`, but the rotator ${rotator} is not of the strategy lease. Take \`lease\` out of the policy, or name a rotator such as postgres/lease.`,
      { secretName },
    );
  }
}
