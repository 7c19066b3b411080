import { createHmac, timingSafeEqual } from 'node:crypto';
import { SimulatedClock } from '@nestjs-secrets/testing';
import {
  memoryStore,
  PolicyStore,
  principalOf,
  secretResource,
  StoreUnavailableError,
  type Decision,
  type IdentityPolicy,
  type PolicyAuthor,
  type PolicyDocument,
  type PolicyReport,
  type PolicySeal,
  type PolicyStatement,
  type PolicyStoreOptions,
  type Principal,
  type StoreCommit,
  type StoreDriver,
  type StoreHint,
} from '@nestjs-secrets/core';

const MAC_BYTES = 32;

/** Integrity as the encryption layer gives it, in its simplest form. */
export const macSeal: PolicySeal = {
  async seal(storeKey, plaintext) {
    return Buffer.concat([mac(storeKey, plaintext), plaintext]);
  },
  async open(storeKey, sealed) {
    const plaintext = sealed.subarray(MAC_BYTES);
    if (!timingSafeEqual(mac(storeKey, plaintext), sealed.subarray(0, MAC_BYTES))) throw new Error('the MAC differs');
    return plaintext;
  },
};

function mac(storeKey: string, plaintext: Uint8Array): Buffer {
  return createHmac('sha256', 'a key for tests').update(`${storeKey}\n`).update(plaintext).digest();
}

/** One process's way to a store that others use too: it can be down, deaf to hints, or slow. */
export class Link implements StoreDriver {
  readonly name = 'link';
  isDown = false;
  isDeaf = false;
  /** Awaited before each read and each commit. */
  pause: () => Promise<void> = async () => undefined;

  constructor(private readonly store: StoreDriver) {}

  open = async (): Promise<void> => undefined;
  close = async (): Promise<void> => undefined;
  list: StoreDriver['list'] = (options) => this.#through(() => this.store.list(options));
  get: StoreDriver['get'] = (key) => this.#through(() => this.store.get(key));
  revision: StoreDriver['revision'] = () => this.#through(() => this.store.revision());
  commit = (commit: StoreCommit): Promise<number | undefined> => this.#through(() => this.store.commit(commit));

  watch(onHint: (hint: StoreHint) => void): () => void {
    return this.store.watch((hint) => {
      if (!this.isDeaf) onHint(hint);
    });
  }

  async #through<T>(call: () => Promise<T>): Promise<T> {
    await this.pause();
    if (this.isDown) throw new StoreUnavailableError(this.name, 'is unplugged.');
    return call();
  }
}

export const OWN = principalOf('application', 'MyApp');
export const ADMIN = principalOf('operator', 'admin');
export const ALICE = principalOf('operator', 'alice');
export const FACTS = { tags: {} };

/** One process. */
export interface Instance {
  readonly policies: PolicyStore;
  readonly link: Link;
  readonly reports: PolicyReport[];
}

/** A store with the processes that keep their policies in it, under one simulated clock. */
export class PolicyWorld {
  readonly clock = new SimulatedClock();
  readonly store = memoryStore();
  readonly instances: Instance[] = [];

  async start(
    options: Partial<PolicyStoreOptions> = {},
    prepare: (link: Link) => void = () => undefined,
  ): Promise<Instance> {
    await this.store.open();
    const link = new Link(this.store);
    prepare(link);
    const reports: PolicyReport[] = [];
    const policies = new PolicyStore({
      store: link,
      seal: macSeal,
      clock: this.clock,
      own: ({ id }) => id === OWN.id,
      onReport: (report) => reports.push(report),
      ...options,
    });
    await policies.open();
    const instance = { policies, link, reports };
    this.instances.push(instance);
    return instance;
  }

  /** Started, with an administrator who may do everything. */
  async startGoverned(options: Partial<PolicyStoreOptions> = {}): Promise<Instance> {
    const instance = await this.start(options);
    await instance.policies.putPolicy(this.author(ADMIN), ADMINS);
    return instance;
  }

  author(principal: Principal): PolicyAuthor {
    return { principal, context: { time: this.clock.now() } };
  }

  reads({ policies }: Instance, principal: Principal, secret = 'a'): Decision {
    return policies.decide(principal, 'secrets:GetSecretValue', secretResource(secret, FACTS), {
      time: this.clock.now(),
    });
  }

  /** Changes what the store holds under a key, as somebody with the database in hand would. */
  async tamper(key: string, edit: (value: Uint8Array) => Uint8Array | null): Promise<void> {
    const entry = await this.store.get(key);
    await this.store.commit({ conditions: [], writes: [{ key, value: edit(entry?.value ?? new Uint8Array()) }] });
    await this.rest();
  }

  /** Until everything that a hint started has ended. */
  async rest(): Promise<void> {
    await this.clock.advance(0);
    for (const { policies } of this.instances) await policies.refresh();
  }

  async stop(): Promise<void> {
    for (const { policies } of this.instances) policies.close();
    await this.store.close();
  }
}

export function documentOf(...Statement: readonly PolicyStatement[]): PolicyDocument {
  return { Version: '1', Statement };
}

export function readPolicy(name: string, to: string, resource = '*'): IdentityPolicy {
  return {
    name,
    principals: [to],
    document: documentOf({ Effect: 'Allow', Action: 'secrets:GetSecretValue', Resource: resource }),
  };
}

export const ADMINS: IdentityPolicy = {
  name: 'admins',
  principals: [ADMIN.id],
  document: documentOf({ Effect: 'Allow', Action: 'secrets:*', Resource: '*' }),
};
