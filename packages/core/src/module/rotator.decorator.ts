import { SetMetadata } from '@nestjs/common';
import type { SecretRotator } from '../rotation/secret-rotator.js';

export const ROTATOR_METADATA = '@nestjs-secrets/rotator';

/** Makes a provider the rotator that policies call by this name: `rotation: { rotator: 'stripe-key' }`. */
export function Rotator(name: string): (target: new (...args: never[]) => SecretRotator) => void {
  return (target) => SetMetadata(ROTATOR_METADATA, name)(target);
}
