import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import type {
  PolicyMessage,
  PolicyOrder,
  PolicyQuestion,
  PolicyTally,
} from 'nestjs-secrets-test/policies/policy-order';

/** One of several processes under the same policies. */
export class PolicyProcess {
  readonly #child: ChildProcess;
  readonly #said: PolicyMessage[] = [];
  #stderr = '';
  #hasEnded = false;
  #wake: () => void = () => undefined;

  constructor(order: PolicyOrder) {
    const script = path.resolve('test/dist/policies/policy-child.js');
    this.#child = spawn(process.execPath, [script, JSON.stringify(order)], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr?.on('data', (text: Buffer) => (this.#stderr += text.toString('utf8')));
    this.#child.on('message', (message: PolicyMessage) => {
      this.#said.push(message);
      this.#wake();
    });
    this.#child.once('close', () => {
      this.#hasEnded = true;
      this.#wake();
    });
  }

  async ready(): Promise<void> {
    await this.#until(({ type }) => type === 'ready');
  }

  /** Changes the policies from here; when it was committed, in milliseconds since the epoch. */
  async change(generation: number): Promise<number> {
    this.#ask({ ask: 'change', generation });
    const said = await this.#until((one) => one.type === 'changed' && one.generation === generation);
    return said.type === 'changed' ? said.at : 0;
  }

  /** When it first decided by this generation, or a later one. */
  async governed(generation: number): Promise<number> {
    const said = await this.#until((one) => one.type === 'governed' && one.generation >= generation);
    return said.type === 'governed' ? said.at : 0;
  }

  async stop(): Promise<PolicyTally> {
    this.#ask({ ask: 'stop' });
    const said = await this.#until(({ type }) => type === 'stopped');
    if (said.type !== 'stopped') throw new Error('it did not stop');
    return said.tally;
  }

  kill(): void {
    if (!this.#hasEnded) this.#child.kill('SIGKILL');
  }

  #ask(question: PolicyQuestion): void {
    this.#child.send(question, () => undefined);
  }

  async #until(wanted: (message: PolicyMessage) => boolean): Promise<PolicyMessage> {
    for (;;) {
      const found = this.#said.find((message) => wanted(message));
      if (found !== undefined) return found;
      if (this.#hasEnded) throw new Error(`the process has ended: ${this.#stderr}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
