import { KeyMismatchError, KeyRefusedError, KeyUnavailableError, type SecretsError } from '@nestjs-secrets/core';

/** About the credentials or the clock of this process, not about the key. */
const CREDENTIALS =
  /^(InvalidAccessKeyId|InvalidAccessKeySecret|InvalidCredentials|InvalidSecurityToken|InvalidTimeStamp|SignatureDoesNotMatch|IncompleteSignature|SignatureNonceUsed|MissingSecurityToken|RequestTimeTooSkewed)/;

/** Codes that may pass although their status is not one of a server's trouble. */
const PASSING =
  /^(Throttling|ServiceUnavailable|InternalFailure|InternalError|Rejected\.Unavailable|Rejected\.LimitExceeded)/;

/** What Decrypt says of a ciphertext or a context that is not the right one. */
const MISMATCHES = /^(InvalidParameter|InvalidCiphertext|Invalid.*Ciphertext|InvalidEncryptionContext|IncorrectKey)/i;

/**
 * What an error of the SDK means for a wrapped key. Its message is not passed on, since it may quote what was signed, and with it the data key; nor is the error,
 * which carries the request. The code is.
 */
export function translateError(provider: string, action: string, keyId: string, error: unknown): SecretsError {
  const code = codeOf(error);
  const status = statusOf(error);
  if (code !== undefined && CREDENTIALS.test(code)) {
    return new KeyUnavailableError(
      provider,
      `did not accept the credentials of this process (${code}). Check them, their expiry and the clock of this machine.`,
    );
  }
  if (code === undefined || status === undefined || status >= 500 || status === 429 || PASSING.test(code)) {
    const what = status === undefined ? 'could not be reached' : `is in trouble or overloaded (status ${status})`;
    return new KeyUnavailableError(provider, `${what}: ${code ?? 'no answer'}. It is asked again by itself.`);
  }
  if (action === 'Decrypt' && MISMATCHES.test(code)) {
    return new KeyMismatchError(
      `A data key does not open in ${provider} (${code}): the record was changed, or moved here from another store, secret or version, or was wrapped under another key. Restore the record from a backup, or name the key it was wrapped with.`,
    );
  }
  return new KeyRefusedError(provider, `does not use ${keyId}: ${adviceOn(code)} (${code}).`);
}

function adviceOn(code: string): string {
  if (code.includes('NotFound')) return 'it does not exist. Check account, region and key id';
  if (code.startsWith('Rejected.Disabled')) return 'it is disabled. Enable it with EnableKey';
  if (code.startsWith('Rejected.'))
    return 'it is in a state that does not allow this, such as pending deletion. See DescribeKey';
  if (/^(Forbidden|NoPermission)/.test(code))
    return 'this process may not use it: allow kms:Encrypt and kms:Decrypt on it in RAM';
  return 'it refuses the request';
}

/** Codes of KMS and of the SDK are words with dots; anything else may be a message. */
function codeOf(error: unknown): string | undefined {
  const code = property(error, 'code');
  return typeof code === 'string' && /^[A-Za-z][A-Za-z0-9._]{0,99}$/.test(code) ? code : undefined;
}

function statusOf(error: unknown): number | undefined {
  const status = property(error, 'statusCode') ?? property(property(error, 'data'), 'statusCode');
  return typeof status === 'number' ? status : undefined;
}

function property(holder: unknown, key: string): unknown {
  return typeof holder === 'object' && holder !== null ? Reflect.get(holder, key) : undefined;
}
