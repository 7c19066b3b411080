import { concatMap, from, type Observable } from 'rxjs';
import { type AuditEvent, outcomeOf } from './audit-event.js';
import type { RecordedEvent } from './audit-log.js';
import { BoundedMap } from './bounded-map.js';

export type AuditAnomalyKind =
  /** A principal was denied several times, with nothing allowed in between. */
  | 'denied-in-a-row'
  /** Somebody asked for a version that was retired. */
  | 'retired-version'
  /** A principal used a secret for the first time. */
  | 'new-principal'
  /** A read at a time that its window does not allow. */
  | 'outside-window';

export interface AuditAnomaly {
  readonly kind: AuditAnomalyKind;
  readonly principalId: string;
  readonly secretName: string | undefined;
  /** The event that made it one. */
  readonly sequence: number;
  readonly event: AuditEvent;
  readonly message: string;
}

export interface AnomalyOptions {
  /** So many denials in a row; 5 by default. Told at every multiple. */
  readonly deniedInARow?: number;
  /** Denials further apart than this do not belong together, in milliseconds; 300,000 by default. */
  readonly deniedWithinMs?: number;
  /** Pairs of principal and secret that are nothing new, from `whoRead` or configuration. */
  readonly known?: Iterable<readonly [principalId: string, secretName: string]>;
  /** How long after the first event new pairs are learned silently, in milliseconds; 3,600,000 by default, 0 with `known`. */
  readonly learnForMs?: number;
  /** When reads of a secret are expected; the first entry with that name counts. */
  readonly windows?: readonly { readonly secretName: string; isOpen(time: Date): boolean }[];
  /** Whether a version is retired, for those retired before the start. */
  readonly isRetired?: (secretName: string, versionId: string) => boolean;
  /** Most principals, pairs and versions remembered, of each kind; 10,000 by default. What was seen longest ago is forgotten first. */
  readonly remembered?: number;
}

/**
 * What is unusual among events (`AuditLog.events$`), as it happens, in bounded memory. Events say which version they are about in `versionId` of
 * `requestParameters` or `additionalEventData`; a `RotationReport` says which one was retired.
 */
export function auditAnomalies(
  events$: Observable<RecordedEvent>,
  options: AnomalyOptions = {},
): Observable<AuditAnomaly> {
  const watch = new AnomalyWatch(options);
  return events$.pipe(concatMap((recorded) => from(watch.see(recorded))));
}

class AnomalyWatch {
  readonly #denials: BoundedMap<string, { count: number; last: number }>;
  readonly #pairs: BoundedMap<string, true>;
  readonly #retired: BoundedMap<string, true>;
  readonly #learnForMs: number;
  #begun: number | undefined;

  constructor(private readonly options: AnomalyOptions) {
    const { remembered = 10_000, known } = options;
    this.#denials = new BoundedMap(remembered);
    this.#pairs = new BoundedMap(remembered);
    this.#retired = new BoundedMap(remembered);
    this.#learnForMs = options.learnForMs ?? (known === undefined ? 3_600_000 : 0);
    for (const [principalId, secretName] of known ?? []) this.#pairs.set(pairOf(principalId, secretName), true);
  }

  see({ sequence, event }: RecordedEvent): AuditAnomaly[] {
    const time = Date.parse(event.eventTime);
    this.#begun ??= time;
    const found = [
      this.#denied(event, time),
      this.#retiredVersion(event),
      this.#newPrincipal(event, time),
      this.#window(event, time),
    ];
    return found.flatMap((anomaly) =>
      anomaly === undefined
        ? []
        : [
            {
              ...anomaly,
              principalId: event.userIdentity.principalId,
              secretName: event.resourceName,
              sequence,
              event,
            },
          ],
    );
  }

  #denied(event: AuditEvent, time: number): Finding {
    const { principalId } = event.userIdentity;
    const outcome = outcomeOf(event);
    if (outcome === 'success') this.#denials.delete(principalId);
    if (outcome !== 'denied') return undefined;
    const { deniedInARow = 5, deniedWithinMs = 300_000 } = this.options;
    const before = this.#denials.get(principalId);
    const count = before !== undefined && time - before.last <= deniedWithinMs ? before.count + 1 : 1;
    this.#denials.set(principalId, { count, last: time });
    if (count % deniedInARow !== 0) return undefined;
    return { kind: 'denied-in-a-row', message: `${principalId} was denied ${count} times in a row` };
  }

  #retiredVersion(event: AuditEvent): Finding {
    const { resourceName } = event;
    if (resourceName === undefined) return undefined;
    if (event.eventName === 'RotationReport') {
      const gone = retiredIn(event);
      if (gone !== undefined) this.#retired.set(pairOf(resourceName, gone), true);
      return undefined;
    }
    const versionId = versionOf(event);
    if (event.eventRW !== 'Read' || versionId === undefined) return undefined;
    const version = pairOf(resourceName, versionId);
    if (this.#retired.get(version) !== true && this.options.isRetired?.(resourceName, versionId) !== true)
      return undefined;
    return {
      kind: 'retired-version',
      message: `${event.userIdentity.principalId} asked for the retired version ${versionId} of ${resourceName}`,
    };
  }

  #newPrincipal({ resourceName, userIdentity: { principalId }, errorCode }: AuditEvent, time: number): Finding {
    if (resourceName === undefined || errorCode !== undefined) return undefined;
    const pair = pairOf(principalId, resourceName);
    if (this.#pairs.get(pair) === true) return undefined;
    this.#pairs.set(pair, true);
    if (time - (this.#begun ?? time) < this.#learnForMs) return undefined;
    return { kind: 'new-principal', message: `${principalId} used ${resourceName} for the first time` };
  }

  #window(event: AuditEvent, time: number): Finding {
    if (event.eventRW !== 'Read') return undefined;
    const window = this.options.windows?.find(({ secretName }) => secretName === event.resourceName);
    if (window === undefined || window.isOpen(new Date(time))) return undefined;
    return {
      kind: 'outside-window',
      message: `${event.userIdentity.principalId} read ${window.secretName} outside its window`,
    };
  }
}

type Finding = Pick<AuditAnomaly, 'kind' | 'message'> | undefined;

function versionOf({ requestParameters, additionalEventData }: AuditEvent): string | undefined {
  const versionId = requestParameters?.['versionId'] ?? additionalEventData?.['versionId'];
  return typeof versionId === 'string' ? versionId : undefined;
}

/** The version that was retired in a rotation which has come to its end. */
function retiredIn({ additionalEventData }: AuditEvent): string | undefined {
  const { outcome, previousVersionId } = additionalEventData ?? {};
  const isGone = outcome === 'retired' || outcome === 'rolled-back' || outcome === 'revoked';
  return isGone && typeof previousVersionId === 'string' ? previousVersionId : undefined;
}

function pairOf(one: string, other: string): string {
  return JSON.stringify([one, other]);
}
