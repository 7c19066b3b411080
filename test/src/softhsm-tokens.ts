import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { SHARE_ENV, Worker } from 'node:worker_threads';

/** Where the library and the program come from on Debian. */
export const SOFTHSM_DEBIAN_PACKAGE = 'softhsm2';

const LIBRARIES = [
  '/usr/lib/softhsm/libsofthsm2.so',
  '/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so',
  '/opt/homebrew/lib/softhsm/libsofthsm2.so',
];

const run = promisify(execFile);

/** Tokens of SoftHSM, a PKCS#11 library that keeps its tokens in a folder; one folder for the process. */
export interface SofthsmTokens {
  readonly library: string;
  /** Makes a token with this label; answers its user PIN. */
  make(label: string): Promise<string>;
  /** Takes all tokens away, as if they were unplugged; sessions find nothing any more. */
  unplug(): Promise<void>;
  plugIn(): Promise<void>;
  dispose(): Promise<void>;
}

export function softhsmLibrary(): string | undefined {
  return LIBRARIES.find((file) => existsSync(file));
}

/** @throws Error naming the Debian package when SoftHSM is not installed */
export async function softhsmTokens(): Promise<SofthsmTokens> {
  const library = softhsmLibrary();
  if (library === undefined)
    throw new Error(`SoftHSM is missing: install the Debian package ${SOFTHSM_DEBIAN_PACKAGE}.`);
  const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-softhsm-'));
  const [tokens, away, config] = ['tokens', 'away', 'softhsm2.conf'].map((name) => path.join(folder, name));
  if (tokens === undefined || away === undefined || config === undefined) throw new Error('no folder');
  await mkdir(tokens);
  await writeFile(config, `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\n`);
  await setEnvironment('SOFTHSM2_CONF', config);
  return {
    library,
    make: async (label) => {
      const pin = randomBytes(8).toString('hex');
      const args = [
        '--init-token',
        '--free',
        '--label',
        label,
        '--pin',
        pin,
        '--so-pin',
        randomBytes(8).toString('hex'),
      ];
      await run('softhsm2-util', args, { env: { ...process.env, SOFTHSM2_CONF: config } });
      return pin;
    },
    unplug: async () => {
      await rename(tokens, away);
      await mkdir(tokens);
    },
    plugIn: async () => {
      await rm(tokens, { recursive: true });
      await rename(away, tokens);
    },
    dispose: () => rm(folder, { recursive: true, force: true }),
  };
}

/** Sets it for the libraries of the process as well: under Jest, process.env is a copy that they do not see. */
async function setEnvironment(name: string, value: string): Promise<void> {
  const code = `process.env[${JSON.stringify(name)}] = ${JSON.stringify(value)};`;
  await new Promise((resolve, reject) => {
    new Worker(code, { eval: true, env: SHARE_ENV }).on('error', reject).on('exit', resolve);
  });
}
