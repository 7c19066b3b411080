import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface Address {
  readonly host: string;
  readonly port: number;
}

type Mode = 'open' | 'held' | 'lost' | 'refused';

/** A stretch of network between processes and a server, on a port of its own, that can be made to fail. */
export class FaultyLink {
  // Half open, so that the end of a connection travels like anything else that is sent, and is held or lost like it.
  readonly #server = createServer({ allowHalfOpen: true }, (client) => this.#accept(client));
  readonly #lanes = new Set<Lane>();
  #mode: Mode = 'open';
  #delayMs = 0;

  private constructor(private readonly target: Address) {}

  static async to(target: Address): Promise<FaultyLink> {
    const link = new FaultyLink(target);
    await new Promise<void>((resolve, reject) => {
      link.#server.once('error', reject);
      link.#server.listen(0, '127.0.0.1', resolve);
    });
    return link;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Nothing arrives any more, in either direction; after `mend` it does, in its order, as TCP sends again what a network lost. */
  hold(): void {
    this.#become('held');
  }

  /** Nothing arrives any more, and nobody is told: connections of before stay silent for ever, also after `mend`. */
  lose(): void {
    this.#become('lost');
    for (const lane of this.#lanes) lane.lose();
  }

  /** Resets every connection, and each new one too until `mend`. */
  refuse(): void {
    this.#become('refused');
    this.reset();
  }

  /** Resets every connection; new ones work. */
  reset(): void {
    for (const lane of this.#lanes) lane.reset();
  }

  /** Everything arrives so much later, until `mend`. */
  slow(delayMs: number): void {
    this.#delayMs = delayMs;
  }

  mend(): void {
    this.#delayMs = 0;
    this.#become('open');
    for (const lane of this.#lanes) lane.mended();
  }

  async close(): Promise<void> {
    this.reset();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #become(mode: Mode): void {
    this.#mode = mode;
  }

  #accept(client: Socket): void {
    if (this.#mode === 'refused') {
      client.on('error', () => undefined);
      client.resetAndDestroy();
      return;
    }
    const lane = new Lane(client, connect({ ...this.target, allowHalfOpen: true }), {
      isOpen: () => this.#mode === 'open',
      delayMs: () => this.#delayMs,
    });
    this.#lanes.add(lane);
    lane.onClosed = () => this.#lanes.delete(lane);
    if (this.#mode === 'lost') lane.lose();
  }
}

interface LaneRules {
  isOpen(): boolean;
  delayMs(): number;
}

interface Parcel {
  readonly to: Socket;
  /** Undefined for the end of the connection. */
  readonly bytes: Buffer | undefined;
  readonly due: number;
}

/** One connection through the link. What is sent arrives in its order, the end of the connection included. */
class Lane {
  onClosed: () => void = () => undefined;
  readonly #parcels: Parcel[] = [];
  #isLost = false;
  #timer: NodeJS.Timeout | undefined;
  #open = 2;

  constructor(
    private readonly client: Socket,
    private readonly server: Socket,
    private readonly rules: LaneRules,
  ) {
    this.#carry(client, server);
    this.#carry(server, client);
  }

  lose(): void {
    this.#isLost = true;
    this.#parcels.length = 0;
  }

  reset(): void {
    this.client.resetAndDestroy();
    this.server.resetAndDestroy();
  }

  mended(): void {
    // The server has given a lost connection up by now; its other end is never told.
    if (this.#isLost) this.server.resetAndDestroy();
    else this.#deliver();
  }

  #carry(from: Socket, to: Socket): void {
    from.setNoDelay(true);
    from.on('error', () => undefined);
    from.on('data', (bytes) => this.#take(to, bytes));
    from.once('end', () => this.#take(to, undefined));
    from.once('close', () => {
      this.#take(to, undefined);
      this.#open -= 1;
      if (this.#open === 0) this.onClosed();
    });
  }

  #take(to: Socket, bytes: Buffer | undefined): void {
    if (this.#isLost) return;
    this.#parcels.push({ to, bytes, due: performance.now() + this.rules.delayMs() });
    this.#deliver();
  }

  #deliver(): void {
    clearTimeout(this.#timer);
    for (let parcel = this.#parcels[0]; parcel !== undefined && this.rules.isOpen(); parcel = this.#parcels[0]) {
      const waitMs = parcel.due - performance.now();
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.#deliver(), waitMs);
        return;
      }
      this.#parcels.shift();
      if (parcel.bytes === undefined) parcel.to.end();
      else if (!parcel.to.destroyed) parcel.to.write(parcel.bytes);
    }
  }
}
