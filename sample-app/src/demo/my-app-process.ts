import { fork, type ChildProcess } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { AppMessage, DemoMessage, RetirementProof } from './messages.js';

const START_LIMIT_MS = 30_000;
const PROOF_LIMIT_MS = 60_000;
const OUTPUT_LINES = 40;

/**
 * MyApp as a process of its own: the clients' work in this process, on another core, must not look like slowness of the application.
 */
export class MyAppProcess extends EventEmitter<{ message: [AppMessage] }> {
  private output: string[] = [];
  private readonly ended: Promise<unknown>;

  private constructor(private readonly child: ChildProcess) {
    super();
    this.ended = once(child, 'exit');
    child.on('message', (message: AppMessage) => this.emit('message', message));
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output = [...this.output, ...text.trimEnd().split('\n')].slice(-OUTPUT_LINES);
      });
    }
  }

  /** @throws Error with what it wrote when it does not come up */
  static async start(
    pool: 'live' | 'naive',
    environment: NodeJS.ProcessEnv,
  ): Promise<{ app: MyAppProcess; url: string }> {
    const child = fork(fileURLToPath(new URL('demo-app.js', import.meta.url)), [pool], {
      env: { ...process.env, ...environment },
      silent: true,
    });
    const app = new MyAppProcess(child);
    try {
      const { url } = await app.next('listening', START_LIMIT_MS);
      return { app, url };
    } catch (error) {
      await app.stop();
      throw error;
    }
  }

  /** The last lines MyApp wrote. */
  get lastOutput(): string {
    return this.output.join('\n');
  }

  async prove(): Promise<RetirementProof> {
    const proof = this.next('proof', PROOF_LIMIT_MS);
    const message: DemoMessage = { type: 'prove' };
    this.child.send(message);
    return (await proof).proof;
  }

  /** The graceful way, as an orchestrator would; and the other one when that takes too long. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill('SIGTERM');
    const force = setTimeout(() => this.child.kill('SIGKILL'), 20_000);
    await this.ended;
    clearTimeout(force);
  }

  private next<T extends AppMessage['type']>(type: T, limitMs: number): Promise<Extract<AppMessage, { type: T }>> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`MyApp did not say '${type}' within ${limitMs} ms.\n${this.lastOutput}`)),
        limitMs,
      );
      this.on('message', (message) => {
        if (message.type !== type) return;
        clearTimeout(timer);
        resolve(message as Extract<AppMessage, { type: T }>);
      });
      void this.ended.then(() => {
        clearTimeout(timer);
        reject(new Error(`MyApp ended.\n${this.lastOutput}`));
      });
    });
  }
}
