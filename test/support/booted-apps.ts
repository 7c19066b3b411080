import type { DynamicModule, INestApplicationContext, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ephemeralKeys, memoryStore, SecretsModule } from '@nestjs-secrets/core';

/** The applications of one test; `closeAll` belongs into `afterEach`. */
export class BootedApps {
  readonly #apps: INestApplicationContext[] = [];

  async boot(...imports: (DynamicModule | Type)[]): Promise<INestApplicationContext> {
    const app = await NestFactory.createApplicationContext(
      { module: class Root {}, imports },
      { logger: false, abortOnError: false },
    );
    this.#apps.push(app);
    return app;
  }

  async closeAll(): Promise<void> {
    for (const app of this.#apps.splice(0)) await app.close();
  }
}

/** Secrets that live and die with the application. */
export function inMemory(): DynamicModule {
  return SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() });
}
