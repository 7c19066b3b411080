import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  defineSecret,
  ephemeralKeys,
  getSecretToken,
  InjectSecret,
  memoryStore,
  OnSecretChange,
  type Secret,
  type SecretChange,
  SecretsManager,
  SecretsModule,
} from '@nestjs-secrets/core';
import { z } from 'zod';

interface SmtpLogin {
  user: string;
  pass: string;
}

const smtpLogin = defineSecret('SmtpLogin', z.object({ user: z.string(), pass: z.string().min(8) }), {
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

export async function main(): Promise<{ mails: string[]; reconnects: readonly string[]; printed: string }> {
  const app = await NestFactory.createApplicationContext(MailModule, { logger: false });
  const [mailer, manager] = [app.get(Mailer), app.get(SecretsManager)];
  const login = app.get<Secret<SmtpLogin>>(getSecretToken(smtpLogin), { strict: false });
  const mails = [mailer.send()];

  await manager.putSecretValue('SmtpLogin', { user: 'mailer', pass: 'a-longer-second-password' });
  await login.refresh(); // a hint would have come by itself, a moment later
  mails.push(mailer.send());

  await manager.updateVersionStage('SmtpLogin', 'current', 'v1'); // a rollback, which every handle follows
  await login.refresh();
  mails.push(mailer.send());

  const printed = `${await manager.getSecretValue('SmtpLogin')}`;
  await app.close();
  return { mails, reconnects: mailer.reconnects, printed };
}
