import { Injectable, Logger } from '@nestjs/common';
import { DiscoveryService, MetadataScanner } from '@nestjs/core';
import type { SecretChange } from '../client/secret.js';
import type { SecretRotator } from '../rotation/secret-rotator.js';
import { redactError } from '../foundation/redaction.js';
import { ChangeListener } from './change-listener.js';
import { ON_SECRET_CHANGE_METADATA } from './on-secret-change.decorator.js';
import { ROTATOR_METADATA } from './rotator.decorator.js';
import type { SecretsRuntime } from './secrets-runtime.js';

/** Finds `@Rotator()` classes and `@OnSecretChange()` methods among the application's providers and controllers. */
@Injectable()
export class SecretsExplorer {
  private readonly logger = new Logger('Secrets');

  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
  ) {}

  registerRotators(runtime: SecretsRuntime): void {
    for (const instance of this.#instances()) {
      const name: unknown = Reflect.getMetadata(ROTATOR_METADATA, instance.constructor);
      if (typeof name === 'string') runtime.rotators.add(name, instance as SecretRotator);
    }
  }

  async attachListeners(runtime: SecretsRuntime): Promise<ChangeListener[]> {
    const listeners: ChangeListener[] = [];
    for (const instance of this.#instances()) {
      const prototype = Object.getPrototypeOf(instance);
      if (prototype === null) continue;
      for (const method of this.scanner.getAllMethodNames(prototype)) {
        const names: unknown = Reflect.getMetadata(ON_SECRET_CHANGE_METADATA, prototype[method] as object);
        for (const name of Array.isArray(names) ? names : [])
          listeners.push(await this.#attach(runtime, instance, method, name));
      }
    }
    return listeners;
  }

  async #attach(
    runtime: SecretsRuntime,
    instance: object,
    method: string,
    secretName: string,
  ): Promise<ChangeListener> {
    const handle = await runtime.handles.open(secretName);
    const label = `${instance.constructor.name}.${method}`;
    const call = (change: SecretChange): unknown =>
      (instance as Record<string, (change: SecretChange) => unknown>)[method]?.(change);
    return new ChangeListener(handle, label, call, (error, change) => {
      const { message, stack } = redactError(error, [change.value]);
      this.logger.error(`${label} failed on a change of ${secretName}: ${message}`, stack);
    });
  }

  #instances(): object[] {
    const wrappers = [...this.discovery.getProviders(), ...this.discovery.getControllers()];
    const instances = wrappers
      .filter((wrapper) => wrapper.isDependencyTreeStatic())
      .map((wrapper): unknown => wrapper.instance);
    return [...new Set(instances)].filter((instance) => typeof instance === 'object' && instance !== null);
  }
}
