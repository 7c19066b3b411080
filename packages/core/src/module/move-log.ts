import type { Logger } from '@nestjs/common';
import type { MoveEvent } from '../store/move-events.js';

/** Writes what happens to a move between stores to Nest's logger: its steps at `log`, what did not work at `warn`. */
export function logMoveEvent(logger: Logger, event: MoveEvent): void {
  if (event.type === 'copying') logger.log('The store is being moved: it is copied while work goes on');
  else if (event.type === 'copied')
    logger.log(`Move of the store, pass ${event.pass}: ${event.changed} of ${event.entries} entries were to be copied`);
  else if (event.type === 'frozen') logger.log('The store is frozen for the last part of its move: commits wait');
  else if (event.type === 'thawed') logger.warn('The store takes commits again, and is not moved yet');
  else if (event.type === 'switched') logger.log('This process works on the new store from now on');
  else if (event.type === 'given-up') logger.warn('The move of the store was given up: the old one stays');
  else if (event.type === 'failed') logger.warn(`The store was not moved (${event.code}): ${event.message}`);
  else
    logger.log(
      `The store was moved: ${event.entries} entries, the same on both sides; commits waited for ${Math.round(event.frozenMs)} ms`,
    );
}
