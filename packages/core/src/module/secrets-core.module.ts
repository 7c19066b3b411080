import {
  type BeforeApplicationShutdown,
  ConfigurableModuleBuilder,
  Global,
  Inject,
  Logger,
  Module,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleInit,
} from '@nestjs/common';
import { DiscoveryModule, ModuleRef, ModulesContainer } from '@nestjs/core';
import { SchedulerRegistry } from '@nestjs/schedule';
import { systemClock } from '../foundation/clock.js';
import type { ChangeListener } from './change-listener.js';
import { definitionsOf } from './definition-scan.js';
import { logIntegrityEvent } from './integrity-log.js';
import { logMoveEvent } from './move-log.js';
import { isMovingStore } from '../store/moving-store.js';
import { logRotationEvent } from './rotation-log.js';
import { scheduleTimers } from './schedule-timers.js';
import { SecretsExplorer } from './secrets-explorer.js';
import type { SecretsModuleOptions } from './secrets-options.js';
import { SecretsRuntime } from './secrets-runtime.js';

/** Everything behind the module; a registered symbol, since both builds of this package may be loaded at once. */
export const SECRETS_RUNTIME = Symbol.for('@nestjs-secrets/runtime');

const configurable = new ConfigurableModuleBuilder<SecretsModuleOptions>({
  optionsInjectionToken: Symbol.for('@nestjs-secrets/options'),
})
  .setClassMethodName('forRoot')
  .build();

export type SecretsModuleAsyncOptions = typeof configurable.ASYNC_OPTIONS_TYPE;

function schedulerRegistry(moduleRef: ModuleRef): SchedulerRegistry | undefined {
  try {
    return moduleRef.get(SchedulerRegistry, { strict: false });
  } catch {
    return undefined;
  }
}

/** One per application: builds the runtime and runs it along with the application. */
@Global()
@Module({
  imports: [DiscoveryModule],
  providers: [
    SecretsExplorer,
    {
      provide: SECRETS_RUNTIME,
      inject: [configurable.MODULE_OPTIONS_TOKEN, ModuleRef, ModulesContainer],
      useFactory: async (options: SecretsModuleOptions, moduleRef: ModuleRef, modules: ModulesContainer) => {
        const timers = scheduleTimers(options.clock ?? systemClock, () => schedulerRegistry(moduleRef));
        const logger = new Logger('Secrets');
        const runtime = await SecretsRuntime.start(options, timers, ({ level, message }) => logger[level](message));
        for (const definition of definitionsOf(modules)) runtime.announce(definition);
        return runtime;
      },
    },
  ],
  exports: [SECRETS_RUNTIME],
})
export class SecretsCoreModule
  extends configurable.ConfigurableModuleClass
  implements OnModuleInit, OnApplicationBootstrap, BeforeApplicationShutdown, OnApplicationShutdown
{
  private readonly logger = new Logger('Secrets');
  private listeners: ChangeListener[] = [];

  constructor(
    @Inject(SECRETS_RUNTIME) private readonly runtime: SecretsRuntime,
    private readonly explorer: SecretsExplorer,
  ) {
    super();
    runtime.own?.engine.events$.subscribe((event) => logRotationEvent(this.logger, event));
    runtime.own?.integrity?.events$.subscribe((event) => logIntegrityEvent(this.logger, event));
    const { store } = runtime.options;
    if (store !== undefined && isMovingStore(store))
      store.moves$.subscribe((event) => logMoveEvent(this.logger, event));
  }

  onModuleInit(): void {
    this.explorer.registerRotators(this.runtime);
  }

  async onApplicationBootstrap(): Promise<void> {
    this.listeners = await this.explorer.attachListeners(this.runtime);
    await this.runtime.startRotating();
  }

  /** Before connections are closed, so that a step in progress can still end well. */
  async beforeApplicationShutdown(): Promise<void> {
    await this.runtime.stopRotating();
  }

  async onApplicationShutdown(): Promise<void> {
    for (const listener of this.listeners) listener.close();
    await this.runtime.close();
  }
}
