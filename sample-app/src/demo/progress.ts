import type { LoadFigures } from './order-load.js';

const LINE_EVERY_MS = 2000;

export interface ProgressFigures {
  readonly name: string;
  readonly elapsedMs: number;
  readonly rotations: number;
  readonly figures: LoadFigures;
  /** Connections of the pool by the version of the secret they were opened with. */
  readonly generations: Readonly<Record<string, number>>;
}

/** How a run goes: one line that changes on a terminal, a line every few seconds elsewhere. */
export class Progress {
  private shownAt = 0;

  constructor(private readonly output: NodeJS.WriteStream) {}

  show({ name, elapsedMs, rotations, figures, generations }: ProgressFigures): void {
    if (!this.output.isTTY && elapsedMs - this.shownAt < LINE_EVERY_MS) return;
    this.shownAt = elapsedMs;
    const { all, failed } = figures;
    const seconds = elapsedMs / 1000;
    const connections = Object.entries(generations).map(([versionId, count]) => `${versionId}:${count}`);
    const line = [
      `${name.padEnd(8)} ${seconds.toFixed(0).padStart(4)} s`,
      `${rotations} rotations`,
      `${(all.count / seconds).toFixed(0)} requests/s`,
      `${failed} failed`,
      `p50 ${all.quantile(0.5).toFixed(1)} ms`,
      `p99 ${all.quantile(0.99).toFixed(1)} ms`,
      ...(connections.length > 0 ? [`connections ${connections.join(' ')}`] : []),
    ].join(' · ');
    this.output.write(this.output.isTTY ? `\r\u001B[2K${line.slice(0, this.output.columns - 1)}` : `${line}\n`);
  }

  /** Clears the line, and starts over with the next run. */
  done(): void {
    this.shownAt = 0;
    if (this.output.isTTY) this.output.write('\r\u001B[2K');
  }
}
