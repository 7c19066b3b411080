import { randomBytes } from 'node:crypto';
import type { SecretsRuntime } from '@nestjs-secrets/core';

const VERSIONS = 5;
/** So many secrets a commit. */
const TOGETHER = 100;

export function secretName(index: number): string {
  return `team-${String(index).padStart(7, '0')}/MyDbCreds`;
}

/** Puts secrets with five versions each into an empty store: many in one commit, where the manager would make five of each. */
export async function fillStore({ own }: SecretsRuntime, secrets: number): Promise<void> {
  if (own === undefined) throw new Error('There is no manager.');
  const { manager, versions } = own;
  const { store } = versions;
  const template = 'template/of-a-record';
  await manager.createSecret(template, 'x');
  for (let version = 2; version <= VERSIONS; version += 1) await manager.putSecretValue(template, 'x');
  const entry = await store.get(`secret/${template}`);
  const record = Buffer.from(entry?.value ?? []).toString('utf8');
  for (let at = 0; at < secrets; at += TOGETHER) {
    const names = Array.from({ length: Math.min(TOGETHER, secrets - at) }, (_, index) => secretName(at + index));
    const writes = await Promise.all(
      names.map(async (name) => [
        { key: `secret/${name}`, value: Buffer.from(record.replaceAll(template, name)) },
        ...(await Promise.all(
          Array.from({ length: VERSIONS }, (_, index) =>
            versions.sealValue(name, `v${index + 1}`, randomBytes(120).toString('base64')),
          ),
        )),
      ]),
    );
    await store.commit({ conditions: [], writes: writes.flat() });
  }
}
