/** Durations in milliseconds. */
export class Latencies {
  private readonly durations: number[] = [];

  add(durationMs: number): void {
    this.durations.push(durationMs);
  }

  get count(): number {
    return this.durations.length;
  }

  /** The duration that a share of all (0–1] does not exceed; 0 when there is none. */
  quantile(share: number): number {
    // In place: what was sorted before is then a run that the next sort only merges.
    this.durations.sort((one, other) => one - other);
    return this.durations[Math.max(0, Math.ceil(share * this.count) - 1)] ?? 0;
  }
}
