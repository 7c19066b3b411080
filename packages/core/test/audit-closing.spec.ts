import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { AuditWorld, failureOf, MoodySink, read } from './support/audit-world.js';

let world: AuditWorld;
beforeEach(async () => {
  world = await AuditWorld.create();
});
afterEach(() => world.remove());

describe('an audit log that closes', () => {
  it('seals nothing for a sink that answers only then: there is nobody left to take it', async () => {
    const sink = new MoodySink();
    const clock = new SimulatedClock();
    const log = await world.open({ clock, sinks: [{ sink, mode: 'required' }] });
    sink.mood = 'late';
    const refused = failureOf(log.record(read('A')));
    await sink.nextCall();
    const closed = log.close();
    await clock.advance(60_000);
    expect((await refused).code).toBe('AUDIT_UNAVAILABLE');
    await closed;
    await new Promise(setImmediate);
    expect(sink.records.map(({ event }) => JSON.parse(event).resourceName)).toEqual(['A']);
  });
});
