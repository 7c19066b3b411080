import { Injectable, Module } from '@nestjs/common';
import {
  defineSecret,
  ephemeralKeys,
  InjectSecret,
  memoryStore,
  OnSecretChange,
  type Secret,
  type SecretChange,
  SecretsModule,
} from '@nestjs-secrets/core';
import { z } from 'zod';

export interface SmtpLogin {
  user: string;
  pass: string;
}

export const smtpLogin = defineSecret('SmtpLogin', z.object({ user: z.string(), pass: z.string().min(8) }), {
  initial: () => ({ user: 'mailer', pass: 'first-password' }),
});

@Injectable()
export class Mailer {
  readonly reconnects: string[] = [];

  constructor(@InjectSecret(smtpLogin) private readonly login: Secret<SmtpLogin>) {}

  /** Reads the value each time; it is synchronous and always the latest. */
  send(): string {
    return `sent as ${this.login.value.user} with a password of ${this.login.value.pass.length} characters`;
  }

  @OnSecretChange(smtpLogin)
  async reconnect(change: SecretChange<SmtpLogin>): Promise<void> {
    this.reconnects.push(`${change.previousVersionId} → ${change.versionId}${change.rolledBack ? ' (back)' : ''}`);
  }
}

@Module({
  imports: [
    SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys() }),
    SecretsModule.forFeature([smtpLogin]),
  ],
  providers: [Mailer],
})
export class MailModule {}
