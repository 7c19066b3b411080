import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';

export interface ChildResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Programs of test/dist, each in a process of its own; none of them outlives `killAll`. */
export class ChildProcesses {
  readonly #running = new Set<ChildProcess>();

  /** Runs a program to its end, whatever that is. `program` is its path under test/src, without the extension. */
  async run(program: string, order: unknown, limitMs = 60_000): Promise<ChildResult> {
    const script = path.resolve('test/dist', `${program}.js`);
    const child = spawn(process.execPath, [script, JSON.stringify(order)], { stdio: ['ignore', 'pipe', 'pipe'] });
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
