import { type CmkRef, isCmkRef } from '@nestjs-secrets/core';
import pkcs11 from 'pkcs11js';
import type { TokenSession } from './pkcs11-token.js';

/*
 * How keys stand in a token. A version of a key is an AES-256 key with the label "nestjs-secrets:" and the id, and the version as CKA_ID (4 bytes,
 * big-endian). One that may not encrypt yet is being made. A data object of the same label keeps the highest version that was ever destroyed.
 */
const LABEL = 'nestjs-secrets:';
const APPLICATION = 'nestjs-secrets';
const PAGE = 100;

export interface TokenKey {
  readonly ref: CmkRef;
  readonly handle: pkcs11.Handle;
  /** False while it is being made. */
  readonly isUsable: boolean;
  /** Whether it could leave the token, or be read in it. */
  readonly isExposed: boolean;
}

/** Every version of every key of ours. */
export function findKeys({ module, handle: session }: TokenSession): TokenKey[] {
  const keys = findAll(module, session, [
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_SECRET_KEY },
    { type: pkcs11.CKA_KEY_TYPE, value: pkcs11.CKK_AES },
    { type: pkcs11.CKA_TOKEN, value: true },
  ]);
  return keys.flatMap((handle) => {
    const key = readKey(module, session, handle);
    return key === undefined ? [] : [key];
  });
}

/** Makes the next version of a key; retried by the caller when it answers undefined, since another process was making the same. */
export async function makeVersion(session: TokenSession, id: string): Promise<CmkRef | undefined> {
  const { module, handle } = session;
  const taken = findKeys(session).flatMap(({ ref }) => (ref.id === id ? [ref.version] : []));
  const version = Math.max(0, highestDestroyed(session, id), ...taken) + 1;
  const ref = { id, version };
  if (!isCmkRef(ref)) return undefined;
  const made = await module.C_GenerateKeyAsync(handle, { mechanism: pkcs11.CKM_AES_KEY_GEN }, [
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_SECRET_KEY },
    { type: pkcs11.CKA_KEY_TYPE, value: pkcs11.CKK_AES },
    { type: pkcs11.CKA_VALUE_LEN, value: 32 },
    { type: pkcs11.CKA_TOKEN, value: true },
    { type: pkcs11.CKA_PRIVATE, value: true },
    { type: pkcs11.CKA_SENSITIVE, value: true },
    { type: pkcs11.CKA_EXTRACTABLE, value: false },
    { type: pkcs11.CKA_ENCRYPT, value: false },
    { type: pkcs11.CKA_DECRYPT, value: true },
    { type: pkcs11.CKA_WRAP, value: false },
    { type: pkcs11.CKA_UNWRAP, value: false },
    { type: pkcs11.CKA_LABEL, value: LABEL + id },
    { type: pkcs11.CKA_ID, value: bytesOf(version) },
  ]);
  // Each of two who make the same version at once looks after it has made its own, so at least one of them sees both and steps back.
  const same = findKeys(session).filter(({ ref: { id: other, version: its } }) => other === id && its === version);
  if (same.length !== 1) {
    module.C_DestroyObject(handle, made);
    return undefined;
  }
  module.C_SetAttributeValue(handle, made, [{ type: pkcs11.CKA_ENCRYPT, value: true }]);
  return ref;
}

/** Destroys a version for good, and sees to it that its number is not given again. */
export function destroyVersion(session: TokenSession, { id, version }: CmkRef): void {
  const { module, handle } = session;
  const doomed = findKeys(session).filter(({ ref }) => ref.id === id && ref.version === version);
  if (doomed.length === 0) return;
  const marks = findMarks(session, id);
  if (version > highestDestroyed(session, id)) {
    module.C_CreateObject(handle, [
      { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_DATA },
      { type: pkcs11.CKA_TOKEN, value: true },
      { type: pkcs11.CKA_PRIVATE, value: true },
      { type: pkcs11.CKA_APPLICATION, value: APPLICATION },
      { type: pkcs11.CKA_LABEL, value: LABEL + id },
      { type: pkcs11.CKA_VALUE, value: bytesOf(version) },
    ]);
    for (const mark of marks) module.C_DestroyObject(handle, mark);
  }
  for (const key of doomed) module.C_DestroyObject(handle, key.handle);
}

function readKey(module: pkcs11.PKCS11, session: pkcs11.Handle, handle: pkcs11.Handle): TokenKey | undefined {
  const [label, id, length, sensitive, extractable, encrypt] = module
    .C_GetAttributeValue(session, handle, [
      { type: pkcs11.CKA_LABEL },
      { type: pkcs11.CKA_ID },
      { type: pkcs11.CKA_VALUE_LEN },
      { type: pkcs11.CKA_SENSITIVE },
      { type: pkcs11.CKA_EXTRACTABLE },
      { type: pkcs11.CKA_ENCRYPT },
    ])
    .map(({ value }) => value);
  const name = label?.toString() ?? '';
  if (!name.startsWith(LABEL) || id?.length !== 4 || length?.[0] !== 32) return undefined;
  const ref = { id: name.slice(LABEL.length), version: id.readUInt32BE() };
  if (!isCmkRef(ref)) return undefined;
  return { ref, handle, isUsable: isTrue(encrypt), isExposed: !isTrue(sensitive) || isTrue(extractable) };
}

function highestDestroyed(session: TokenSession, id: string): number {
  const values = findMarks(session, id).map(
    (mark) => session.module.C_GetAttributeValue(session.handle, mark, [{ type: pkcs11.CKA_VALUE }])[0]?.value,
  );
  return Math.max(0, ...values.map((value) => (value?.length === 4 ? value.readUInt32BE() : 0)));
}

function findMarks({ module, handle }: TokenSession, id: string): pkcs11.Handle[] {
  return findAll(module, handle, [
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_DATA },
    { type: pkcs11.CKA_TOKEN, value: true },
    { type: pkcs11.CKA_APPLICATION, value: APPLICATION },
    { type: pkcs11.CKA_LABEL, value: LABEL + id },
  ]);
}

function findAll(module: pkcs11.PKCS11, session: pkcs11.Handle, template: pkcs11.Template): pkcs11.Handle[] {
  const found: pkcs11.Handle[] = [];
  module.C_FindObjectsInit(session, template);
  try {
    for (;;) {
      const page = module.C_FindObjects(session, PAGE);
      found.push(...page);
      if (page.length < PAGE) return found;
    }
  } finally {
    module.C_FindObjectsFinal(session);
  }
}

function bytesOf(version: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(version);
  return bytes;
}

function isTrue(value: Buffer | undefined): boolean {
  return value?.[0] === 1;
}
