import { SecretHandles } from '../client/secret-handles.js';
import type { SecretHandle } from '../client/secret-handle.js';
import { systemClock } from '../foundation/clock.js';
import { SecretsError } from '../foundation/errors.js';
import { randomIds } from '../foundation/ids.js';
import { LogCensor } from '../foundation/log-censor.js';
import { cryptoRandomness } from '../foundation/randomness.js';
import type { WantedSecret } from '../manager/requests.js';
import type { ScheduleTimers } from '../rotation/rotation-scheduler.js';
import { Rotators } from '../rotation/rotators.js';
import { SecretDefinitions, type SecretDefinition } from '../versions/secret-definition.js';
import { type ManagerRuntime, startManager } from './manager-runtime.js';
import type { Notice } from './notices.js';
import type { SecretsModuleOptions } from './secrets-options.js';

/** What Nest injected for a definition. */
export type ResolvedDefinition = Pick<WantedSecret, 'initial' | 'rotation'>;

/** Everything behind one `SecretsModule.forRoot`, put together from its options. */
export class SecretsRuntime {
  #hasStarted = false;
  readonly #ensured = new Map<string, Promise<void>>();
  readonly #announced = new Map<string, { resolve: (done: Promise<void>) => void; done: Promise<void> }>();

  private constructor(
    readonly options: SecretsModuleOptions,
    readonly definitions: SecretDefinitions,
    readonly rotators: Rotators,
    readonly handles: SecretHandles,
    readonly censor: LogCensor,
    /** Undefined when secrets come from a foreign source. */
    readonly own: ManagerRuntime | undefined,
  ) {}

  /**
   * Opens store, keys, audit log and policies, and wires the layers. `tell` is told what an operator should know.
   * @throws SecretsError `MODULE_OPTIONS_INVALID`; what `store.open()` and `keys.open()` throw
   */
  static async start(
    options: SecretsModuleOptions,
    timers: ScheduleTimers,
    tell: (notice: Notice) => void = () => undefined,
  ): Promise<SecretsRuntime> {
    const { clock = systemClock, randomness = cryptoRandomness, ids = randomIds } = options;
    // Of its own randomness, so that the sequence of a seeded one does not depend on it.
    const { censor = new LogCensor() } = options;
    const definitions = new SecretDefinitions();
    const rotators = new Rotators(censor);
    for (const rotator of options.rotators ?? []) rotators.add(rotator.name, rotator);
    const own =
      options.source === undefined
        ? await startManager(options, { clock, randomness, ids, definitions, rotators, timers, tell })
        : undefined;
    const source = options.source ?? own?.source;
    if (source === undefined) throw new SecretsError('MODULE_OPTIONS_INVALID', 'There is no source of secrets.');
    const { bootTimeoutMs = 10_000, refreshIntervalMs = 60_000 } = options;
    const parts = { source, definitions, clock, randomness, censor };
    const handles = new SecretHandles({ ...parts, bootTimeoutMs, refreshIntervalMs });
    return new SecretsRuntime(options, definitions, rotators, handles, censor, own);
  }

  /**
   * Says that a provider will call `ensure` for this definition, so that whoever opens the secret by its name waits for it.
   * @throws SecretDefinedTwiceError
   */
  announce(definition: SecretDefinition): void {
    this.definitions.add(definition);
    if (this.#announced.has(definition.name)) return;
    let resolve: (done: Promise<void>) => void = () => undefined;
    const done = new Promise<void>((settle) => {
      resolve = settle;
    });
    // Whoever waits sees a failure; when nobody does, the caller of `ensure` has.
    done.catch(() => undefined);
    this.#announced.set(definition.name, { resolve, done });
  }

  /** Makes sure, once, that a defined secret is there. */
  ensure(definition: SecretDefinition, { initial, rotation }: ResolvedDefinition): Promise<void> {
    this.announce(definition);
    let ensured = this.#ensured.get(definition.name);
    if (ensured === undefined) {
      ensured = this.own?.manager.ensureSecret({ ...definition, initial, rotation }) ?? Promise.resolve();
      this.#ensured.set(definition.name, ensured);
      this.#announced.get(definition.name)?.resolve(ensured);
    }
    return ensured;
  }

  /** The handle of a secret, once what defines it has made sure that it is there. */
  async open(name: string): Promise<SecretHandle> {
    await this.#announced.get(name)?.done;
    await this.own?.engine.leases.open(name);
    return this.handles.open(name);
  }

  /**
   * Stops everything when the application cannot start: nobody will call its shutdown hooks, and an instance that goes on with its heartbeats would
   * keep others from what it has under way.
   */
  async giveUpStart(): Promise<void> {
    if (this.#hasStarted) return;
    await this.stopRotating();
    await this.close();
  }

  /** Goes on with what an earlier process left, and starts the schedule. */
  async startRotating(): Promise<void> {
    this.#hasStarted = true;
    await this.own?.keys.start(this.options.rotate !== false);
    if (this.own === undefined || this.options.rotate === false) return;
    await this.own.engine.resume();
    await this.own.scheduler.start();
    await this.own.lifecycle.start();
  }

  /** Stops rotating; handles still serve. What is unfinished goes on after the next start. */
  async stopRotating(): Promise<void> {
    this.own?.scheduler.stop();
    await this.own?.engine.stop();
    await this.own?.lifecycle.stop();
    await this.own?.keys.stop();
  }

  /** Completes the handles, takes this instance off the list, and closes audit log, store and keys. */
  async close(): Promise<void> {
    this.handles.close();
    await this.own?.close();
  }
}
