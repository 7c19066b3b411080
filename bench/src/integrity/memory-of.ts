import { setImmediate as nextTurn } from 'node:timers/promises';
import { promisify } from 'node:util';

/** What one runtime takes is little against what else goes on in a process. */
const AT_ONCE = 8;
/** Memory that changed by less than this between two collections is at rest. */
const REST_BYTES = 256;
const COLLECTIONS = 50;

const pause = promisify(setTimeout);

/**
 * KB of memory that what `start` gives takes while it is open: objects on the heap, and the Buffers outside of it. Several are open at once, and each counts for its part.
 * Needs `node --expose-gc`.
 */
export async function memoryOf(start: () => Promise<{ close(): Promise<void> }>): Promise<number> {
  const before = await memoryAtRest();
  const open: { close(): Promise<void> }[] = [];
  for (let count = 0; count < AT_ONCE; count += 1) open.push(await start());
  const used = (await memoryAtRest()) - before;
  for (const one of open) await one.close();
  return used / AT_ONCE / 1024;
}

async function memoryAtRest(): Promise<number> {
  const { gc } = globalThis;
  if (gc === undefined) throw new Error('Memory is measured between collections: run node with --expose-gc.');
  let last = Number.POSITIVE_INFINITY;
  for (let count = 0; count < COLLECTIONS; count += 1) {
    // What is let go of by timers and finalizers takes a few turns.
    await pause(5);
    await nextTurn();
    gc();
    const { heapUsed, external } = process.memoryUsage();
    const now = heapUsed + external;
    if (count > 3 && Math.abs(now - last) < REST_BYTES) return now;
    last = now;
  }
  return last;
}
