import type { SeededRandom } from './seeded-random.js';

/** How badly the way to a service behaves. Each is a probability for one call, 0–1. */
export interface FaultRates {
  /** The call takes its time on the way there, so that others overtake it. */
  readonly slow: number;
  /** The call never arrives: nothing happens, and the caller learns so after a time-out. */
  readonly lost: number;
  /** The call takes effect, but its answer never arrives. */
  readonly answerLost: number;
  /** Of hints: never told, and told twice. */
  readonly hintLost: number;
  readonly hintDoubled: number;
}

export const NO_FAULTS: FaultRates = { slow: 0, lost: 0, answerLost: 0, hintLost: 0, hintDoubled: 0 };

/** What becomes of one call. */
export interface Fate {
  /** How long until it takes effect; undefined when it never does. 0 is at once. */
  readonly thereMs: number | undefined;
  /** How long its answer takes from there; undefined when it never arrives. */
  readonly backMs: number | undefined;
}

export interface Latency {
  /** The usual round trip, in milliseconds. */
  readonly usualMs: number;
  /** The longest time a slow call takes to arrive. */
  readonly slowestMs: number;
}

export function drawFate(random: SeededRandom, faults: FaultRates, { usualMs, slowestMs }: Latency): Fate {
  const backMs = random.between(usualMs / 2, usualMs * 1.5);
  const draw = random.between(0, 1);
  if (draw < faults.lost) return { thereMs: undefined, backMs };
  if (draw < faults.lost + faults.answerLost) return { thereMs: 0, backMs: undefined };
  if (draw < faults.lost + faults.answerLost + faults.slow) {
    // Mostly somewhat late, sometimes as late as can be.
    const share = random.between(0, 1);
    return { thereMs: slowestMs * share * share, backMs };
  }
  // One event less than with a way there; slow calls see to it that every order comes up.
  return { thereMs: 0, backMs };
}
