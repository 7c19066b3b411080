import { randomBytes } from 'node:crypto';
import type { SecretsManager, SecretsRuntime } from '@nestjs-secrets/core';

const VERSIONS = 5;
/** So many secrets a commit. */
const TOGETHER = 100;

export function secretName(index: number): string {
  return `team-${String(index).padStart(7, '0')}/MyDbCreds`;
}

/** Puts secrets with five versions each into an empty store: many in one commit, where the manager would make five of each. Looks at some of them as an application would. */
export async function fillStore({ own }: SecretsRuntime, secrets: number): Promise<void> {
  if (own === undefined) throw new Error('There is no manager.');
  const { manager, versions } = own;
  const { store } = versions;
  // A record with all that the manager writes into it, of which the others are copies.
  const template = 'template/of-a-record';
  await manager.createSecret(template, 'x');
  for (let version = 2; version <= VERSIONS; version += 1) await manager.putSecretValue(template, 'x');
  const entry = await store.get(`secret/${template}`);
  const record = Buffer.from(entry?.value ?? []).toString('utf8');
  const ids = (await versions.get(template)).versions.map(({ id }) => id);
  for (let at = 0; at < secrets; at += TOGETHER) {
    const names = Array.from({ length: Math.min(TOGETHER, secrets - at) }, (_, index) => secretName(at + index));
    const writes = await Promise.all(
      names.map(async (name) => [
        { key: `secret/${name}`, value: Buffer.from(record.replaceAll(template, name)) },
        ...(await Promise.all(ids.map((id) => versions.sealValue(name, id, randomBytes(120).toString('base64'))))),
      ]),
    );
    await store.commit({ conditions: [], writes: writes.flat() });
  }
  for (const index of [0, secrets >> 1, secrets - 1]) await checkSecret(manager, secretName(index));
}

async function checkSecret(manager: SecretsManager, name: string): Promise<void> {
  const values = new Set<unknown>();
  for (const { versionId } of await manager.listVersions(name))
    values.add((await manager.getSecretValue(name, { versionId })).value);
  if (values.size !== VERSIONS) throw new Error(`${name} has ${values.size} values, not ${VERSIONS}.`);
}
