import { Injectable, Logger, Module } from '@nestjs/common';
import {
  defineSecret,
  ephemeralKeys,
  InjectSecret,
  memoryStore,
  type Secret,
  SecretsModule,
} from '@nestjs-secrets/core';

const stripeKey = defineSecret<{ key: string }>('StripeKey', undefined, {
  initial: () => ({ key: 'sk_live_51H8example' }),
});

/** Code that should not log what it logs. */
@Injectable()
export class Payments {
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
export class AppModule {}
