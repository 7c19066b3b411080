import { type DynamicModule, Inject, Injectable, Module } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { getSecretToken, type Secret, SecretsModule } from '@nestjs-secrets/core';
import { FixedSecretSource } from './fixed-secret-source.js';

const SOURCE = Symbol.for('@nestjs-secrets/testing-source');

/** Rotates by hand in tests. Inject it, or `app.get(SecretsTesting)`. */
@Injectable()
export class SecretsTesting {
  constructor(
    @Inject(SOURCE) private readonly source: FixedSecretSource,
    @Inject(ModuleRef) private readonly moduleRef: ModuleRef,
  ) {}

  /** Gives a secret its next value. Resolves when its handle, if there is one, holds it and the subscribers have been told. */
  async rotate(secretName: string, value: unknown): Promise<void> {
    this.source.set(secretName, value);
    await this.#handle(secretName)?.refresh();
  }

  #handle(secretName: string): Secret | undefined {
    try {
      return this.moduleRef.get<Secret>(getSecretToken(secretName), { strict: false });
    } catch {
      return undefined;
    }
  }
}

/**
 * Takes the place of `SecretsModule.forRoot` in your own tests: fixed values, no store, no keys, no timers. `forFeature`, `@InjectSecret` and
 * `@OnSecretChange` work as always.
 */
@Module({})
export class SecretsTestingModule {
  /** `secrets`: the first value of each secret, by name. */
  static forRoot(secrets: Readonly<Record<string, unknown>> = {}): DynamicModule {
    const source = new FixedSecretSource(secrets);
    return {
      module: SecretsTestingModule,
      global: true,
      imports: [SecretsModule.forRoot({ source, refreshIntervalMs: 0 })],
      providers: [{ provide: SOURCE, useValue: source }, SecretsTesting],
      exports: [SecretsTesting],
    };
  }
}
