import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** How a command ended; it is not an error when the code is not 0. */
export interface CommandResult {
  readonly code: number;
  readonly output: string;
}

/** A project of its own, outside the workspace, with the packages installed from what `npm pack` makes of them. */
export interface PackedProject {
  readonly folder: string;
  /** Runs Node there; gives up after two minutes. */
  node(...args: string[]): Promise<CommandResult>;
}

export interface PackedProjectOptions {
  readonly type: 'module' | 'commonjs';
  /** Besides the tarballs: name → range. */
  readonly dependencies: Readonly<Record<string, string>>;
  /** Copied into the project as it is. */
  readonly template: string;
}

/** `npm install` did not reach the registry: a fault of the place, not of the packages. */
export class RegistryUnreachableError extends Error {
  constructor(output: string) {
    super(`npm cannot reach its registry:\n${output}`);
    this.name = 'RegistryUnreachableError';
  }
}

/** Two projects install at once, the SDKs of two clouds among what they need. */
const INSTALL_WITHIN_MS = 400_000;

const NETWORK_FAILURE =
  /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ERR_SOCKET_TIMEOUT|ENOTCACHED)\b/;

/** Packs the folders of these packages; answers the paths of the tarballs. */
export async function packPackages(folders: readonly string[], destination: string): Promise<string[]> {
  // Without `prepack`: whoever calls this has built.
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', destination, ...folders];
  const { code, output } = await run('npm', args, destination);
  if (code !== 0) throw new Error(`npm pack ended with ${code}:\n${output}`);
  const packed: unknown = JSON.parse(output.slice(output.indexOf('[')));
  return (packed as { filename: string }[]).map(({ filename }) => path.join(destination, filename));
}

/**
 * Installs a project in `folder`, which must not exist yet.
 * @throws RegistryUnreachableError
 */
export async function installPacked(
  folder: string,
  tarballs: readonly string[],
  options: PackedProjectOptions,
): Promise<PackedProject> {
  await mkdir(folder);
  await cp(options.template, folder, { recursive: true });
  const manifest = { private: true, type: options.type, dependencies: options.dependencies };
  await writeFile(path.join(folder, 'package.json'), JSON.stringify(manifest));
  const args = ['install', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts', ...tarballs];
  const { code, output } = await run('npm', args, folder, INSTALL_WITHIN_MS);
  if (code !== 0 && NETWORK_FAILURE.test(output)) throw new RegistryUnreachableError(output);
  if (code !== 0) throw new Error(`npm install ended with ${code}:\n${output}`);
  return { folder, node: (...nodeArgs) => run(process.execPath, nodeArgs, folder) };
}

/** A temporary folder for the time of `work`; its real path, since Jest and TypeScript compare paths. */
export async function temporaryFolder(): Promise<{ readonly folder: string; remove(): Promise<void> }> {
  const folder = await realpath(await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-packed-')));
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

function run(command: string, args: readonly string[], cwd: string, withinMs = 120_000): Promise<CommandResult> {
  // A test runner's own settings (experimental modules, the npm script it runs in) are not those of a user's project.
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(NODE_OPTIONS|JEST_.*|npm_(?!config_).*)$/.test(name),
  );
  const env = Object.fromEntries(inherited);
  return new Promise((resolve, reject) => {
    execFile(command, args, { cwd, env, timeout: withinMs, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error === null) resolve({ code: 0, output: stdout });
      else if (typeof error.code === 'number') resolve({ code: error.code, output: `${stdout}\n${stderr}` });
      else
        reject(
          new Error(`${command} ${args.join(' ')} did not end by itself:\n${stdout}\n${stderr}`, { cause: error }),
        );
    });
  });
}
