import type { ModulesContainer } from '@nestjs/core';
import type { SecretDefinition } from '../versions/secret-definition.js';

const DEFINITION = Symbol.for('@nestjs-secrets/definition');

/** Marks a provider's factory as the one that makes sure of a defined secret. */
export function markDefinition<F extends (...args: never[]) => unknown>(factory: F, definition: SecretDefinition): F {
  return Object.assign(factory, { [DEFINITION]: definition });
}

/**
 * Every definition in the application's modules. Nest knows all providers before it makes the first, so a module that names a secret only
 * by its string can wait for the one that defines it, whichever is made first.
 */
export function definitionsOf(modules: ModulesContainer): SecretDefinition[] {
  const factories = [...modules.values()].flatMap((module) =>
    [...module.providers.values()].map(({ metatype }) => metatype),
  );
  return factories.flatMap(
    (factory) => (factory as { [DEFINITION]?: SecretDefinition } | null | undefined)?.[DEFINITION] ?? [],
  );
}
