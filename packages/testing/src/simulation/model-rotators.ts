import type {
  CreateContext,
  NamedRotator,
  PendingContext,
  RetireContext,
  RetireReport,
  RotationContext,
  RotationStrategy,
} from '@nestjs-secrets/core';
import type { SimulatedProcess } from './simulated-process.js';
import { type Credentials, type Session, type SimulatedTarget, TargetError } from './simulated-target.js';

/** What a statement of a rotator is about. */
export interface RotatorStatement {
  readonly kind: 'teach' | 'retire' | 'undo';
  readonly secretName: string;
  /** The version whose credential is taught or made invalid. */
  readonly versionId: string;
  readonly credentials: Credentials;
  /** The tenure its process believed to have when it sent the statement. */
  readonly tenure: number;
}

/** What the model rotators ask of the world they work in. */
export interface RotatorWorld {
  /** A credential nobody has had. Called in `create`. */
  newPassword(username: string): string;
  /** Told the version of a credential as soon as a step sees it. */
  bind(versionId: string, credentials: Credentials): void;
  /** The tenure a process believes to have on a secret, 0 for none. */
  tenureOf(process: SimulatedProcess, secretName: string): number;
  /** In the moment a statement takes effect. */
  onStatement(process: SimulatedProcess, statement: RotatorStatement): void;
  /** Whether this step fails for a reason of its own. */
  failsAt(step: 'create' | 'apply' | 'verify' | 'retire' | 'undo'): boolean;
  /** False for the mutation check. */
  readonly assertsHolder: boolean;
  /** True for the mutation check: the target learns a value before it is stored. */
  readonly appliesEarly: boolean;
}

export interface ModelRotatorOptions {
  readonly strategy: Exclude<RotationStrategy, 'lease'>;
  /** How many roles take turns, for alternating users. */
  readonly roles: number;
}

const SINGLE_ROLE = 'app';

/** A rotator that goes about its steps as the real ones do: `assertHolder` before each change, notes before effects, proof at the end. */
export function modelRotator(
  options: ModelRotatorOptions,
  process: SimulatedProcess,
  target: SimulatedTarget,
  world: RotatorWorld,
): NamedRotator {
  return new ModelRotator(options, process, target, world);
}

class ModelRotator {
  readonly name = 'model';
  readonly strategy: ModelRotatorOptions['strategy'];
  readonly identities: (() => readonly string[]) | undefined;

  constructor(
    options: ModelRotatorOptions,
    private readonly process: SimulatedProcess,
    private readonly target: SimulatedTarget,
    private readonly world: RotatorWorld,
  ) {
    this.strategy = options.strategy;
    const ring = Array.from({ length: options.roles }, (_, index) => `app_${index + 1}`);
    this.identities = options.strategy === 'alternating-users' ? () => ring : undefined;
  }

  identityOf(value: Credentials): string {
    return value.username;
  }

  create({ current, busyIdentities }: CreateContext<Credentials>): Credentials {
    this.#mayFail('create');
    const ring = this.identities?.();
    const username = ring === undefined ? SINGLE_ROLE : ring.find((role) => !busyIdentities.has(role));
    if (username === undefined || (ring !== undefined && username === current?.value.username))
      throw new Error('no identity is free');
    const value = { username, password: this.world.newPassword(username) };
    if (this.world.appliesEarly) this.#teach(value);
    return value;
  }

  async apply(context: PendingContext<Credentials>): Promise<void> {
    this.#see(context, context.pending);
    this.#mayFail('apply');
    if (this.strategy !== 'single-user') {
      await this.#change(context, 'teach', context.pending, () =>
        this.#teach(context.pending.value, context.current?.value),
      );
      return;
    }
    const readClock = (): Promise<number> => this.target.run(this.process, 'clock', () => this.target.tick());
    if (context.notes['alteredAfter'] !== undefined && (await this.#logsIn(context.pending.value))) {
      if (context.notes['alteredAt'] === undefined) await context.record({ alteredAt: await readClock() });
      return;
    }
    await context.record({ alteredAfter: await readClock() });
    const alteredAt = await this.#change(context, 'teach', context.pending, () => this.#teach(context.pending.value));
    await context.record({ alteredAt });
  }

  async verify(context: PendingContext<Credentials>): Promise<void> {
    this.#see(context, context.pending);
    this.#mayFail('verify');
    const session = await this.target.logIn(this.process, context.pending.value);
    try {
      await this.target.query(session);
    } finally {
      this.target.close(session);
    }
  }

  async retire(context: RetireContext<Credentials>): Promise<RetireReport> {
    this.#see(context, context.retiring);
    this.#mayFail('retire');
    return this.#putToRest(context, context.retiring, context.current.value, 'retire');
  }

  async undo(context: PendingContext<Credentials>): Promise<void> {
    this.#see(context, context.pending);
    this.#mayFail('undo');
    const { pending, current } = context;
    if (this.strategy !== 'single-user') {
      await this.#putToRest(context, pending, current?.value, 'undo');
      return;
    }
    if (context.notes['alteredAfter'] === undefined) return;
    if (current === undefined) {
      await this.#change(context, 'undo', pending, () =>
        this.target.setRole(SINGLE_ROLE, { passwords: [], mayLogIn: false, isPermitted: true }),
      );
    } else if (!(await this.#logsIn(current.value))) {
      await this.#change(context, 'undo', pending, () => this.#teach(current.value));
    }
    // Sessions opened with the pending value belong to consumers, which drain them themselves.
    if (await this.#logsIn(pending.value)) throw new Error('the pending credential is still accepted');
  }

  async #putToRest(
    context: RotationContext<Credentials>,
    old: { readonly versionId: string; readonly value: Credentials },
    current: Credentials | undefined,
    kind: 'retire' | 'undo',
  ): Promise<RetireReport> {
    const { username, password } = old.value;
    if (this.strategy === 'alternating-users') {
      if (username === current?.username) throw new Error('the role belongs to the current version');
      await this.#change(context, kind, old, () =>
        this.target.setRole(username, { passwords: [], mayLogIn: false, isPermitted: true }),
      );
    } else if (this.strategy === 'dual-password') {
      if (password === current?.password) throw new Error('the password belongs to the current version');
      await this.#change(context, kind, old, () => {
        const passwords = (this.target.role(username)?.passwords ?? []).filter((other) => other !== password);
        this.target.setRole(username, { passwords, mayLogIn: true, isPermitted: true });
      });
    }
    const sessions = this.#sessionsOf(old.value, context);
    let sessionsEnded = await this.#change(context, kind, old, () => this.target.endSessions(sessions));
    if (await this.#logsIn(old.value)) throw new Error('the old credential is still accepted');
    sessionsEnded += await this.#change(context, kind, old, () => this.target.endSessions(sessions));
    return { refused: true, sessionsEnded, sessionsLeft: 0 };
  }

  /** The sessions of an old credential, as far as the server can tell them. */
  #sessionsOf(old: Credentials, { notes }: RotationContext<Credentials>): (session: Session) => boolean {
    if (this.strategy === 'alternating-users') return ({ username }) => username === old.username;
    if (this.strategy === 'dual-password') return isOf(old);
    const alteredAt = notes['alteredAt'] ?? notes['alteredAfter'];
    return ({ beganAt }) => typeof alteredAt === 'number' && beganAt < alteredAt;
  }

  /** What `apply` makes the server do. Returns the server's time. */
  #teach({ username, password }: Credentials, beside?: Credentials): number {
    const kept = this.strategy === 'dual-password' && beside !== undefined ? [beside.password] : [];
    this.target.setRole(username, { passwords: [...kept, password], mayLogIn: true, isPermitted: true });
    return this.target.tick();
  }

  async #logsIn(credentials: Credentials): Promise<boolean> {
    try {
      this.target.close(await this.target.logIn(this.process, credentials));
      return true;
    } catch (error) {
      if (error instanceof TargetError && error.code === 'refused') return false;
      throw error;
    }
  }

  /** One statement that changes the target. */
  #change<R>(
    context: RotationContext<Credentials>,
    kind: RotatorStatement['kind'],
    { versionId, value }: { readonly versionId: string; readonly value: Credentials },
    effect: () => R,
  ): Promise<R> {
    const { secretName } = context;
    if (this.world.assertsHolder) context.assertHolder();
    const tenure = this.world.tenureOf(this.process, secretName);
    return this.target.run(this.process, kind, () => {
      this.world.onStatement(this.process, { kind, secretName, versionId, credentials: value, tenure });
      return effect();
    });
  }

  #see(
    { current }: RotationContext<Credentials>,
    other: { readonly versionId: string; readonly value: Credentials },
  ): void {
    if (current !== undefined) this.world.bind(current.versionId, current.value);
    this.world.bind(other.versionId, other.value);
  }

  #mayFail(step: 'create' | 'apply' | 'verify' | 'retire' | 'undo'): void {
    if (this.world.failsAt(step)) throw new Error(`made to fail in ${step}`);
  }
}

function isOf({ username, password }: Credentials): (session: Session) => boolean {
  return (session) => session.username === username && session.password === password;
}
