import { afterEach, describe, expect, it } from '@jest/globals';
import type {
  AuditEvent,
  CreateContext,
  PendingContext,
  RenewContext,
  RetireContext,
  SecretRotator,
} from '@nestjs-secrets/core';
import { denying, type DoorsWorld, type DoorsWorldOptions, startDoors } from './support/doors-world.js';
import type { Login } from './support/world.js';

const MINUTE = 60_000;

let world: DoorsWorld;
afterEach(() => world.stop());

async function start(options: DoorsWorldOptions): Promise<DoorsWorld> {
  world = await startDoors(options);
  await world.clock.advance(0);
  return world;
}

const named = (events: readonly AuditEvent[], name: string): AuditEvent[] =>
  events.filter(({ eventName }) => eventName === name);

describe('the credential of an instance', () => {
  class LeaseRotator implements SecretRotator<Login> {
    readonly name = 'lease';
    readonly strategy = 'lease';
    readonly renewals: string[] = [];
    create = ({ randomPassword }: CreateContext<Login>): Login => ({ username: 'leased', password: randomPassword() });
    apply = (_context: PendingContext<Login>): void => undefined;
    verify = (_context: PendingContext<Login>): void => undefined;
    renew = ({ current }: RenewContext<Login>): void => void this.renewals.push(current.versionId);
    retire = (_context: RetireContext<Login>) => ({ refused: true, sessionsEnded: 1, sessionsLeft: 0 });
  }
  const wanted = { name: 'Leased', initial: undefined, rotation: { rotator: 'lease', lease: MINUTE } } as const;

  it('is decided as the secret it stands for, renewed with an event, and revoked with a report', async () => {
    const rotator = new LeaseRotator();
    await start({ rotators: [rotator] });
    await world.manager.ensureSecret(wanted);
    const secret = await world.secret('Leased');
    await world.clock.advance(MINUTE);
    const events = world.news();
    const lease = `Leased@${world.runtime.own?.instance.id}`;
    expect(named(events, 'DeliverSecretVersion')).toMatchObject([
      { resourceName: 'Leased', requestParameters: { lease } },
    ]);
    expect(named(events, 'RenewLease').length).toBeGreaterThan(1);
    expect(named(events, 'RenewLease')[0]).toMatchObject({
      resourceName: lease,
      userIdentity: { principalId: 'rotator/lease' },
    });
    expect(rotator.renewals[0]).toBe(secret.versionId);
    await world.stop();
    expect(named(world.sink.events, 'RotationReport').at(-1)).toMatchObject({
      resourceName: lease,
      additionalEventData: { outcome: 'revoked', sessionsEnded: 1 },
    });
    world = await startDoors();
  });

  it('is not renewed where its rotator may not, by a policy on the secret it stands for', async () => {
    const rotator = new LeaseRotator();
    await start({ rotators: [rotator], statements: [denying('RenewLease', { Resource: 'secret/Leased' })] });
    await world.manager.ensureSecret(wanted);
    await world.secret('Leased');
    await world.clock.advance(MINUTE);
    expect(rotator.renewals).toEqual([]);
    expect(named(world.news(), 'RenewLease')[0]).toMatchObject({ errorCode: 'AccessDenied' });
  });

  it('is read under the policies of the secret it stands for', async () => {
    await start({
      rotators: [new LeaseRotator()],
      statements: [
        denying('GetSecretValue', {
          Resource: 'secret/Leased',
          Condition: { StringEquals: { 'secrets:Operation': 'getSecretValue' } },
        }),
      ],
    });
    await world.manager.ensureSecret(wanted);
    await world.secret('Leased');
    const lease = `Leased@${world.runtime.own?.instance.id}`;
    await expect(world.manager.getSecretValue(lease)).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
  });
});
