import { NestFactory } from '@nestjs/core';
import { getSecretToken, type Secret, SecretsManager } from '@nestjs-secrets/core';
import { Mailer, MailModule, type SmtpLogin, smtpLogin } from './mailer.js';

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

  const printed = String(await manager.getSecretValue('SmtpLogin'));
  await app.close();
  return { mails, reconnects: mailer.reconnects, printed };
}
