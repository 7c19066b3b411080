import { createCipheriv, createDecipheriv, createSecretKey, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cryptoRandomness, Keyring, localKeyFile } from '@nestjs-secrets/core';
import { awsPeer, josePeer } from './envelope-peers.js';
import { compare, type Row } from './row.js';

const ROUNDS = 11;
const SIZES = [
  { label: '200 B', bytes: 200, times: 6000 },
  { label: '4 KB', bytes: 4096, times: 4000 },
  { label: '64 KB', bytes: 65_536, times: 500 },
];

const CONTEXT = { secretName: 'billing/MyDbCreds', versionId: 'v1042' };
// As long as what the envelope binds itself to, so that both sides authenticate the same amount.
const ASSOCIATED_DATA = randomBytes(160);
const OPTIONS = { authTagLength: 16 };

/** A peer that is a hundred times slower need not run as often. */
const PEER_TIMES_SHARE = 10;

/**
 * Sealing and opening under a local key file, against one AES-256-GCM pass over the same bytes with a key object; and two libraries from npm that do the same work,
 * against that pass too, in the same run.
 */
export async function benchEnvelope(): Promise<Row[]> {
  const folder = await mkdtemp(join(tmpdir(), 'nestjs-secrets-bench-'));
  const provider = localKeyFile({ path: join(folder, 'key.json'), create: 'if-missing' });
  try {
    await provider.open();
    const keyring = new Keyring(provider, 'a1b2c3d4-0000-4000-8000-000000000000', cryptoRandomness);
    const rows: Row[] = [];
    for (const size of SIZES) rows.push(...(await benchSize(keyring, size)));
    return rows;
  } finally {
    await provider.close();
    await rm(folder, { recursive: true });
  }
}

async function benchSize(keyring: Keyring, { label, bytes, times }: (typeof SIZES)[number]): Promise<Row[]> {
  const plaintext = randomBytes(bytes);
  const envelope = await keyring.seal(CONTEXT, plaintext);
  const key = createSecretKey(randomBytes(32));
  const raw = rawEncrypt(key, plaintext);

  const seal = microseconds(times, () => keyring.seal(CONTEXT, plaintext));
  const open = microseconds(times, () => keyring.open(CONTEXT, envelope));
  const encrypt = microseconds(times, () => rawEncrypt(key, plaintext));
  const decrypt = microseconds(times, () => rawDecrypt(key, raw));
  // One round of each unmeasured, for the compiler.
  for (const warmUp of [seal, open, encrypt, decrypt]) await warmUp();
  const rows = [
    await compare(`envelope: seal ${label}`, 'µs', ROUNDS, seal, encrypt),
    await compare(`envelope: open ${label}`, 'µs', ROUNDS, open, decrypt),
  ];
  for (const peer of [josePeer(CONTEXT), awsPeer(CONTEXT)]) {
    await peer.seal(plaintext);
    if (!plaintext.equals(await peer.open())) throw new Error(`${peer.name} did not open what it sealed`);
    const fewer = Math.ceil(times / PEER_TIMES_SHARE);
    const [peerSeal, peerOpen] = [
      microseconds(fewer, () => peer.seal(plaintext)),
      microseconds(fewer, () => peer.open()),
    ];
    for (const warmUp of [peerSeal, peerOpen]) await warmUp();
    rows.push(
      await compare(`envelope: seal ${label}, ${peer.name}`, 'µs', ROUNDS, peerSeal, encrypt),
      await compare(`envelope: open ${label}, ${peer.name}`, 'µs', ROUNDS, peerOpen, decrypt),
    );
  }
  return rows;
}

function microseconds(times: number, work: () => unknown): () => Promise<number> {
  return async () => {
    const start = process.hrtime.bigint();
    for (let done = 0; done < times; done += 1) {
      const result = work();
      if (result instanceof Promise) await result;
    }
    return Number(process.hrtime.bigint() - start) / 1000 / times;
  };
}

interface RawBox {
  readonly nonce: Buffer;
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
}

function rawEncrypt(key: ReturnType<typeof createSecretKey>, plaintext: Buffer): RawBox {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, OPTIONS);
  cipher.setAAD(ASSOCIATED_DATA);
  const ciphertext = cipher.update(plaintext);
  cipher.final();
  return { nonce, ciphertext, tag: cipher.getAuthTag() };
}

function rawDecrypt(key: ReturnType<typeof createSecretKey>, { nonce, ciphertext, tag }: RawBox): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, OPTIONS);
  decipher.setAAD(ASSOCIATED_DATA);
  decipher.setAuthTag(tag);
  const plaintext = decipher.update(ciphertext);
  decipher.final();
  return plaintext;
}
