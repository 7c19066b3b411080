/** The period of the timer that `hold` keeps the process alive with. */
const HOLD_MS = 2_147_483_647;

const held = new Set<unknown>();
const { setInterval: begin, clearInterval: end } = globalThis;

// Counting what keeps the process alive would count Jest's own timers, too. Each test file has globals of its own.
globalThis.setInterval = (task: () => void, everyMs?: number) => {
  const timer = begin(task, everyMs);
  if (everyMs === HOLD_MS) held.add(timer);
  return timer;
};
globalThis.clearInterval = (timer) => {
  held.delete(timer);
  end(timer);
};

/** How many waits keep this process alive. */
export function heldTimers(): number {
  return held.size;
}
