import { hash } from 'node:crypto';

const DIGIT_BITS = 5;
/** How many ways a node of the manifest leads at most. */
export const FAN_OUT = 32;
const DIGITS = '0123456789abcdefghijklmnopqrstuv';
/** As many digits as the part of the hash that is used has. */
export const LONGEST_PATH = 32;

/** Where a group stands in the tree: its digits from the root down, as text. The path of a node is where all that stands below it begins. */
export type Position = string;

/** Who is looked for in the tree. */
export interface Look {
  readonly group: string;
  readonly position: Position;
}

export function positionOf(group: string): Position {
  const digest = hash('sha256', group, 'buffer');
  let position = '';
  let bits = 0;
  let held = 0;
  for (let at = 0; position.length < LONGEST_PATH; at += 1) {
    held = ((held << 8) | (digest[at] ?? 0)) & 0xfff;
    bits += 8;
    while (bits >= DIGIT_BITS && position.length < LONGEST_PATH) {
      bits -= DIGIT_BITS;
      position += DIGITS[(held >> bits) & (FAN_OUT - 1)] ?? '';
    }
  }
  return position;
}

/** The digit at which a position, or a path, leaves a node so deep in the tree. */
export function digitAt(position: Position, depth: number): number {
  return DIGITS.indexOf(position[depth] ?? '0');
}

/** The path below `path` at a digit. */
export function childPath(path: string, digit: number): string {
  return path + (DIGITS[digit] ?? '');
}
