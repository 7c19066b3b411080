import type { EventQueue } from './event-queue.js';
import { drawFate, type FaultRates, type Latency } from './fault-rates.js';
import type { SeededRandom } from './seeded-random.js';
import type { SimulatedProcess } from './simulated-process.js';

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

/** A user of the target. */
export interface Role {
  readonly passwords: readonly string[];
  readonly mayLogIn: boolean;
  /** False when it logs in but may not do what the application does. */
  readonly isPermitted: boolean;
}

export class TargetError extends Error {
  constructor(readonly code: 'refused' | 'denied' | 'killed' | 'unreachable') {
    super(`The target: ${code}.`);
  }
}

/** A session as the server has it; it outlives a change of the password, until it is ended. */
export interface Session extends Credentials {
  readonly id: number;
  readonly process: SimulatedProcess;
  /** The server's clock when it began: grows with everything the server does. */
  readonly beganAt: number;
  isOpen: boolean;
  /** Called in its process when somebody else ended it. */
  onKilled: (() => void) | undefined;
}

export interface TargetObserver {
  loggedIn(process: SimulatedProcess, credentials: Credentials, accepted: boolean): void;
  killed(session: Session): void;
  changed(): void;
}

export interface SimulatedTargetOptions {
  readonly queue: EventQueue;
  readonly random: SeededRandom;
  readonly latency: Latency;
  readonly timeoutMs: number;
  readonly observer: TargetObserver;
}

/** A database server: users, passwords, sessions, and a network before it that loses and delays statements and answers. */
export class SimulatedTarget {
  faults: FaultRates;
  isDown = false;
  readonly #roles = new Map<string, Role>();
  readonly #sessions = new Set<Session>();
  #clock = 0;

  constructor(
    private readonly options: SimulatedTargetOptions,
    faults: FaultRates,
  ) {
    this.faults = faults;
  }

  /** Reads the server's clock. */
  tick(): number {
    return (this.#clock += 1);
  }

  accepts({ username, password }: Credentials): boolean {
    const role = this.#roles.get(username);
    return role !== undefined && role.mayLogIn && role.passwords.includes(password);
  }

  role(username: string): Role | undefined {
    return this.#roles.get(username);
  }

  /** The sessions that are open. */
  get sessions(): ReadonlySet<Session> {
    return this.#sessions;
  }

  setRole(username: string, role: Role): void {
    this.#roles.set(username, role);
    this.options.observer.changed();
  }

  /** Ends sessions; those of a living process hear of it. Returns how many. */
  endSessions(which: (session: Session) => boolean): number {
    let count = 0;
    for (const session of this.#sessions) {
      if (!which(session)) continue;
      count += 1;
      this.#end(session);
      this.options.observer.killed(session);
      const { process, onKilled } = session;
      if (onKilled !== undefined)
        this.options.queue.after(0.2, 'killed', () => process.deliver(() => session.onKilled?.()));
    }
    return count;
  }

  /** Runs a statement for a process: `effect` happens on the server, whatever becomes of the process meanwhile. */
  run<R>(process: SimulatedProcess, kind: string, effect: () => R): Promise<R> {
    const { queue, random, latency, timeoutMs } = this.options;
    return new Promise<R>((resolve, reject) => {
      if (!process.isAlive) return;
      const fate = drawFate(random, this.faults, latency);
      const answer = (afterMs: number, tell: () => void): void =>
        void queue.after(afterMs, kind, () => process.deliver(tell));
      const silence = (): void => reject(new TargetError('unreachable'));
      const arrive = (): void => {
        if (this.isDown) {
          answer(fate.backMs ?? timeoutMs, silence);
          return;
        }
        this.#clock += 1;
        queue.note(kind);
        let tell: () => void;
        try {
          const result = effect();
          tell = () => resolve(result);
        } catch (error) {
          tell = () => reject(error);
        }
        if (fate.backMs === undefined) answer(timeoutMs, silence);
        else answer(fate.backMs, tell);
      };
      if (fate.thereMs === undefined) answer(timeoutMs, silence);
      else if (fate.thereMs === 0) arrive();
      else queue.after(fate.thereMs, 'arrive', arrive);
    });
  }

  /** Rejects with a TargetError: `refused` when the credentials are, which is the only proof that they are. */
  async logIn(process: SimulatedProcess, { username, password }: Credentials): Promise<Session> {
    let begun: Session | undefined;
    const work = (): Session => {
      const accepted = this.accepts({ username, password });
      this.options.observer.loggedIn(process, { username, password }, accepted);
      if (!accepted) throw new TargetError('refused');
      const [id, isOpen, onKilled] = [this.#clock, process.isAlive, undefined];
      begun = { id, username, password, process, beganAt: id, isOpen, onKilled };
      // What a process sent before it died opens nothing that stays.
      if (isOpen) this.#sessions.add(begun);
      return begun;
    };
    try {
      return await this.run(process, 'log in', work);
    } catch (error) {
      // Whoever gives up waiting closes the socket, which ends a session it never heard of.
      if (begun !== undefined) this.#end(begun);
      throw error;
    }
  }

  /** Rejects with a TargetError: `killed` when the session was ended, `denied` when its role may not do it. */
  query(session: Session): Promise<void> {
    return this.run(session.process, 'query', () => {
      if (!session.isOpen) throw new TargetError('killed');
      if (this.#roles.get(session.username)?.isPermitted !== true) throw new TargetError('denied');
    });
  }

  /** The process closes the socket. */
  close(session: Session): void {
    this.#end(session);
  }

  /** The process has died. */
  dropProcess(process: SimulatedProcess): void {
    for (const session of this.#sessions) if (session.process === process) this.#end(session);
  }

  #end(session: Session): void {
    session.isOpen = false;
    this.#sessions.delete(session);
    this.options.observer.changed();
  }
}
