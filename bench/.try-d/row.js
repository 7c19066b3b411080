/** Both sides in turns, so that whatever else the machine does meets both alike; the median round of each counts. */
export async function compare(name, unit, rounds, ours, baseline) {
    const figures = { ours: [], baseline: [] };
    for (let round = 0; round < rounds; round += 1) {
        figures.ours.push(await ours());
        figures.baseline.push(await baseline());
    }
    const value = median(figures.ours);
    const against = median(figures.baseline);
    return { name, value, baseline: against, ratio: value / against, unit };
}
export function median(figures) {
    const sorted = figures.toSorted((one, other) => one - other);
    const middle = sorted.length >> 1;
    const [below = Number.NaN, above = Number.NaN] = sorted.slice(Math.max(0, middle - 1), middle + 1);
    if (sorted.length === 1)
        return below;
    return sorted.length % 2 === 0 ? (below + above) / 2 : above;
}
