import { Test } from '@nestjs/testing';
import {
  defineSecret,
  ephemeralKeys,
  getSecretToken,
  memoryStore,
  type NamedRotator,
  type Secret,
  SecretsModule,
} from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';

const counting: NamedRotator = {
  name: 'counting',
  create: ({ current }) => Number(current?.value ?? 0) + 1,
  apply: () => undefined,
  verify: () => undefined,
  retire: () => undefined,
};

const counter = defineSecret<number>('Counter', undefined, {
  initial: 'rotator',
  rotation: { rotator: 'counting', schedule: { every: '30d' } },
});

/** Half a year of rotations in a moment. */
export async function main(): Promise<number[]> {
  const clock = new SimulatedClock();
  const app = await Test.createTestingModule({
    imports: [
      SecretsModule.forRoot({
        store: memoryStore(),
        keys: ephemeralKeys(),
        rotators: [counting],
        refreshIntervalMs: 0, // hints are enough here, and a look each minute would be many in half a year
        instance: { leaseMs: 86_400_000 }, // nor would heartbeats every few seconds
        policies: { refreshIntervalMs: 86_400_000, maxStalenessMs: 10 * 86_400_000 }, // nor a look at the policies every half minute
        clock,
      }),
      SecretsModule.forFeature([counter]),
    ],
  }).compile();
  await app.init(); // the schedule starts with the application
  const seen: number[] = [];
  const secret = app.get<Secret<number>>(getSecretToken(counter), { strict: false });
  secret.changes$.subscribe(({ value }) => seen.push(value));

  for (let month = 0; month < 6; month += 1) await clock.advance(30 * 86_400_000);
  await app.close();
  return seen;
}
