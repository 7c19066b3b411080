import {
  KeyMismatchError,
  KeyRefusedError,
  KeyUnavailableError,
  redactError,
  type SecretsError,
} from '@nestjs-secrets/core';

/** KMS says: not under this key, or not with this context. */
const MISMATCHES = new Set(['InvalidCiphertextException', 'IncorrectKeyException']);

/** Codes of status 400 that say nothing about the key and may pass. */
const PASSING = new Set([
  'DependencyTimeoutException',
  'KeyUnavailableException',
  'KMSInternalException',
  'LimitExceededException',
  'RequestLimitExceeded',
  'ThrottlingException',
  'TooManyRequestsException',
]);

/** About the credentials or the clock of this process, not about the key. */
const CREDENTIALS = new Set([
  'CredentialsProviderError',
  'ExpiredTokenException',
  'IncompleteSignature',
  'InvalidClientTokenId',
  'InvalidSignatureException',
  'MissingAuthenticationToken',
  'UnrecognizedClientException',
]);

const REFUSALS: Readonly<Record<string, string>> = {
  AccessDeniedException:
    'this process may not use it: allow kms:Encrypt and kms:Decrypt in the key policy or in the role.',
  DisabledException: 'it is disabled. Enable it with aws kms enable-key.',
  InvalidKeyUsageException: 'it is not a key for ENCRYPT_DECRYPT.',
  KMSInvalidStateException:
    'it is in a state that does not allow this, such as pending deletion. See aws kms describe-key.',
  NotFoundException: 'it does not exist. Check account, region and ARN.',
};

/** What an error of the SDK means for a wrapped key, without any data key, request or credential. */
export function translateError(provider: string, arn: string, error: unknown, value: Uint8Array): SecretsError {
  const name = textOf(error, 'name');
  if (MISMATCHES.has(name)) {
    return new KeyMismatchError(
      `A data key does not open under ${arn} (${name}): the record was changed, or moved here from another store, secret or version, or was wrapped under another key. Restore the record from a backup, or name the key it was wrapped with.`,
    );
  }
  const cause = redactError(error, [value]);
  if (CREDENTIALS.has(name)) {
    return new KeyUnavailableError(
      provider,
      `did not accept the credentials of this process (${name}). Check them, their expiry and the clock of this machine.`,
      cause,
    );
  }
  const status = statusOf(error);
  if (PASSING.has(name) || status === undefined || status >= 500 || status === 429) {
    const what = status === undefined ? 'could not be reached' : `is in trouble or overloaded (status ${status})`;
    return new KeyUnavailableError(provider, `${what}: ${name || 'no answer'}. It is asked again by itself.`, cause);
  }
  const why = REFUSALS[name] ?? `it refuses the request (${name || `status ${status}`}).`;
  return new KeyRefusedError(provider, `does not use ${arn}: ${why}`, cause);
}

/** Undefined when there was no answer over HTTP. */
function statusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('$metadata' in error)) return undefined;
  const { $metadata } = error;
  if (typeof $metadata !== 'object' || $metadata === null || !('httpStatusCode' in $metadata)) return undefined;
  return typeof $metadata.httpStatusCode === 'number' ? $metadata.httpStatusCode : undefined;
}

function textOf(error: unknown, key: string): string {
  if (typeof error !== 'object' || error === null) return '';
  const text: unknown = Reflect.get(error, key);
  return typeof text === 'string' ? text : '';
}
