import type { SecretChange } from '../client/secret.js';
import type { SecretDefinition } from '../versions/secret-definition.js';
import { checkSecretName } from '../versions/secret-name.js';

export const ON_SECRET_CHANGE_METADATA = '@nestjs-secrets/on-secret-change';

type ChangeListener = (change: SecretChange<never>) => unknown;

/**
 * Calls a provider's method for each new version of a secret (not for the one the application started with). Calls never overlap: while
 * one runs, changes wait, and of several that waited only the newest is told. The version before is not retired until the method's promise
 * ends. What it throws is logged and changes nothing else.
 */
export function OnSecretChange(
  secret: string | SecretDefinition,
): <L extends ChangeListener>(target: object, key: string | symbol, descriptor: TypedPropertyDescriptor<L>) => void {
  const name = checkSecretName(typeof secret === 'string' ? secret : secret.name);
  return (_target, _key, descriptor) => {
    if (descriptor.value === undefined) return;
    const names: readonly string[] = Reflect.getMetadata(ON_SECRET_CHANGE_METADATA, descriptor.value) ?? [];
    Reflect.defineMetadata(ON_SECRET_CHANGE_METADATA, [...names, name], descriptor.value);
  };
}
