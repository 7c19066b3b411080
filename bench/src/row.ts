/** One line of a benchmark's result. */
export interface Row {
  readonly name: string;
  /** What our side took or achieved, in `unit`. */
  readonly value: number;
  /** The same of what it is held against. */
  readonly baseline: number;
  /** `value / baseline`. */
  readonly ratio: number;
  readonly unit: string;
}

/** Runs the work once and resolves to its figure. */
export type Measure = () => number | Promise<number>;

/** Both sides in turns, so that whatever else the machine does meets both alike; the median round of each counts. */
export async function compare(
  name: string,
  unit: string,
  rounds: number,
  ours: Measure,
  baseline: Measure,
): Promise<Row> {
  const figures: { ours: number[]; baseline: number[] } = { ours: [], baseline: [] };
  for (let round = 0; round < rounds; round += 1) {
    figures.ours.push(await ours());
    figures.baseline.push(await baseline());
  }
  const value = median(figures.ours);
  const against = median(figures.baseline);
  return { name, value, baseline: against, ratio: value / against, unit };
}

export function median(figures: readonly number[]): number {
  const sorted = figures.toSorted((one, other) => one - other);
  const middle = sorted.length >> 1;
  const [below = Number.NaN, above = Number.NaN] = sorted.slice(Math.max(0, middle - 1), middle + 1);
  if (sorted.length === 1) return below;
  return sorted.length % 2 === 0 ? (below + above) / 2 : above;
}
