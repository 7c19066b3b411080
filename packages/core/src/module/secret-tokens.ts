import { Inject } from '@nestjs/common';
import type { SecretDefinition } from '../versions/secret-definition.js';
import { checkSecretName } from '../versions/secret-name.js';

/** The injection token of a secret's handle, for `inject` lists and for `overrideProvider` in tests. */
export function getSecretToken(secret: string | SecretDefinition): string {
  return `Secret(${checkSecretName(typeof secret === 'string' ? secret : secret.name)})`;
}

/** Injects the live handle, a `Secret<T>`, of a secret that `SecretsModule.forFeature` of the same module (or one it imports) names. */
export function InjectSecret(secret: string | SecretDefinition): PropertyDecorator & ParameterDecorator {
  return Inject(getSecretToken(secret));
}
