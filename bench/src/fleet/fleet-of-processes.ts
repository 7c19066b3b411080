import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { FleetOrder, FleetWord } from './fleet-order.js';

interface Arrival {
  left: number;
  last: number;
  readonly resolve: (at: number) => void;
}

/** Processes that follow one secret, started and ended together. */
export class FleetOfProcesses {
  readonly #children: ChildProcess[] = [];
  readonly #awaited = new Map<string, Arrival>();

  private constructor(private readonly onFault: (error: Error) => void) {}

  /** Starts them one after the other, since each is busy while it starts. */
  static async start(processes: number, order: FleetOrder, onFault: (error: Error) => void): Promise<FleetOfProcesses> {
    const fleet = new FleetOfProcesses(onFault);
    try {
      for (let index = 0; index < processes; index += 1) await fleet.#startOne(order);
    } catch (error) {
      fleet.stop();
      throw error;
    }
    return fleet;
  }

  /** Resolves with the time at which the last process had come to the id. To be called before that is possible. */
  allAt(type: 'version' | 'bare', id: string): Promise<number> {
    return new Promise((resolve) =>
      this.#awaited.set(`${type} ${id}`, { left: this.#children.length, last: 0, resolve }),
    );
  }

  stop(): void {
    for (const child of this.#children) child.removeAllListeners('exit').kill('SIGKILL');
  }

  #startOne(order: FleetOrder): Promise<void> {
    const script = fileURLToPath(new URL('fleet-child.js', import.meta.url));
    const child = fork(script, [JSON.stringify(order)]);
    this.#children.push(child);
    return new Promise((resolve, reject) => {
      child.on('message', (word: FleetWord) => {
        if (word.type === 'ready') resolve();
        else this.#arrived(`${word.type} ${word.id}`, word.at);
      });
      child.once('exit', (code) => {
        const fault = new Error(`a process of the fleet ended with ${code}`);
        reject(fault);
        this.onFault(fault);
      });
    });
  }

  #arrived(key: string, at: number): void {
    const arrival = this.#awaited.get(key);
    if (arrival === undefined) return;
    arrival.left -= 1;
    arrival.last = Math.max(arrival.last, at);
    if (arrival.left > 0) return;
    this.#awaited.delete(key);
    arrival.resolve(arrival.last);
  }
}
