/** How many timers keep this process alive. Jest starts and ends some of its own when a file begins. */
export function heldTimers(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
}
