import { SecretsError } from '../../foundation/errors.js';

/** `LIVE_POOL_CLOSED`: a connection was asked for after `end()`, or a waiter was still in the queue when `endTimeoutMs` had passed. */
export class LivePoolClosedError extends SecretsError {
  /** @param waitedMs how long the caller was left to wait; undefined when it came after the end */
  constructor(label: string, waitedMs?: number) {
    super(
      'LIVE_POOL_CLOSED',
      waitedMs === undefined
        ? `${label} was ended: stop whatever still asks it for connections before ending it.`
        : `${label} was ended, and no connection came back for this caller within ${waitedMs} ms: look for what holds on to its connection.`,
    );
  }
}

/** `LIVE_POOL_CONFIG_INVALID` */
export class LivePoolConfigError extends SecretsError {
  constructor(message: string) {
    super('LIVE_POOL_CONFIG_INVALID', message);
  }
}

/** `LIVE_POOL_CREDENTIALS_INVALID`: the secret's value is no username and password. */
export class LivePoolCredentialsError extends SecretsError {
  constructor(secretName: string, versionId: string) {
    super(
      'LIVE_POOL_CREDENTIALS_INVALID',
      `Version ${versionId} of ${secretName} cannot open a connection: a pool needs a value of the form { username, password }, both of them strings and the username not empty.`,
      { secretName },
    );
  }
}
