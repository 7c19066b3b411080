import { InvalidSecretNameError } from '../foundation/errors.js';

const SECRET_NAME = /^[A-Za-z0-9/_+=.@-]{1,192}$/;

/**
 * Passes a legal secret name through: 1–192 of `A-Z a-z 0-9 / _ + = . @ -`. A name is a label and never a path into anything.
 * @throws InvalidSecretNameError
 */
export function checkSecretName(name: unknown): string {
  if (typeof name !== 'string' || !SECRET_NAME.test(name)) throw new InvalidSecretNameError(name);
  return name;
}
