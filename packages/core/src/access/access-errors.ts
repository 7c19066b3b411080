import { SecretsError } from '../foundation/errors.js';

/** One thing wrong with a policy. */
export interface PolicyFault {
  /** Where, such as `Statement[2].Condition.StringLike["secrets:Stage"][0]`. */
  readonly path: string;
  /** What is wrong and what to write instead. */
  readonly message: string;
}

const SHOWN_FAULTS = 10;

/** `POLICY_INVALID`: carries every fault found (the first hundred of them), each with its path. */
export class PolicyInvalidError extends SecretsError {
  readonly faults: readonly PolicyFault[];

  constructor(what: string, faults: readonly PolicyFault[]) {
    const shown = faults.slice(0, SHOWN_FAULTS).map(({ path, message }) => `${path}: ${message}`);
    const more = faults.length > SHOWN_FAULTS ? [`and ${faults.length - SHOWN_FAULTS} more, see \`faults\``] : [];
    super('POLICY_INVALID', `${what} is not valid; nothing was changed.\n  ${[...shown, ...more].join('\n  ')}`);
    this.faults = faults;
  }
}

/** `POLICY_LOCKOUT`: after the change, its author could not take it back. */
export class PolicyLockoutError extends SecretsError {
  constructor(principalId: string, action: string, resourceId: string) {
    super(
      'POLICY_LOCKOUT',
      `After this change ${principalId} could not do ${action} on ${resourceId} any more, and so not take it back; nothing was changed. Allow that as well, or pass { force: true } when somebody else is to have it.`,
    );
  }
}

/** `POLICY_NOT_FOUND` */
export class PolicyNotFoundError extends SecretsError {
  constructor(what: string) {
    super('POLICY_NOT_FOUND', `There is no ${what}.`);
  }
}

/** `POLICY_CHANGED`: another author was first. */
export class PolicyChangedError extends SecretsError {
  constructor(what: string) {
    super('POLICY_CHANGED', `Somebody else changed the ${what} since it was read; nothing was changed. Read it again.`);
  }
}

/** `POLICY_LIMIT`: the store takes no more policies. */
export class PolicyLimitError extends SecretsError {
  constructor(message: string) {
    super('POLICY_LIMIT', message);
  }
}

/** `ACCESS_REQUEST_INVALID`: who asks, or from where, cannot be what it says; nothing is decided, so nothing is allowed. */
export class AccessRequestError extends SecretsError {
  constructor(message: string) {
    super('ACCESS_REQUEST_INVALID', message);
  }
}

/** `ACCESS_DENIED` */
export class AccessDeniedError extends SecretsError {
  constructor(principalId: string, action: string, resourceId: string, why: string) {
    const secretName = resourceId.startsWith('secret/') ? { secretName: resourceId.slice('secret/'.length) } : {};
    super('ACCESS_DENIED', `${principalId} may not do ${action} on ${resourceId}: ${why}.`, secretName);
  }
}
