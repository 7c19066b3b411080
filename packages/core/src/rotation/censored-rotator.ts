import type { LogCensor } from '../foundation/log-censor.js';
import type { SecretRotator } from './secret-rotator.js';

const STEPS: ReadonlySet<PropertyKey> = new Set(['create', 'apply', 'verify', 'retire', 'undo', 'renew']);

/** A rotator whose steps may log what they like: while one is at work, the values it was given and the passwords it drew are censored. */
export function censoredRotator(rotator: SecretRotator, censor: LogCensor): SecretRotator {
  return new Proxy(rotator, {
    get(target, key) {
      const member: unknown = Reflect.get(target, key, target);
      if (typeof member !== 'function') return member;
      // By way of the rotator itself, since its private fields are out of reach of a proxy.
      const call = (...args: unknown[]): unknown => Reflect.apply(member, target, args);
      if (key === 'rehearsal') return () => censoredRotator(call() as SecretRotator, censor);
      return STEPS.has(key) ? (context: object) => censoredStep(context, call, censor) : call;
    },
  });
}

async function censoredStep(context: object, step: (context: object) => unknown, censor: LogCensor): Promise<unknown> {
  const releases = [censor.hold(['current', 'pending', 'retiring'].map((stage) => valueAt(context, stage)))];
  const drawn: unknown = Reflect.get(context, 'randomPassword');
  const told = { ...context };
  if (typeof drawn === 'function') {
    Reflect.set(told, 'randomPassword', (...args: unknown[]): unknown => {
      const password: unknown = Reflect.apply(drawn, context, args);
      releases.push(censor.hold(password));
      return password;
    });
  }
  try {
    return await step(told);
  } finally {
    for (const release of releases) release();
  }
}

function valueAt(context: object, stage: string): unknown {
  const version: unknown = Reflect.get(context, stage);
  return typeof version === 'object' && version !== null ? Reflect.get(version, 'value') : undefined;
}
