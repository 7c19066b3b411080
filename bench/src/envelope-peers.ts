import { randomBytes } from 'node:crypto';
import {
  AlgorithmSuiteIdentifier,
  buildClient,
  CommitmentPolicy,
  RawAesKeyringNode,
  RawAesWrappingSuiteIdentifier,
} from '@aws-crypto/client-node';
import { compactDecrypt, CompactEncrypt } from 'jose';

/** Another library that does envelope encryption: a fresh data key for each message, under an AES-256 key in the process, bound to a context. */
export interface Peer {
  readonly name: string;
  seal(plaintext: Buffer): Promise<unknown>;
  /** Opens what was sealed last. */
  open(): Promise<Uint8Array>;
}

export type Context = Readonly<Record<string, string>>;

/** Key wrapping and content both with AES-256-GCM, the context in the protected header. It does not commit to its key. */
export function josePeer(context: Context): Peer {
  const key = randomBytes(32);
  const header = { alg: 'A256GCMKW', enc: 'A256GCM', ...context };
  let sealed = '';
  return {
    name: 'jose',
    seal: async (plaintext) => {
      sealed = await new CompactEncrypt(plaintext).setProtectedHeader(header).encrypt(key);
    },
    open: async () => (await compactDecrypt(sealed, key)).plaintext,
  };
}

/** A raw AES keyring and the suite with key commitment, without its signature: the one that does what ours does. */
export function awsPeer(context: Context): Peer {
  const { encrypt, decrypt } = buildClient(CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT);
  const keyring = new RawAesKeyringNode({
    keyNamespace: 'bench',
    keyName: 'master',
    // It takes none that shares its memory with others.
    unencryptedMasterKey: new Uint8Array(randomBytes(32)),
    wrappingSuite: RawAesWrappingSuiteIdentifier.AES256_GCM_IV12_TAG16_NO_PADDING,
  });
  const options = {
    suiteId: AlgorithmSuiteIdentifier.ALG_AES256_GCM_IV12_TAG16_HKDF_SHA512_COMMIT_KEY,
    encryptionContext: { ...context },
  };
  let sealed: Buffer = Buffer.alloc(0);
  return {
    name: 'AWS Encryption SDK',
    seal: async (plaintext) => {
      sealed = (await encrypt(keyring, plaintext, options)).result;
    },
    open: async () => (await decrypt(keyring, sealed)).plaintext,
  };
}
