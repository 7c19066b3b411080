/** Collects durations in milliseconds. */
export interface Latencies {
  add(durationMs: number): void;
  readonly count: number;
  /** The duration that a share of all (0–1) does not exceed; 0 when there is none. */
  quantile(share: number): number;
}

export function createLatencies(): Latencies {
  const durations: number[] = [];
  let isSorted = true;
  return {
    add(durationMs) {
      durations.push(durationMs);
      isSorted = false;
    },
    get count() {
      return durations.length;
    },
    quantile(share) {
      if (!isSorted) durations.sort((one, other) => one - other);
      isSorted = true;
      return durations[Math.min(durations.length - 1, Math.ceil(share * durations.length) - 1)] ?? 0;
    },
  };
}
