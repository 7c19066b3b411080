import { SecretsError } from '../foundation/errors.js';

/** `ROTATOR_OPTIONS_INVALID`: a rotator cannot work as it was set up. */
export class RotatorOptionsError extends SecretsError {
  constructor(rotator: string, message: string) {
    super('ROTATOR_OPTIONS_INVALID', `${rotator}: ${message}`);
  }
}
