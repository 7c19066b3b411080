import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import type { LeaseMessage, LeasePlace, LeaseQuestion } from 'nestjs-secrets-test/lease/lease-order';

/** A process of the application whose instances have a role each. */
export class LeasingProcess {
  /** Resolves with the signal that ended it, or its exit code. */
  readonly ended: Promise<NodeJS.Signals | number | null>;
  readonly #child: ChildProcess;
  readonly #messages: LeaseMessage[] = [];
  #wake: () => void = () => undefined;
  #isRunning = true;
  #stderr = '';

  constructor(place: LeasePlace) {
    const script = path.resolve('test/dist/lease/lease-child.js');
    this.#child = spawn(process.execPath, [script, JSON.stringify(place)], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr?.on('data', (text: Buffer) => (this.#stderr += text.toString('utf8')));
    this.#child.on('message', (message: LeaseMessage) => {
      this.#messages.push(message);
      this.#wake();
    });
    this.ended = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        this.#isRunning = false;
        this.#wake();
        resolve(signal ?? code);
      });
    });
  }

  /** Resolves with the id of its instance. */
  async ready(): Promise<string> {
    const message = await this.#next();
    if (message.type !== 'ready') throw new Error(`it said ${message.type} before it was ready`);
    return message.instanceId;
  }

  /** As whom it works on a connection of its pool, or why it cannot. One question at a time. */
  async who(): Promise<LeaseMessage> {
    this.#ask('who');
    return this.#next();
  }

  /** Resolves when it has shut down in order. */
  async close(): Promise<NodeJS.Signals | number | null> {
    this.#ask('close');
    return this.ended;
  }

  signal(signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
    if (this.#isRunning) this.#child.kill(signal);
  }

  #ask(question: LeaseQuestion): void {
    this.#child.send(question, () => undefined);
  }

  async #next(): Promise<LeaseMessage> {
    for (;;) {
      const message = this.#messages.shift();
      if (message !== undefined) return message;
      if (!this.#isRunning) throw new Error(`the process has ended: ${this.#stderr}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
