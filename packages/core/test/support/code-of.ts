import { isSecretsError } from '@nestjs-secrets/core';

/** The code of the error of this library that the work comes to; anything else it throws is a fault of the test. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'nothing was thrown';
  } catch (error) {
    if (isSecretsError(error)) return error.code;
    throw error;
  }
}
