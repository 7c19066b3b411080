import { openSync, readFileSync, writeSync } from 'node:fs';
import type { RotationEvent } from '@nestjs-secrets/core';

/** What a process did, line by line. */
export interface FailedQuery {
  readonly kind: string;
  /** Milliseconds since the epoch. */
  readonly begunAt: number;
  readonly endedAt: number;
  readonly reason: string;
}

export interface ProcessHistory {
  /** How many queries succeeded, by their kind. */
  readonly succeeded: ReadonlyMap<string, number>;
  readonly failed: readonly FailedQuery[];
  /** When this process was about to change the target, having asserted that the rotation is its own; milliseconds since the epoch. */
  readonly acts: readonly number[];
  readonly instanceId: string | undefined;
  readonly events: readonly RotationEvent[];
}

/** The diary of one process: each line is with the system before the next thing happens, so that SIGKILL loses none. */
export class ProcessLog {
  readonly #file: number;

  constructor(path: string) {
    this.#file = openSync(path, 'a');
  }

  instance(id: string): void {
    this.#line('i', id);
  }

  query(kind: string, begunAt: number, endedAt: number, reason = ''): void {
    this.#line('q', kind, begunAt, endedAt, reason.replaceAll(/\s+/g, ' '));
  }

  act(at: number): void {
    this.#line('a', at);
  }

  event(event: RotationEvent): void {
    this.#line('e', JSON.stringify(event));
  }

  #line(...words: readonly (string | number)[]): void {
    writeSync(this.#file, `${words.join('\t')}\n`);
  }
}

/** What the log of a process says, up to its last whole line. */
export function readProcessLog(path: string): ProcessHistory {
  const succeeded = new Map<string, number>();
  const failed: FailedQuery[] = [];
  const acts: number[] = [];
  const events: RotationEvent[] = [];
  let instanceId: string | undefined;
  for (const line of readFileSync(path, 'utf8').split('\n').slice(0, -1)) {
    const [what, ...words] = line.split('\t');
    const [first = '', second = '', third = '', reason = ''] = words;
    if (what === 'i') instanceId = first;
    else if (what === 'a') acts.push(Number(first));
    else if (what === 'e') events.push(JSON.parse(words.join('\t')));
    else if (reason === '') succeeded.set(first, (succeeded.get(first) ?? 0) + 1);
    else failed.push({ kind: first, begunAt: Number(second), endedAt: Number(third), reason });
  }
  return { succeeded, failed, acts, instanceId, events };
}
