import { type DynamicModule, type InjectionToken, Module, type ModuleMetadata, type Provider } from '@nestjs/common';
import { decideForHandler } from '../doors/guarding.js';
import { SecretsError } from '../foundation/errors.js';
import { LogCensor } from '../foundation/log-censor.js';
import type { SecretHandle } from '../client/secret-handle.js';
import { StoreIntegrity } from '../integrity/store-integrity.js';
import { SecretsManager } from '../manager/secrets-manager.js';
import type { RotationPolicy } from '../versions/rotation-policy.js';
import { type InjectedFactory, type SecretDefinition, SecretDefinitions } from '../versions/secret-definition.js';
import { ACCESS_CONTROL, type AccessControl } from './authorize.guard.js';
import { markDefinition } from './definition-scan.js';
import { getSecretToken } from './secret-tokens.js';
import { SECRETS_RUNTIME, SecretsCoreModule, type SecretsModuleAsyncOptions } from './secrets-core.module.js';
import { SecretsHealthIndicator } from './secrets-health.js';
import type { SecretsModuleOptions } from './secrets-options.js';
import type { SecretsRuntime } from './secrets-runtime.js';

export interface IsGlobal {
  /** Whether `SecretsManager`, `SecretsHealthIndicator` and what `@Authorize` asks can be injected everywhere; true by default. */
  readonly isGlobal?: boolean;
}

/**
 * Secrets for an application: `forRoot` (or `forRootAsync`) once, with a store and keys; `forFeature` in each module that injects secrets.
 */
@Module({})
export class SecretsModule {
  static forRoot({ isGlobal = true, ...options }: SecretsModuleOptions & IsGlobal): DynamicModule {
    return root(SecretsCoreModule.forRoot(options), isGlobal);
  }

  static forRootAsync({ isGlobal = true, ...options }: SecretsModuleAsyncOptions & IsGlobal): DynamicModule {
    return root(SecretsCoreModule.forRootAsync(options), isGlobal);
  }

  /**
   * Makes secrets injectable in the importing module: by name, or by a definition, which also types, checks and can create them. The
   * application does not start before each has a value. `imports` are for what a definition's factories inject.
   * @throws SecretDefinedTwiceError when two definitions share a name
   */
  static forFeature(
    secrets: readonly (string | SecretDefinition)[],
    metadata: Pick<ModuleMetadata, 'imports'> = {},
  ): DynamicModule {
    checkNamesAreUnique(secrets);
    const providers = secrets.map((secret) => secretProvider(secret));
    return { module: SecretsModule, imports: metadata.imports ?? [], providers, exports: providers };
  }
}

function root(core: DynamicModule, isGlobal: boolean): DynamicModule {
  return {
    module: SecretsModule,
    global: isGlobal,
    imports: [core],
    providers: [
      {
        provide: SecretsManager,
        inject: [SECRETS_RUNTIME],
        useFactory: (runtime: SecretsRuntime) => runtime.own?.manager ?? withoutManager(),
      },
      {
        provide: StoreIntegrity,
        inject: [SECRETS_RUNTIME],
        useFactory: (runtime: SecretsRuntime) => runtime.own?.integrity,
      },
      {
        provide: ACCESS_CONTROL,
        inject: [SECRETS_RUNTIME],
        useFactory: accessControl,
      },
      {
        provide: SecretsHealthIndicator,
        inject: [SECRETS_RUNTIME],
        useFactory: (runtime: SecretsRuntime) => new SecretsHealthIndicator(runtime),
      },
      { provide: LogCensor, inject: [SECRETS_RUNTIME], useFactory: (runtime: SecretsRuntime) => runtime.censor },
    ],
    exports: [SecretsManager, StoreIntegrity, ACCESS_CONTROL, SecretsHealthIndicator, LogCensor],
  };
}

function secretProvider(secret: string | SecretDefinition): Provider<SecretHandle> {
  if (typeof secret === 'string') {
    return {
      provide: getSecretToken(secret),
      inject: [SECRETS_RUNTIME],
      useFactory: (runtime: SecretsRuntime) => startingWith(runtime, () => runtime.open(secret)),
    };
  }
  const { initial, rotation } = secret;
  const injectedForInitial = typeof initial === 'object' ? (initial.inject ?? []) : [];
  const injectedForRotation = isFactory(rotation) ? (rotation.inject ?? []) : [];
  const useFactory = async (runtime: SecretsRuntime, ...dependencies: unknown[]): Promise<SecretHandle> => {
    // Nest has resolved them for these very factories, which alone know their types.
    const injected = dependencies as never[];
    const forInitial = injected.slice(0, injectedForInitial.length);
    const forRotation = injected.slice(injectedForInitial.length);
    const make = typeof initial === 'object' ? () => initial.useFactory(...forInitial) : initial;
    return startingWith(runtime, async () => {
      await runtime.ensure(secret, {
        initial: typeof make === 'function' ? async () => make() : make,
        rotation: isFactory(rotation) ? await rotation.useFactory(...forRotation) : rotation,
      });
      return runtime.open(secret.name);
    });
  };
  return {
    provide: getSecretToken(secret),
    inject: [SECRETS_RUNTIME, ...([...injectedForInitial, ...injectedForRotation] as InjectionToken[])],
    useFactory: markDefinition(useFactory, secret),
  };
}

async function startingWith(runtime: SecretsRuntime, open: () => Promise<SecretHandle>): Promise<SecretHandle> {
  try {
    return await open();
  } catch (error) {
    await runtime.giveUpStart();
    throw error;
  }
}

function isFactory(rotation: SecretDefinition['rotation']): rotation is InjectedFactory<RotationPolicy> {
  return rotation !== undefined && 'useFactory' in rotation;
}

/** In one list Nest would take the later of two providers and say nothing; two lists are compared at start. */
function checkNamesAreUnique(secrets: readonly (string | SecretDefinition)[]): void {
  const definitions = new SecretDefinitions();
  for (const secret of secrets) if (typeof secret !== 'string') definitions.add(secret);
}

/** What `@Authorize` asks: the policies that the manager asks. */
function accessControl({ own }: SecretsRuntime): AccessControl {
  return {
    decide: (principal, action, resource, context) => {
      if (own === undefined) throw managerUnavailable();
      return decideForHandler(own.door, principal, action, resource, context);
    },
  };
}

function managerUnavailable(): SecretsError {
  return new SecretsError(
    'MANAGER_UNAVAILABLE',
    'This application reads its secrets from a source of its own, so there is no SecretsManager. Configure { store, keys } to have one.',
  );
}

/** Stands in for the manager where secrets come from a foreign source, so that only its use fails and not the start. */
function withoutManager(): SecretsManager {
  return new Proxy(Object.create(SecretsManager.prototype) as SecretsManager, {
    get(target, property) {
      if (
        property in SecretsManager.prototype &&
        property !== 'constructor' &&
        typeof property === 'string' &&
        !(property in Object.prototype)
      ) {
        throw managerUnavailable();
      }
      return Reflect.get(target, property);
    },
  });
}
