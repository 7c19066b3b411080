import { secretResource } from '../access/access-request.js';
import type { Acknowledgement, Acknowledgements } from '../fleet/acknowledgements.js';
import { pause, type Cancel, type Clock } from '../foundation/clock.js';
import { isSecretsError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import type { Caller } from './caller.js';
import type { Asked, Door } from './door.js';

export interface AcknowledgementDoorParts {
  readonly door: Door;
  readonly caller: Caller;
  readonly acknowledgements: Pick<Acknowledgements, 'acknowledge'>;
  readonly clock: Clock;
  readonly randomness: Randomness;
}

/** The word on one secret that is on its way. */
interface Word {
  latest: Acknowledgement;
  /** The promotion that was recorded last. */
  recorded: number;
  isAsking: boolean;
  /** Asks again, in case policies have changed. */
  retry?: Cancel;
}

const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 5_000;
const DENIED_RETRY_MS = 60_000;

/**
 * The door of acknowledgements: that this instance has come to a promotion is decided and recorded once; what its consumers still hold then is said without
 * further ado. A word that cannot be recorded waits, which keeps an old credential alive for longer and does no other harm.
 */
export class AcknowledgementDoor {
  readonly #words = new Map<string, Word>();
  readonly #closing = new AbortController();

  constructor(private readonly parts: AcknowledgementDoorParts) {}

  /** `secretName` is what policies are about; the word may be on the instance's own credential of it. */
  acknowledge(secretName: string, acknowledgement: Acknowledgement): void {
    const word = this.#words.get(secretName) ?? { latest: acknowledgement, recorded: -1, isAsking: false };
    this.#words.set(secretName, word);
    word.latest = acknowledgement;
    if (word.isAsking) return;
    if (acknowledgement.promotion === word.recorded) this.parts.acknowledgements.acknowledge(acknowledgement);
    else void this.#ask(secretName, word);
  }

  /** Lets go of words that still wait. */
  close(): void {
    this.#closing.abort();
    for (const { retry } of this.#words.values()) retry?.();
  }

  async #ask(secretName: string, word: Word): Promise<void> {
    const { door, caller, acknowledgements, clock, randomness } = this.parts;
    const { signal } = this.#closing;
    word.isAsking = true;
    for (let attempt = 0; !signal.aborted && word.latest.promotion !== word.recorded;) {
      const { promotion } = word.latest;
      try {
        let said = word.latest;
        await door.write(caller, askedOf(secretName, said), async () => {
          said = word.latest;
          acknowledgements.acknowledge(said);
        });
        word.recorded = promotion;
        attempt = 0;
        // What consumers let go of meanwhile.
        if (word.latest !== said && word.latest.promotion === promotion) acknowledgements.acknowledge(word.latest);
      } catch (error) {
        if (isSecretsError(error, 'ACCESS_DENIED') && word.latest.promotion === promotion) {
          word.retry?.();
          word.retry = clock.after(DENIED_RETRY_MS, () => this.acknowledge(secretName, word.latest));
          break;
        }
        const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt);
        attempt = Math.min(attempt + 1, 10);
        await pause(clock, 1 + randomness.below(longest), signal);
      }
    }
    word.isAsking = false;
  }
}

function askedOf(secretName: string, { promotion, versionId, secretName: ownName }: Acknowledgement): Asked {
  return {
    operation: 'acknowledgeVersion',
    resource: secretResource(secretName),
    facts: { versionId },
    parameters: { promotion, versionId, lease: ownName === secretName ? undefined : ownName },
  };
}
