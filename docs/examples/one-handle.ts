import { Test } from '@nestjs/testing';
import { getSecretToken, type Secret, SecretsModule } from '@nestjs-secrets/core';
import { SecretsTestingModule } from '@nestjs-secrets/testing';
import { of } from 'rxjs';

const change = { name: 'SigningKey', versionId: 'v1', value: 'fixed', previousVersionId: undefined, rolledBack: false };
const fixed: Secret<string> = { ...change, changes$: of(change), refresh: async () => undefined };

export async function main(): Promise<string> {
  const app = await Test.createTestingModule({
    imports: [SecretsTestingModule.forRoot(), SecretsModule.forFeature(['SigningKey'])],
  })
    .overrideProvider(getSecretToken('SigningKey'))
    .useValue(fixed)
    .compile();
  const { value } = app.get<Secret<string>>(getSecretToken('SigningKey'), { strict: false });
  await app.close();
  return value;
}
