import { createHmac } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  type AuditEventInput,
  auditedRead,
  auditedWrite,
  auditFiles,
  auditFolder,
  auditLogger,
  AuditLog,
  auditOpenTelemetry,
  auditStore,
  memoryStore,
  queryAudit,
  SecretNotFoundError,
  verifyAudit,
} from '@nestjs-secrets/core';
import { eventually } from '../../../test/support/eventually.js';
import { AuditWorld, failureOf, KEY, MoodySink, ORIGIN, read, SIGNER } from './support/audit-world.js';

let world: AuditWorld;
beforeEach(async () => {
  world = await AuditWorld.create();
});
afterEach(() => world.remove());

const recordMany = (log: AuditLog, count: number): Promise<unknown> =>
  Promise.all(Array.from({ length: count }, (_, index) => log.record(read(`Secret${index}`))));

describe('the chain', () => {
  it('is intact over many callers, files, restarts and checkpoints, and nothing in it is for others to read', async () => {
    for (let start = 0; start < 3; start += 1) {
      const log = await world.open({ maxFileBytes: 8000 });
      for (let round = 0; round < 4; round += 1) await recordMany(log, 25);
      await log.close();
    }
    const files = await world.files();
    expect(files.length).toBeGreaterThan(5);
    expect(await world.verify()).toMatchObject({
      verdict: 'intact',
      first: undefined,
      findings: [],
      records: 300,
      files: files.length,
      range: { first: 1, last: 300 },
      coveredThrough: 300,
    });
    expect((await stat(world.folder)).mode & 0o777).toBe(0o700);
    for (const file of files) expect((await stat(join(world.folder, file))).mode & 0o777).toBe(0o600);
    expect((await stat(world.beside)).mode & 0o777).toBe(0o600);
  });

  it('can be computed by anyone who has the key', async () => {
    const log = await world.open();
    await log.record(read('A', { eventId: 'e-1', eventTime: '2026-11-25T00:00:00.000Z' }));
    await log.close();
    const [header = '', record = ''] = (await readFile(join(world.folder, 'audit-00000001.jsonl'), 'utf8')).split('\n');
    const hmac = (key: Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();
    const key = hmac(KEY, `nestjs-secrets audit v1\n${ORIGIN}`);
    const sealed = JSON.parse(record);
    expect(sealed.prev).toBe(hmac(key, 'genesis').toString('hex'));
    expect(JSON.parse(header).prev).toBe(sealed.prev);
    for (const line of [header, record]) {
      expect(JSON.parse(line).key).toBe(hmac(key, 'key id').toString('hex').slice(0, 8));
      expect(JSON.parse(line).mac).toBe(hmac(key, line.replace(/,"mac":"\w{64}"}$/, '}')).toString('hex'));
    }
    expect(record.slice(record.indexOf('"event":'), -74)).toBe(
      '"event":{"eventId":"e-1","eventName":"GetSecretValue","eventRW":"Read","eventSource":"nestjs-secrets","eventTime":"2026-11-25T00:00:00.000Z",' +
        '"eventType":"ApiCall","requestParameters":{"stage":"current"},"resourceName":"A","resourceType":"Secret",' +
        '"userIdentity":{"instanceId":"instance-1","principalId":"app/orders","type":"application"}}',
    );
  });

  it('shares one write among callers of one moment', async () => {
    const sink = new MoodySink();
    const log = await world.open({ sinks: [{ sink, mode: 'required' }] });
    await recordMany(log, 500);
    expect(sink.records.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 500 }, (_, index) => index + 1));
    expect(sink.calls).toBeLessThan(5);
  });

  it('goes on under a new key, and is then verified with both', async () => {
    const before = await world.open();
    await recordMany(before, 3);
    await before.close();
    const key = Buffer.alloc(32, 8);
    const after = await world.open({ key, previousKeys: [KEY] });
    await recordMany(after, 3);
    await after.close();
    expect(await world.verify({ keys: [key, KEY] })).toMatchObject({ verdict: 'intact', records: 6 });
    expect(await world.verify()).toMatchObject({ verdict: 'tampered', first: { kind: 'key-changed', sequence: 4 } });
    await expect(world.open({ key })).rejects.toMatchObject({ code: 'AUDIT_LOG_DAMAGED' });
  });
});

describe('events', () => {
  const refused: [string, Partial<AuditEventInput>][] = [
    ['bytes', { requestParameters: { blob: Buffer.from('canary') as never } }],
    ['a member named like a value', { requestParameters: { nested: { secretValue: 'canary' } } }],
    ['a function', { additionalEventData: { canary: (() => 1) as never } }],
    ['a number that JSON has not', { additionalEventData: { canary: Number.NaN } }],
    ['depth without end', { additionalEventData: circular() }],
    ['more than fits', { additionalEventData: { canary: 'canary'.repeat(20_000) } }],
    ['no name', { eventName: '' }],
    ['no principal', { userIdentity: { type: 'application' } as never }],
  ];

  it.each(refused)('with %s are refused, and say nothing of what it was', async (_what, more) => {
    const log = await world.open();
    const error = await failureOf(log.record(read('A', more)));
    expect(error.code).toBe('AUDIT_EVENT_INVALID');
    expect(error.message).not.toContain('canarycanary');
    await log.record(read('B'));
    expect(await world.records()).toHaveLength(1);
  });

  it('are cut where strangers decide how long they are', async () => {
    const log = await world.open();
    await log.record(read('A', { userAgent: 'x'.repeat(500_000) }));
    expect((await world.records())[0]?.event['userAgent']).toBe(`${'x'.repeat(1024)}…`);
  });

  it('keep every kind of text as it is', async () => {
    const log = await world.open();
    const texts = ['"', '\\', '\n', '\u0000', '\u2028', 'ä€😀', '\ud800', '__proto__', ',"mac":"'];
    const additionalEventData = { texts, ['__proto__x']: 1, z: { b: 1, a: [true, null, 1.5e300, -0] } };
    await log.record(read('A', { additionalEventData }));
    const [record] = await world.records();
    expect(record?.event['additionalEventData']).toEqual({
      ...additionalEventData,
      z: { b: 1, a: [true, null, 1.5e300, 0] },
    });
    expect(await world.verify({ checkpoints: undefined })).toMatchObject({ verdict: 'intact' });
  });
});

function circular(): Record<string, never> {
  const loop: Record<string, unknown> = {};
  loop['loop'] = loop;
  return loop as Record<string, never>;
}

describe('I8: what is not recorded does not happen', () => {
  it('withholds what was read when the event is not taken', async () => {
    const sink = new MoodySink();
    const log = await world.open({ sinks: [{ sink, mode: 'required' }], timeLimitMs: 30 });
    expect(
      await auditedRead(
        log,
        read('A'),
        async () => 'value',
        () => ({ requestParameters: { versionId: 'v1' } }),
      ),
    ).toBe('value');
    expect(sink.records[0]?.line).toContain('"versionId":"v1"');
    sink.mood = 'failing';
    await expect(auditedRead(log, read('A'), async () => 'value')).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE' });
  });

  it('records a denied or failed read once, as what it was', async () => {
    const log = await world.open();
    const failing = async (): Promise<never> => {
      throw new SecretNotFoundError('A');
    };
    await expect(auditedRead(log, read('A'), failing)).rejects.toMatchObject({ code: 'SECRET_NOT_FOUND' });
    const foreign = async (): Promise<never> => {
      throw new TypeError('canary-in-a-message');
    };
    await expect(auditedRead(log, read('A'), foreign)).rejects.toThrow('canary');
    const events = (await world.records()).map(({ event }) => event);
    expect(events.map(({ errorCode }) => errorCode)).toEqual(['SECRET_NOT_FOUND', 'InternalError']);
    expect(JSON.stringify(events)).not.toContain('canary');
  });

  it('records a change before it happens, once; and a second time only when it failed', async () => {
    const log = await world.open();
    const seen: number[] = [];
    await auditedWrite(log, read('A', { eventRW: 'Write' }), async () => seen.push(log.sequence));
    expect(seen).toEqual([1]);
    expect(log.sequence).toBe(1);
    const failing = async (): Promise<never> => {
      throw new SecretNotFoundError('B');
    };
    await expect(auditedWrite(log, read('B', { eventRW: 'Write' }), failing)).rejects.toMatchObject({
      code: 'SECRET_NOT_FOUND',
    });
    const [, intent, failure] = await world.records();
    expect(intent?.event).toMatchObject({ additionalEventData: { recorded: 'before' } });
    expect(failure?.event).toMatchObject({
      errorCode: 'SECRET_NOT_FOUND',
      additionalEventData: { failureOf: intent?.event.eventId },
    });
    const { events } = await queryAudit(auditFolder(world.folder));
    expect(events.map(({ outcome }) => outcome)).toEqual(['failure', 'failure', 'success']);
  });

  it('does not begin a change that cannot be recorded', async () => {
    const sink = new MoodySink();
    sink.mood = 'hanging';
    const log = await world.open({ sinks: [{ sink, mode: 'required' }], timeLimitMs: 30 });
    let began = false;
    const work = auditedWrite(log, read('A', { eventRW: 'Write' }), async () => (began = true));
    const error = await failureOf(work);
    expect(error).toMatchObject({ code: 'AUDIT_UNAVAILABLE', sink: 'the moody sink' });
    expect(error.message).toContain('it did not happen: the moody sink');
    expect(began).toBe(false);
  });

  it.each(['failing', 'hanging'] as const)(
    'recovers from a %s sink by itself, without a gap, and says whom it turned away',
    async (mood) => {
      const sink = new MoodySink();
      const log = await world.open({
        sinks: [
          { sink, mode: 'required' },
          { sink: auditFiles({ folder: world.folder }), mode: 'required' },
        ],
        timeLimitMs: 1000,
      });
      await log.record(read('A'));
      sink.mood = mood;
      const refusedEvents = await Promise.all(
        ['e-1', 'e-2'].map(async (eventId) => (await failureOf(log.record(read('B', { eventId })))).code),
      );
      expect(refusedEvents).toEqual(['AUDIT_UNAVAILABLE', 'AUDIT_UNAVAILABLE']);
      await eventually('it is known to be down', () => log.health()[0]?.status === 'failing');
      await eventually(
        'it tells at once',
        async () => (await failureOf(log.record(read('C')))).code === 'AUDIT_UNAVAILABLE',
      );
      expect(log.health()).toMatchObject([
        { status: 'failing', behind: 2 },
        { status: 'up', behind: 0 },
      ]);
      sink.mood = 'well';
      await eventually('it is well again', () => log.health()[0]?.status === 'up');
      await log.record(read('D'));
      expect(sink.records.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4, 5]);
      const outage = JSON.parse(sink.records[3]?.event ?? '');
      expect(outage).toMatchObject({
        eventName: 'AuditOutage',
        additionalEventData: { refusedEventIds: ['e-1', 'e-2'] },
      });
      expect(outage.additionalEventData.refusedUnrecorded).toBeGreaterThan(0);
      expect((await world.records()).map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5]);
      expect(world.warnings.join()).not.toContain('canary');
      const { events } = await queryAudit(auditFolder(world.folder), { secret: 'B' });
      expect(events.map(({ outcome }) => outcome)).toEqual(['failure', 'failure']);
    },
  );

  it('keeps the limit also for whoever waits behind what the log itself has to say', async () => {
    const sink = new MoodySink();
    const append = sink.append.bind(sink);
    sink.append = async (records) => {
      await append(records);
      // The next thing it is asked to take is what the log has to say of the outage.
      sink.mood = 'hanging';
    };
    const log = await world.open({ sinks: [{ sink, mode: 'required' }], timeLimitMs: 300 });
    sink.mood = 'failing';
    await failureOf(log.record(read('A')));
    sink.mood = 'well';
    await eventually('it hangs', () => sink.mood === 'hanging');
    expect((await failureOf(log.record(read('B')))).code).toBe('AUDIT_UNAVAILABLE');
  });

  it('is not held up by a best-effort sink, which gets what it missed once it is well', async () => {
    const sink = new MoodySink();
    sink.mood = 'hanging';
    const log = await world.open({
      sinks: [
        { sink, mode: 'best-effort' },
        { sink: auditFiles({ folder: world.folder }), mode: 'required' },
      ],
      timeLimitMs: 1000,
    });
    for (let count = 0; count < 20; count += 1) await recordMany(log, 50);
    expect(sink.records).toEqual([]);
    sink.mood = 'well';
    await eventually('it has all of them', () => sink.records.length === 1000);
    expect(sink.records.map(({ sequence }) => sequence)).toEqual(Array.from({ length: 1000 }, (_, index) => index + 1));
  });

  it('refuses when closed, and without a required sink does not begin', async () => {
    const log = await world.open();
    await log.close();
    expect((await failureOf(log.record(read('A')))).code).toBe('AUDIT_UNAVAILABLE');
    const options = { origin: ORIGIN, key: KEY, sinks: [{ sink: new MoodySink(), mode: 'best-effort' as const }] };
    expect(() => new AuditLog(options)).toThrow('required sink');
  });
});

describe('sinks', () => {
  it('a store holds a log of its own that verifies, resumes and is brought up to date from files', async () => {
    const store = memoryStore();
    await store.open();
    const withFiles = { sink: auditFiles({ folder: world.folder }), mode: 'required' as const };
    const first = await world.open({ sinks: [withFiles] });
    await recordMany(first, 700);
    await first.close();
    const second = await world.open({
      sinks: [
        { sink: auditFiles({ folder: world.folder }), mode: 'required' },
        { sink: auditStore({ store, origin: ORIGIN }), mode: 'required' },
      ],
    });
    await recordMany(second, 450);
    await second.close();
    const sink = auditStore({ store, origin: ORIGIN });
    expect(await world.verify({ log: sink.reader })).toMatchObject({
      verdict: 'intact',
      records: 1150,
      coveredThrough: 1150,
    });
    const third = await world.open({ sinks: [{ sink, mode: 'required' }] });
    await third.record(read('Last'));
    await third.close();
    const page = await queryAudit(sink.reader, { limit: 3 });
    expect(page.events.map(({ sequence }) => sequence)).toEqual([1151, 1150, 1149]);
    const all = await queryAudit(sink.reader, { limit: 1000, cursor: page.cursor ?? '' });
    expect(all.events.map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: 1000 }, (_, index) => 1148 - index),
    );
  });

  it('a store is written by one log only', async () => {
    const store = memoryStore();
    await store.open();
    const open = (): Promise<AuditLog> =>
      world.open({
        sinks: [{ sink: auditStore({ store, origin: ORIGIN }), mode: 'required' }],
        checkpoints: undefined,
        timeLimitMs: 40,
      });
    const [one, other] = [await open(), await open()];
    await one.record(read('A'));
    const error = await failureOf(other.record(read('B')));
    expect(error.code).toBe('AUDIT_UNAVAILABLE');
    expect(error.message).toContain('another process');
    await one.record(read('C'));
  });

  it('a store whose answer got lost is not written twice', async () => {
    const store = memoryStore();
    await store.open();
    let losing = true;
    const lossy: typeof store = Object.assign(Object.create(store), {
      name: 'lossy',
      get: (key: string) => store.get(key),
      list: (options: never) => store.list(options),
      async commit(commit: never) {
        const revision = await store.commit(commit);
        if (!losing) return revision;
        losing = false;
        throw new Error('the answer got lost');
      },
    });
    const sink = auditStore({ store: lossy, origin: ORIGIN });
    const log = await world.open({ sinks: [{ sink, mode: 'required' }] });
    await recordMany(log, 150);
    await log.close();
    expect(await world.verify({ log: sink.reader })).toMatchObject({ verdict: 'intact', records: 150 });
  });

  it('loggers and OpenTelemetry get each event once, in order', async () => {
    const lines: string[] = [];
    const objects: [object, string][] = [];
    const emitted: Record<string, unknown>[] = [];
    const log = await world.open({
      sinks: [
        { sink: auditLogger({ log: (line) => lines.push(line) }), mode: 'required' },
        { sink: auditLogger({ info: (...entry) => objects.push(entry) }), mode: 'required' },
        { sink: auditOpenTelemetry({ emit: (entry) => emitted.push(entry) }), mode: 'required' },
      ],
    });
    await log.record(read('A'));
    await log.record(read('B', { errorCode: 'AccessDenied', errorMessage: 'no' }));
    expect(lines.map((line) => JSON.parse(line).seq)).toEqual([1, 2]);
    expect(objects).toMatchObject([
      [{ sequence: 1, audit: { resourceName: 'A' } }, 'audit: GetSecretValue'],
      [{ sequence: 2 }, 'audit: GetSecretValue'],
    ]);
    expect(emitted).toMatchObject([
      {
        eventName: 'GetSecretValue',
        severityText: 'INFO',
        attributes: { 'audit.principal': 'app/orders', 'audit.resource_name': 'A' },
      },
      { severityText: 'WARN', attributes: { 'error.type': 'AccessDenied' } },
    ]);
  });

  it('tells what it records to whoever subscribes', async () => {
    const log = await world.open();
    const seen: number[] = [];
    const done = new Promise<void>((resolve) => {
      log.events$.subscribe({ next: ({ sequence }) => seen.push(sequence), complete: resolve });
    });
    await recordMany(log, 3);
    await log.close();
    await done;
    expect(seen).toEqual([1, 2, 3]);
  });
});

describe('checkpoints', () => {
  it('come after so many events, after a time, and at the end; and places that missed some get them', async () => {
    const notes: string[] = [];
    let isReachable = false;
    const place = {
      name: 'the place far away',
      put: async (checkpoint: { note: string }) => {
        if (!isReachable) throw new Error('not reachable');
        notes.push(checkpoint.note);
      },
    };
    const log = await world.open({
      checkpoints: { signer: SIGNER, places: [place, ...world.places()], everyEvents: 10, everyMs: 20 },
    });
    for (let count = 0; count < 25; count += 1) await log.record(read('A'));
    isReachable = true;
    await eventually('the timed one is there', () => notes.some((note) => note.includes('\n25\n')));
    await log.record(read('A'));
    await log.close();
    const sizes = notes.map((note) => Number(note.split('\n')[1]));
    expect(sizes.at(-1)).toBe(26);
    expect(notes.map((note) => note.split('\n')[3])).toEqual(notes.map((_, index) => `number ${index + 1}`));
    expect(await world.verify()).toMatchObject({ verdict: 'intact', coveredThrough: 26 });
  });

  it('made while a log is verified do not make it look cut short', async () => {
    const log = await world.open({ checkpoints: { signer: SIGNER, places: world.places(), everyEvents: 1 } });
    await recordMany(log, 5);
    await log.checkpoint();
    const reader = auditFolder(world.folder);
    const busy = {
      ...reader,
      async *lines() {
        yield* reader.lines();
        await recordMany(log, 5);
        await log.checkpoint();
      },
    };
    expect(await world.verify({ log: busy })).toMatchObject({ verdict: 'intact', records: 5, coveredThrough: 5 });
    expect(await world.verify()).toMatchObject({ verdict: 'intact', records: 10, coveredThrough: 10 });
  });

  it('carry the lines of their owner, and prove the log to somebody without its key', async () => {
    const log = await world.open({
      checkpoints: { signer: SIGNER, places: world.places(), extensions: () => ['manifest 1234'] },
    });
    await recordMany(log, 7);
    await log.close();
    const note = await readFile(world.elsewhere, 'utf8');
    expect(note.split('\n').slice(0, 2)).toEqual([ORIGIN, '7']);
    expect(note).toContain('\nmanifest 1234\n\n— ');
    const log2 = auditFolder(world.folder);
    const checkpoints = { verifierKeys: [SIGNER.verifierKey], places: world.places() };
    expect(await verifyAudit({ origin: ORIGIN, log: log2, checkpoints })).toMatchObject({
      verdict: 'intact',
      coveredThrough: 7,
    });
    const file = join(world.folder, 'audit-00000001.jsonl');
    await writeFile(file, (await readFile(file, 'utf8')).replace('Secret2', 'Secret9'));
    expect(await verifyAudit({ origin: ORIGIN, log: log2, checkpoints })).toMatchObject({
      verdict: 'tampered',
      first: { kind: 'checkpoint-mismatch', sequence: 1, through: 7 },
    });
  });
});
