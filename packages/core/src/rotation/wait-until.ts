import { type Cancel, type Clock, hold } from '../foundation/clock.js';

/** Registers a function to be called when the answer may have changed. */
export type Trigger = (wake: () => void) => Cancel;

/**
 * Resolves when `condition` holds, asked again after each trigger, or when `signal` is aborted. Nothing is polled. With a clock that `holds`, the process lasts as long as the
 * wait: for what somebody has called and awaits, which is a program's last work as often as not.
 */
export async function waitUntil(
  condition: () => Promise<boolean>,
  triggers: readonly Trigger[],
  signal: AbortSignal,
  holds?: Clock,
): Promise<void> {
  while (!signal.aborted) {
    let wake: () => void = () => undefined;
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    // Listening begins before the look, so that a change in between is not missed.
    const ends = triggers.map((trigger) => trigger(wake));
    signal.addEventListener('abort', wake, { once: true });
    try {
      if (await condition()) return;
      await (holds === undefined ? woken : hold(holds, woken));
    } finally {
      for (const end of ends) end();
      signal.removeEventListener('abort', wake);
    }
  }
}
