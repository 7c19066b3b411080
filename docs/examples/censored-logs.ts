import { ConsoleLogger, Injectable, Logger, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  censoredLogger,
  defineSecret,
  ephemeralKeys,
  InjectSecret,
  LogCensor,
  memoryStore,
  type Secret,
  SecretsModule,
} from '@nestjs-secrets/core';

const stripeKey = defineSecret<{ key: string }>('StripeKey', undefined, {
  initial: () => ({ key: 'sk_live_51H8example' }),
});

/** Code that should not log what it logs. */
@Injectable()
class Payments {
  private readonly logger = new Logger('Payments');

  constructor(@InjectSecret(stripeKey) private readonly stripe: Secret<{ key: string }>) {}

  charge(): void {
    const authorization = `Basic ${Buffer.from(`${this.stripe.value.key}:`).toString('base64')}`;
    this.logger.warn(`charge failed: ${JSON.stringify({ key: this.stripe.value.key, authorization })}`);
  }
}

@Module({
  imports: [
    SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() }),
    SecretsModule.forFeature([stripeKey]),
  ],
  providers: [Payments],
})
class AppModule {}

/** Logs to `logger`, as the application would to the console. */
export async function main(logger: ConsoleLogger = new ConsoleLogger()): Promise<void> {
  const app = await NestFactory.createApplicationContext(AppModule, { bufferLogs: true, abortOnError: false });
  app.useLogger(censoredLogger(logger, app.get(LogCensor)));
  app.get(Payments).charge();
  await app.close();
}
