import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import type { RotateSecretOptions, RotationEvent, RotationResult, SecretsHealthResult } from '@nestjs-secrets/core';
import type { FleetMessage, FleetOrder, FleetQuestion, FleetRequest } from './fleet-order.js';
import { moment } from './moment.js';
import { type ProcessHistory, readProcessLog } from './process-log.js';

/** A time in which a process was stopped, in milliseconds since the epoch. */
export interface Freeze {
  readonly begunAt: number;
  endedAt: number;
}

/** What an asked process did not do. */
export class FleetAnswerError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

interface Waiting {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

/** One process of the fleet, seen from the program that started it. */
export class FleetProcess {
  readonly events: RotationEvent[] = [];
  readonly freezes: Freeze[] = [];
  /** Resolves when the process serves; rejects when it ends before that. */
  readonly ready: Promise<string>;
  /** Resolves with the signal that ended it, or its exit code. */
  readonly ended: Promise<NodeJS.Signals | number | null>;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Set<() => void>();
  #nextId = 1;
  #isRunning = true;
  #isReady = false;
  #isToEnd = false;
  #fault: string | undefined;
  #stderr = '';

  constructor(readonly order: FleetOrder) {
    const script = path.resolve('test/dist/chaos/fleet-child.js');
    this.#child = spawn(process.execPath, [script, JSON.stringify(order)], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr?.on('data', (text: Buffer) => (this.#stderr += text.toString('utf8')));
    this.ended = new Promise((resolve) => this.#child.once('close', (code, signal) => resolve(signal ?? code)));
    this.ready = new Promise((resolve, reject) => {
      this.#child.on('message', (message: FleetMessage) => this.#take(message, resolve));
      void this.ended.then((how) => reject(new Error(`${order.name} ended (${how}) at its start: ${this.#stderr}`)));
    });
    this.ready.catch(() => undefined);
    void this.ended.then((how) => this.#close(how));
  }

  get name(): string {
    return this.order.name;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Whether it has begun to serve, and neither ended nor is stopped. */
  get isServing(): boolean {
    return this.#isReady && this.#isRunning && !this.isFrozen;
  }

  get isFrozen(): boolean {
    return this.freezes.at(-1)?.endedAt === Number.POSITIVE_INFINITY;
  }

  /** How it ended, when nobody meant it to. */
  get fault(): string | undefined {
    return this.#fault;
  }

  /** What it did so far, by its own log. */
  history(): ProcessHistory {
    return readProcessLog(this.order.log);
  }

  rotate(options: RotateSecretOptions = {}, crashAt?: string): Promise<RotationResult> {
    return this.ask({
      ask: 'rotate',
      options,
      ...(crashAt === undefined ? {} : { crashAt }),
    }) as Promise<RotationResult>;
  }

  health(): Promise<SecretsHealthResult[string]> {
    return this.ask({ ask: 'health' }) as Promise<SecretsHealthResult[string]>;
  }

  ask(question: FleetQuestion): Promise<unknown> {
    const id = this.#nextId++;
    this.#isToEnd ||= question.ask === 'close' || (question.ask === 'rotate' && question.crashAt !== undefined);
    return new Promise((resolve, reject) => {
      if (!this.#isRunning) {
        reject(new Error(this.#fault ?? `${this.name} has ended`));
        return;
      }
      this.#waiting.set(id, { resolve, reject });
      const request: FleetRequest = { ...question, id };
      // That it could not be sent is told by its end.
      this.#child.send(request, () => undefined);
    });
  }

  /** Resolves with the first of its events, past ones included, that `matches`. */
  async event<T extends RotationEvent>(matches: (event: RotationEvent) => event is T, from = 0): Promise<T> {
    for (;;) {
      const found = this.events.slice(from).find(matches);
      if (found !== undefined) return found;
      if (!this.#isRunning) throw new Error(`${this.name} ended before the event that was waited for`);
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#listeners.delete(wake);
          resolve();
        };
        this.#listeners.add(wake);
      });
    }
  }

  kill(): void {
    this.#isToEnd = true;
    this.#child.kill('SIGKILL');
  }

  freeze(): void {
    if (!this.#child.kill('SIGSTOP')) return;
    this.freezes.push({ begunAt: moment(), endedAt: Number.POSITIVE_INFINITY });
  }

  thaw(): void {
    const freeze = this.freezes.at(-1);
    if (freeze === undefined || !this.isFrozen) return;
    freeze.endedAt = moment();
    this.#child.kill('SIGCONT');
  }

  #take(message: FleetMessage, ready: (instanceId: string) => void): void {
    if (message.type === 'ready') {
      this.#isReady = true;
      ready(message.instanceId);
    } else if (message.type === 'event') {
      this.events.push(message.event);
    } else {
      const waiting = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      const { failure, answer } = message;
      if (failure === undefined) waiting?.resolve(answer);
      else waiting?.reject(new FleetAnswerError(failure.code, failure.message));
    }
    for (const listener of this.#listeners) listener();
  }

  #close(how: NodeJS.Signals | number | null): void {
    this.#isRunning = false;
    if (this.#isReady && !this.#isToEnd) this.#fault = `${this.name} ended by itself (${how}): ${this.#stderr}`;
    for (const waiting of this.#waiting.values())
      waiting.reject(new Error(`${this.name} ended (${how}): ${this.#stderr}`));
    this.#waiting.clear();
    for (const listener of this.#listeners) listener();
  }
}
