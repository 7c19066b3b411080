import type { Observable } from 'rxjs';
import type { SecretVersion } from '../versions/secret-version.js';

/** A version that became current. */
export interface SecretChange<T = unknown> extends SecretVersion<T> {
  /** What this handle held before; undefined for the first value. */
  readonly previousVersionId: string | undefined;
  /** True when `current` was put back to an older version on purpose. */
  readonly rolledBack: boolean;
}

/**
 * A live handle on a secret. There is one per name and application, and it stays the same object for the application's life.
 * It prints, serialises and inspects as `Secret(MyDbCreds@v7)`, never as its value.
 */
export interface Secret<T = unknown> {
  readonly name: string;
  /**
   * The latest value, synchronously, at the price of a property read. The object is frozen and the same for all readers; read it anew
   * each time instead of keeping it.
   * @throws SecretExpiredError when the version is past its TTL and no newer one came.
   */
  readonly value: T;
  readonly versionId: string;
  /** Replays the current version, then each newer one. Never errors, never repeats, never goes backwards; completes on shutdown. */
  readonly changes$: Observable<SecretChange<T>>;
  /**
   * Asks the source now. Resolves when this handle holds what the source holds.
   * @throws SecretUnavailableError when the source cannot answer; the last good value stays.
   */
  refresh(): Promise<void>;
}
