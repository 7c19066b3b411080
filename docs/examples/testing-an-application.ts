import { Injectable, Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { InjectSecret, type Secret, SecretsModule } from '@nestjs-secrets/core';
import { SecretsTesting, SecretsTestingModule } from '@nestjs-secrets/testing';

@Injectable()
class Signer {
  constructor(@InjectSecret('SigningKey') private readonly key: Secret<string>) {}

  sign(text: string): string {
    return `${text}.${this.key.value}`;
  }
}

@Module({ imports: [SecretsModule.forFeature(['SigningKey'])], providers: [Signer], exports: [Signer] })
class SigningModule {}

export async function main(): Promise<string[]> {
  const app = await Test.createTestingModule({
    imports: [SecretsTestingModule.forRoot({ SigningKey: 'first' }), SigningModule],
  }).compile();
  const signer = app.get(Signer);
  const signed = [signer.sign('hello')];

  await app.get(SecretsTesting).rotate('SigningKey', 'second'); // the handle holds it when this resolves
  signed.push(signer.sign('hello'));
  await app.close();
  return signed;
}
