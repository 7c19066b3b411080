import { spawn, type ChildProcess } from 'node:child_process';

export interface ServerCommand {
  readonly program: string;
  readonly arguments: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Part of the line with which the server says that it takes connections. */
  readonly readyLine: string;
}

/** The process of a throw-away server, which can be killed and started again on the same data. */
export class ServerProcess {
  readonly #lines: string[] = [];
  #child: ChildProcess | undefined;
  /** A test run that is broken off leaves no server behind. */
  readonly #onExit = (): void => void this.#child?.kill('SIGKILL');

  constructor(private readonly command: ServerCommand) {}

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** What the server has written so far, in all its lives. */
  get log(): string {
    return this.#lines.join('');
  }

  /** Resolves when the server takes connections. */
  async start(): Promise<void> {
    const { program, readyLine, environment } = this.command;
    const child = spawn(program, [...this.command.arguments], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...environment },
    });
    this.#child = child;
    process.once('exit', this.#onExit);
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`${program} ended with ${code}:\n${this.log}`)));
      for (const stream of [child.stdout, child.stderr]) {
        let own = '';
        stream.setEncoding('utf8').on('data', (text: string) => {
          this.#lines.push(text);
          own = (own + text).slice(-10_000);
          if (own.includes(readyLine)) resolve();
        });
      }
    });
  }

  /** Ends the server with this signal, and resolves when it has ended. */
  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    process.off('exit', this.#onExit);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill(signal);
    await ended;
  }
}
