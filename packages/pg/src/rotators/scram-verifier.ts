import { createHash, createHmac, pbkdf2, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';

const deriveKey = promisify(pbkdf2);

// RFC 4013 §2.1 over RFC 3454: tables C.1.2 and B.1. Written as alternatives, since some of these combine with their neighbours in a class.
const NON_ASCII_SPACE = /[\u00A0\u1680\u2000-\u200B\u202F\u205F\u3000]/gu;
const MAPPED_TO_NOTHING = /\u00AD|\u034F|\u1806|\u180B|\u180C|\u180D|\u200C|\u200D|\u2060|[\uFE00-\uFE0F]|\uFEFF/gu;

/**
 * SASLprep (RFC 4013) as far as it changes what is hashed. Prohibited characters are let through as they are: PostgreSQL hashes such a
 * password unprepared, and no generated password has any.
 */
function prepare(password: string): string {
  return password.replace(NON_ASCII_SPACE, ' ').replace(MAPPED_TO_NOTHING, '').normalize('NFKC');
}

export interface ScramVerifierOptions {
  /** PBKDF2 rounds; 4096 by default, as in PostgreSQL (`scram_iterations`) and RFC 7677 §4. */
  readonly iterations?: number;
  /** 16 random bytes by default. */
  readonly salt?: Uint8Array;
}

/**
 * What PostgreSQL stores for a password under scram-sha-256 (RFC 5802 §3, RFC 7677):
 * `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`. Sent in place of the password, so that no statement, and so no log of
 * statements, ever holds the password itself. Runs off the event loop, in libuv's pool.
 */
export async function scramVerifier(password: string, options: ScramVerifierOptions = {}): Promise<string> {
  const iterations = options.iterations ?? 4096;
  const salt = options.salt ?? randomBytes(16);
  const salted = await deriveKey(prepare(password), salt, iterations, 32, 'sha256');
  const hmac = (message: string): Buffer => createHmac('sha256', salted).update(message).digest();
  const storedKey = createHash('sha256').update(hmac('Client Key')).digest('base64');
  const serverKey = hmac('Server Key').toString('base64');
  salted.fill(0);
  return `SCRAM-SHA-256$${iterations}:${Buffer.from(salt).toString('base64')}$${storedKey}:${serverKey}`;
}
