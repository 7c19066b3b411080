import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';

export interface ChildResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ChildOptions {
  /** How long it may run, in milliseconds; 60,000 by default. */
  readonly limitMs?: number;
  /** Where its program is; test/dist by default. */
  readonly programs?: string;
  readonly cwd?: string;
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Options of Node. */
  readonly nodeOptions?: readonly string[];
}

/** Programs of test/dist, each in a process of its own; none of them outlives `killAll`. */
export class ChildProcesses {
  readonly #running = new Set<ChildProcess>();

  /** Runs a program to its end, whatever that is. `program` is its path under test/src, without the extension; a text is its argument as it is, anything else in JSON. */
  async run(program: string, order: unknown, options: ChildOptions | number = {}): Promise<ChildResult> {
    const {
      limitMs = 60_000,
      programs = path.resolve('test/dist'),
      cwd,
      env,
      nodeOptions = [],
    } = typeof options === 'number' ? { limitMs: options } : options;
    const argument = typeof order === 'string' ? order : JSON.stringify(order);
    const child = spawn(process.execPath, [...nodeOptions, path.join(programs, `${program}.js`), argument], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
      ...(cwd === undefined ? {} : { cwd }),
    });
    this.#running.add(child);
    const limit = setTimeout(() => child.kill('SIGTERM'), limitMs);
    const [stdout, stderr] = [collect(child.stdout), collect(child.stderr)];
    try {
      const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
        child.once('error', reject);
        child.once('close', (...end) => resolve(end));
      });
      return { code, signal, stdout: stdout(), stderr: stderr() };
    } finally {
      clearTimeout(limit);
      this.#running.delete(child);
    }
  }

  killAll(): void {
    for (const child of this.#running) child.kill('SIGKILL');
  }
}

function collect(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString('utf8');
}
