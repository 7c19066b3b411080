export const BLOT = '[redacted]';

/** From where to where, the end not included. */
export type Span = readonly [start: number, end: number];

/** The text with the spans blotted out; those that overlap as a whole. */
export function blotOut(text: string, spans: readonly Span[]): string {
  const sorted = [...spans].sort(([one], [other]) => one - other);
  let blotted = '';
  let done = 0;
  for (const [start, end] of sorted) {
    // A span that begins inside the one before it extends the same blot.
    if (start >= done) blotted += text.slice(done, start) + BLOT;
    done = Math.max(done, end);
  }
  return blotted + text.slice(done);
}
