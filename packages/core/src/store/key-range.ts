/** Keys from `from` (included) and after `after`, up to `until` (excluded), in order; at most `limit`. */
export interface KeyRange {
  readonly from: string;
  readonly after: string;
  readonly until: string;
  readonly limit: number;
}

/** The first string after all that begin with `prefix`: keys end below the character that follows `~`. */
export function endOfPrefix(prefix: string): string {
  if (prefix === '') return '\u007f';
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}
