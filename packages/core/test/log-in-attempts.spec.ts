import { describe, expect, it } from '@jest/globals';
import { CredentialChoice, LogInAttempts } from '@nestjs-secrets/core';
import { HandMadeSecret } from 'nestjs-secrets-test/hand-made-secret';

const refused = (): Error => new Error('refused');

describe('the log-ins of one caller', () => {
  it('go on where the pool came to believe again in a version that was refused', async () => {
    const secret = new HandMadeSecret('v1', { username: 'app', password: 'first' });
    secret.others = [secret.version('v2', { username: 'app', password: 'second' })];
    const choice = new CredentialChoice(secret, () => undefined);
    const attempts = new LogInAttempts();
    choice.blame('v1', refused());
    expect(attempts.note('v1')).toBe(true);
    expect(await choice.goesOn(attempts)).toBe(true);
    expect(choice.pick().versionId).toBe('v2');
    // A log-in that began before the password changed, and of which the pool hears only now, before our caller has its turn.
    choice.accept('v1');
    expect(choice.draw().versionId).toBe('v1');
    choice.blame('v1', refused());
    expect(attempts.note('v1')).toBe(true);
    expect(await choice.goesOn(attempts)).toBe(true);
    expect(choice.draw().versionId).toBe('v2');
  });

  it('end where each version was refused, and tried once more', async () => {
    const secret = new HandMadeSecret('v1', { username: 'app', password: 'first' });
    secret.others = [secret.version('v2', { username: 'app', password: 'second' })];
    const choice = new CredentialChoice(secret, () => undefined);
    const attempts = new LogInAttempts();
    const drawn: string[] = [];
    do {
      drawn.push(choice.draw().versionId);
      choice.blame(drawn.at(-1) ?? '', refused());
    } while (attempts.note(drawn.at(-1) ?? '') && (await choice.goesOn(attempts)));
    expect(drawn).toEqual(['v1', 'v2', 'v1', 'v2']);
  });

  it('end where a target that takes and refuses one version by turns would have them go on for ever', async () => {
    const secret = new HandMadeSecret('v1', { username: 'app', password: 'first' });
    secret.others = [secret.version('v2', { username: 'app', password: 'second' })];
    const choice = new CredentialChoice(secret, () => undefined);
    const attempts = new LogInAttempts();
    let refusals = 0;
    do {
      choice.accept('v1');
      choice.blame('v1', refused());
      refusals += 1;
    } while (attempts.note('v1') && (await choice.goesOn(attempts)));
    expect(refusals).toBe(22);
  });

  it('go on for as long as the secret changes faster than they get to log in', async () => {
    const secret = new HandMadeSecret('v0', { username: 'app', password: 'password 0' });
    const choice = new CredentialChoice(secret, () => undefined);
    const attempts = new LogInAttempts();
    for (let number = 1; number <= 50; number += 1) {
      const drawn = choice.draw().versionId;
      secret.publish(`v${number}`, { username: 'app', password: `password ${number}` });
      choice.startOver();
      choice.blame(drawn, refused());
      expect(attempts.note(drawn)).toBe(true);
      expect(await choice.goesOn(attempts)).toBe(true);
    }
    expect(choice.draw().versionId).toBe('v50');
  });
});
