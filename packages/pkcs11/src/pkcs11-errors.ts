import { KeyUnavailableError } from '@nestjs-secrets/core';
import pkcs11 from 'pkcs11js';

/** No instanceof: under Jest, and with both builds loaded, the class may be there twice. */
export function isPkcs11Error(error: unknown): error is pkcs11.Pkcs11Error {
  if (typeof error !== 'object' || error === null || !('code' in error) || !('message' in error)) return false;
  return typeof error.code === 'number' && typeof error.message === 'string' && error.message.startsWith('CKR_');
}

export function hasCode(error: unknown, ...codes: readonly number[]): boolean {
  return isPkcs11Error(error) && codes.includes(error.code);
}

/** The message is the name of the code and nothing else, so no part of a request can stand in it. */
export function unavailable(provider: string, error: unknown): KeyUnavailableError {
  const code = isPkcs11Error(error) ? error.message : 'an unknown error';
  const method = isPkcs11Error(error) ? error.method : 'a call';
  return new KeyUnavailableError(
    provider,
    `did not do what it was asked to: ${method} ended with ${code}. It connects to the token again by itself; see the log of the library.`,
  );
}

/** PINs that further attempts would use up. */
export function isPinRefusal(error: unknown): boolean {
  return hasCode(
    error,
    pkcs11.CKR_PIN_INCORRECT,
    pkcs11.CKR_PIN_INVALID,
    pkcs11.CKR_PIN_LEN_RANGE,
    pkcs11.CKR_PIN_EXPIRED,
    pkcs11.CKR_PIN_LOCKED,
    pkcs11.CKR_USER_PIN_NOT_INITIALIZED,
  );
}
