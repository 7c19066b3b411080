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
    const sorted = this.durations.toSorted((one, other) => one - other);
    return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
  }
}
