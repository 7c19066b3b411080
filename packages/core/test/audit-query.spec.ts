import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  type AuditAnomaly,
  auditAnomalies,
  type AuditEventInput,
  auditEvents,
  auditFiles,
  auditFolder,
  type AuditLog,
  auditStore,
  type Clock,
  memoryStore,
  queryAudit,
  type RecordedEvent,
  systemClock,
  UseCounts,
  whoRead,
} from '@nestjs-secrets/core';
import { Subject } from 'rxjs';
import { AuditWorld, MoodySink, ORIGIN, read } from './support/audit-world.js';

const START = Date.UTC(2026, 10, 25, 8);
const HOUR = 3_600_000;

/** A clock that is set by hand, with real timers. */
class HandClock implements Clock {
  time = START;
  now = (): number => this.time;
  monotonic = (): number => this.time;
  after = systemClock.after.bind(systemClock);
}

const by = (principalId: string, instanceId = 'i-1'): Partial<AuditEventInput> => ({
  userIdentity: { type: 'application', principalId, instanceId },
});
const denied = { errorCode: 'AccessDenied', errorMessage: 'no' };

let world: AuditWorld;
let clock: HandClock;
beforeEach(async () => {
  world = await AuditWorld.create();
  clock = new HandClock();
});
afterEach(() => world.remove());

describe.each(['files', 'store'] as const)('queries over %s', (kind) => {
  async function openLog(): Promise<{ log: AuditLog; reader: NonNullable<AuditLog['reader']> }> {
    const store = memoryStore();
    await store.open();
    const sink =
      kind === 'files'
        ? auditFiles({ folder: world.folder, maxFileBytes: 20_000 })
        : auditStore({ store, origin: ORIGIN });
    const log = await world.open({ sinks: [{ sink, mode: 'required' }], clock, checkpoints: undefined });
    return { log, reader: sink.reader };
  }

  it('page newest first, to the last event, without missing or repeating one', async () => {
    const { log, reader } = await openLog();
    for (let round = 0; round < 12; round += 1) {
      await Promise.all(
        Array.from({ length: 100 }, (_, index) =>
          log.record(read(index % 3 === 0 ? 'Db' : 'Smtp', by(`app/${index % 5}`))),
        ),
      );
    }
    const found: number[] = [];
    let cursor: string | undefined;
    do {
      const page = await queryAudit(reader, { secret: 'Db', limit: 37, ...(cursor && { cursor }) });
      found.push(...page.events.map(({ sequence }) => sequence));
      cursor = page.cursor;
    } while (cursor !== undefined);
    const all = Array.from({ length: 1200 }, (_, index) => index + 1).filter(
      (sequence) => ((sequence - 1) % 100) % 3 === 0,
    );
    expect(found).toEqual(all.toReversed());
    const one = await queryAudit(reader, { secret: 'Smtp', principal: 'app/2', limit: 1 });
    expect(one.events[0]?.event).toMatchObject({ resourceName: 'Smtp', userIdentity: { principalId: 'app/2' } });
  });

  it('answer who read a secret since a time in one call', async () => {
    const { log, reader } = await openLog();
    await log.record(read('MyDbCreds', by('app/early')));
    clock.time += 24 * HOUR;
    const yesterday = clock.time;
    await log.record(read('MyDbCreds', by('app/orders', 'i-1')));
    clock.time += HOUR;
    await log.record(read('MyDbCreds', by('app/orders', 'i-2')));
    await log.record(read('MyDbCreds', { ...by('app/nosy'), ...denied }));
    await log.record(read('Other', by('app/else')));
    await log.record({ ...read('MyDbCreds', by('app/writer')), eventName: 'PutSecretValue', eventRW: 'Write' });
    expect(await whoRead(reader, 'MyDbCreds', yesterday)).toEqual([
      { principalId: 'app/nosy', instanceIds: ['i-1'], reads: 0, denied: 1, first: clock.time, last: clock.time },
      {
        principalId: 'app/orders',
        instanceIds: ['i-2', 'i-1'],
        reads: 2,
        denied: 0,
        first: yesterday,
        last: clock.time,
      },
    ]);
  });

  it('filter by action, outcome and time', async () => {
    const { log, reader } = await openLog();
    for (const hour of [0, 1, 2, 3]) {
      clock.time = START + hour * HOUR;
      await log.record(read('Db', hour % 2 === 0 ? {} : denied));
      await log.record({ ...read('Db'), eventName: 'DescribeSecret' });
    }
    const sequences = async (query: Parameters<typeof queryAudit>[1]): Promise<number[]> =>
      (await queryAudit(reader, query)).events.map(({ sequence }) => sequence);
    expect(await sequences({ actions: ['GetSecretValue'] })).toEqual([7, 5, 3, 1]);
    expect(await sequences({ outcome: 'denied' })).toEqual([7, 3]);
    expect(await sequences({ outcome: 'success', since: START + HOUR, until: START + 3 * HOUR })).toEqual([6, 5, 4]);
    expect(await sequences({ secret: 'D' })).toEqual([]);
    await expect(queryAudit(reader, { limit: 0 })).rejects.toMatchObject({ code: 'AUDIT_OPTIONS_INVALID' });
    await expect(queryAudit(reader, { cursor: 'x' })).rejects.toMatchObject({ code: 'AUDIT_OPTIONS_INVALID' });
  });

  it('see the failure of a change also when it is on the page before', async () => {
    const { log, reader } = await openLog();
    const eventId = log.nextEventId();
    await log.record({ ...read('Db'), eventId, eventRW: 'Write', additionalEventData: { recorded: 'before' } });
    await log.record(read('Between'));
    await log.record({ ...read('Db'), errorCode: 'STORE_UNAVAILABLE', additionalEventData: { failureOf: eventId } });
    const first = await queryAudit(reader, { limit: 1 });
    const second = await queryAudit(reader, { limit: 2, cursor: first.cursor ?? '' });
    expect(second.events.map(({ sequence, outcome }) => [sequence, outcome])).toEqual([
      [2, 'success'],
      [1, 'failure'],
    ]);
  });
});

describe('anomalies', () => {
  let sequence = 0;
  const see = (subject: Subject<RecordedEvent>, input: AuditEventInput, time = START): void => {
    sequence += 1;
    const event = {
      eventId: `e-${sequence}`,
      eventTime: new Date(time).toISOString(),
      eventSource: 's',
      eventType: 'ApiCall' as const,
    };
    const userIdentity = input.userIdentity ?? { type: 'application', principalId: 'app' };
    subject.next({ sequence, event: { ...event, ...input, userIdentity } });
  };

  function watch(options: Parameters<typeof auditAnomalies>[1]): {
    subject: Subject<RecordedEvent>;
    found: AuditAnomaly[];
  } {
    const subject = new Subject<RecordedEvent>();
    const found: AuditAnomaly[] = [];
    auditAnomalies(subject, options).subscribe((anomaly) => found.push(anomaly));
    return { subject, found };
  }

  it('are denials in a row', () => {
    const { subject, found } = watch({ deniedInARow: 3 });
    const ask = (more: object, time?: number): void => see(subject, read('Db', { ...by('app/nosy'), ...more }), time);
    for (let time = 0; time < 2; time += 1) ask(denied);
    ask({});
    for (let time = 0; time < 2; time += 1) ask(denied);
    ask(denied, START + HOUR);
    expect(found).toEqual([]);
    for (let time = 0; time < 2; time += 1) ask(denied, START + HOUR);
    expect(found).toMatchObject([
      {
        kind: 'denied-in-a-row',
        principalId: 'app/nosy',
        secretName: 'Db',
        message: 'app/nosy was denied 3 times in a row',
      },
    ]);
  });

  it('are reads of a retired version', () => {
    const { subject, found } = watch({ isRetired: (name, versionId) => name === 'Old' && versionId === 'v0' });
    const ask = (name: string, versionId: string): void =>
      see(subject, read(name, { requestParameters: { versionId } }));
    ask('Db', 'v1');
    see(subject, {
      ...read('Db', { additionalEventData: { outcome: 'retired', currentVersionId: 'v2', previousVersionId: 'v1' } }),
      eventName: 'RotationReport',
      eventRW: 'Write',
    });
    ask('Db', 'v2');
    ask('Db', 'v1');
    ask('Old', 'v0');
    expect(found.map(({ kind, secretName }) => [kind, secretName])).toEqual([
      ['retired-version', 'Db'],
      ['retired-version', 'Old'],
    ]);
  });

  it('are principals who never used a secret, after a time of learning', () => {
    const { subject, found } = watch({ learnForMs: HOUR });
    see(subject, read('Db', by('app/a')));
    see(subject, read('Db', by('app/b')), START + HOUR);
    see(subject, read('Db', by('app/b')), START + HOUR);
    see(subject, read('Db', by('app/a')), START + HOUR);
    expect(found).toMatchObject([{ kind: 'new-principal', principalId: 'app/b', secretName: 'Db' }]);
    const told = watch({ known: [['app/a', 'Db']] });
    see(told.subject, read('Db', by('app/a')));
    see(told.subject, read('Smtp', by('app/a')));
    expect(told.found).toMatchObject([{ kind: 'new-principal', secretName: 'Smtp' }]);
  });

  it('are reads outside their window, and nothing is remembered beyond the bound', () => {
    const window = { secretName: 'Payroll', isOpen: (time: Date) => time.getUTCHours() >= 9 };
    const { subject, found } = watch({ windows: [window], known: [], remembered: 10 });
    see(subject, read('Payroll', by('p-0')));
    expect(found.filter(({ kind }) => kind === 'outside-window')).toHaveLength(1);
    for (let index = 1; index <= 10; index += 1) see(subject, read('Payroll', by(`p-${index}`)), START + HOUR);
    see(subject, read('Payroll', by('p-10')), START + HOUR);
    see(subject, read('Payroll', by('p-0')), START + HOUR);
    const fresh = found.filter(({ kind }) => kind === 'new-principal').map(({ principalId }) => principalId);
    expect(fresh).toEqual([...Array.from({ length: 11 }, (_, index) => `p-${index}`), 'p-0']);
  });
});

describe('uses of live handles', () => {
  const identity = { type: 'application', principalId: 'app/orders', instanceId: 'i-1' };

  it('are an event a delivery, and their number at intervals', async () => {
    const log = await world.open({ clock });
    const counts = new UseCounts({ log, clock, identity });
    const old = await counts.deliver('Db', 'v1');
    for (let use = 0; use < 1000; use += 1) old.uses += 1;
    const current = await counts.deliver('Db', 'v2');
    current.uses += 7;
    clock.time += HOUR;
    await counts.flush();
    await counts.flush();
    current.uses += 1;
    await counts.close();
    const found: unknown[] = [];
    for await (const { event } of auditEvents(auditFolder(world.folder), { secret: 'Db' })) {
      found.unshift([event.eventName, event.requestParameters?.['versionId'], event.additionalEventData?.['uses']]);
    }
    expect(found).toEqual([
      ['DeliverSecretVersion', 'v1', undefined],
      ['DeliverSecretVersion', 'v2', undefined],
      ['UseSecretVersion', 'v1', 1000],
      ['UseSecretVersion', 'v2', 7],
      ['UseSecretVersion', 'v2', 1],
    ]);
  });

  it('are kept while they cannot be recorded; a delivery that cannot be does not happen', async () => {
    const sink = new MoodySink();
    const log = await world.open({ sinks: [{ sink, mode: 'required' }], timeLimitMs: 30 });
    const counts = new UseCounts({ log, clock: systemClock, identity });
    const counter = await counts.deliver('Db', 'v1');
    counter.uses += 5;
    sink.mood = 'failing';
    await counts.flush();
    await expect(counts.deliver('Db', 'v2')).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE' });
    expect(counter.uses).toBe(5);
  });
});
