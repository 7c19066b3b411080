import { SecretsError } from '../foundation/errors.js';

/** `STORE_MOVED`: the truth is, or is about to be, in another store, and this one was opened without knowing of it. Nothing was read or written. */
export class StoreMovedError extends SecretsError {
  constructor(storeName: string, message: string) {
    super('STORE_MOVED', `The store ${storeName} ${message}`);
  }
}

/**
 * `STORE_MOVE_REFUSED`: the move was not begun, or not ended, since something has to be done first. `STORE_MOVE_BUSY`: another process carries it out.
 * `STORE_MOVE_FAILED`: it did not come to its end; the old store is the truth as before, and `move()` goes on where it was.
 */
export class StoreMoveError extends SecretsError {
  constructor(code: 'STORE_MOVE_REFUSED' | 'STORE_MOVE_BUSY' | 'STORE_MOVE_FAILED', message: string, cause?: unknown) {
    super(code, message, { cause });
  }
}
