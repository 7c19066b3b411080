import { versionAt } from '../versions/secret-record.js';
import { type EngineContext, loadVersion } from './engine-context.js';
import type { Tenure } from './rotation-tenure.js';
import { type Trigger, waitUntil } from './wait-until.js';

/** Which identities of a rotator are taken, and when one is free. */
export class FreeIdentity {
  constructor(
    private readonly context: EngineContext,
    private readonly retirements: (secretName: string) => Trigger,
  ) {}

  /** The identities of the current version and of all that are not retired. */
  async busy(secretName: string, rotatorName: string): Promise<Set<string>> {
    const { rotators, versions, journal } = this.context;
    const rotator = rotators.get(rotatorName, secretName);
    if (rotator.identityOf === undefined) return new Set();
    const [record, state] = [await versions.get(secretName), await journal.read(secretName)];
    const current = versionAt(record, 'current');
    const versionIds = [
      ...(current === undefined ? [] : [current.id]),
      ...state.obligations.map(({ versionId }) => versionId),
    ];
    const loaded = await Promise.all(versionIds.map((versionId) => loadVersion(this.context, secretName, versionId)));
    return new Set(loaded.map(({ value }) => rotator.identityOf?.(value) ?? ''));
  }

  /** Waits until an identity is free, where the rotator's identities take turns. Returns those that are not. */
  async wait(tenure: Tenure, rotationId: string, rotatorName: string): Promise<ReadonlySet<string>> {
    const { rotators, clock, events, journal, consumers } = this.context;
    const { secretName } = tenure;
    const identities = rotators.get(rotatorName, secretName).identities?.();
    let busy = await this.busy(secretName, rotatorName);
    const isFree = (): boolean => identities === undefined || identities.some((identity) => !busy.has(identity));
    if (isFree()) return busy;
    const { obligations } = await journal.read(secretName);
    const holders: string[] = [];
    for (const { versionId, promotion } of obligations)
      holders.push(...(await consumers.using(secretName, [versionId], promotion)).holders);
    events.next({ type: 'waiting', secretName, rotationId, at: clock.now(), holders: [...new Set(holders)] });
    const look = async (): Promise<boolean> => {
      busy = await this.busy(secretName, rotatorName);
      return isFree();
    };
    await waitUntil(look, [this.retirements(secretName)], tenure.signal, clock);
    return busy;
  }
}
