import type { Cancel, Clock } from '../foundation/clock.js';
import { isSecretsError, StoreContentionError } from '../foundation/errors.js';
import type { StoreDriver, StoreHint } from '../store/store-driver.js';
import { PolicyInvalidError, PolicyLockoutError, PolicyNotFoundError } from './access-errors.js';
import {
  policyResource,
  secretResource,
  type AccessContext,
  type Resource,
  type SecretFacts,
} from './access-request.js';
import type { ActionName } from './actions.js';
import { compileIdentityPolicy, type CompiledIdentityPolicy } from './compiled-policy.js';
import type { Decision } from './decision.js';
import type { IdentityPolicy, PolicyDocument } from './policy-document.js';
import {
  applyEdit,
  identityContent,
  NO_POLICIES,
  POLICY_PREFIX,
  PolicyRecords,
  secretContent,
  type IdentityContent,
  type LoadedPolicies,
  type PolicyEdit,
  type PolicySeal,
} from './policy-records.js';
import {
  checkSequence,
  type PolicyAuthor,
  type PolicyChangeOptions,
  stampOf,
  type StoredIdentityPolicy,
  type StoredSecretPolicy,
  type Written,
} from './policy-changes.js';
import { PolicySet } from './policy-set.js';
import { checkIdentityPolicy } from './policy-validator.js';
import type { Principal } from './principal.js';
import { restoration, type RestoredPolicy } from './restored-policies.js';
import { simulate, type Simulation } from './simulation.js';

export type { PolicyAuthor, PolicyChangeOptions, StoredIdentityPolicy, StoredSecretPolicy };

/** What happened to the policies, for logs and health. */
export type PolicyReport =
  /** Nobody set a policy: the application itself may do everything. */
  | { readonly type: 'policies-off' }
  /** The policies of this change govern from now on. */
  | { readonly type: 'policies-changed'; readonly sequence: number }
  /** These, as `policy/<name>` and `secret/<name>`, cannot be trusted; what they govern is denied. */
  | { readonly type: 'policies-corrupt'; readonly policies: readonly string[] }
  /** They could not be read; the last ones known govern until `maxStalenessMs` is over. */
  | { readonly type: 'policies-unreadable'; readonly error: unknown };

export interface PolicyStoreOptions {
  /** Open already, and closed by whoever opened it. */
  readonly store: StoreDriver;
  readonly seal: PolicySeal;
  readonly clock: Clock;
  /** The principals of the application itself, which may do everything while there are no policies. */
  readonly own: (principal: Principal) => boolean;
  /** Policies from code, beside those in the store; nobody can change them at run time. */
  readonly builtIn?: readonly IdentityPolicy[];
  /**
   * `when-configured` (the default): from the first policy on, for good, even when all of them are deleted again. `always`: also before.
   * `off`: never; the way back in for whoever controls the deployment and is locked out.
   */
  readonly enforce?: 'when-configured' | 'always' | 'off';
  /** The store is looked at this often even without a hint, in milliseconds; 30,000 by default. */
  readonly refreshIntervalMs?: number;
  /** When the store could not be read for so long, everything is denied, in milliseconds; 300,000 by default. */
  readonly maxStalenessMs?: number;
  readonly onReport?: (report: PolicyReport) => void;
}

const ATTEMPTS = 50;

/**
 * The policies of a store, compiled and kept up to date: changed by compare-and-set, read as a whole, replaced at once. It decides; that
 * its own changes are allowed and audited is the manager's business.
 */
export class PolicyStore {
  readonly #options: PolicyStoreOptions;
  readonly #records: PolicyRecords;
  readonly #builtIn: readonly CompiledIdentityPolicy[];
  #loaded: LoadedPolicies = NO_POLICIES;
  #policies: PolicySet;
  #confirmedAt = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<void> | undefined;
  #isAskedAgain = false;
  #corrupt = '';
  #stop: (() => void) | undefined;

  /** @throws PolicyInvalidError for a policy from code */
  constructor(options: PolicyStoreOptions) {
    this.#options = options;
    this.#records = new PolicyRecords(options.store, options.seal);
    this.#builtIn = (options.builtIn ?? []).map((policy) => compileIdentityPolicy(checkIdentityPolicy(policy)));
    this.#policies = this.#compile(NO_POLICIES);
  }

  /** The change that governs here; 0 before the first. For signed checkpoints and for health. */
  get sequence(): number {
    return this.#loaded.sequence;
  }

  /** When the policies were last known to be those of the store, in milliseconds since the epoch. */
  get confirmedAt(): number {
    return this.#confirmedAt;
  }

  /**
   * Loads the policies and follows them from then on.
   * @throws StoreUnavailableError, CorruptRecordError
   */
  async open(): Promise<void> {
    const { store, clock, refreshIntervalMs = 30_000 } = this.#options;
    await this.#load();
    if (this.#policies.parts.unrestricted !== undefined) this.#report({ type: 'policies-off' });
    const endWatch = store.watch((hint) => this.#hear(hint), [POLICY_PREFIX]);
    let cancel: Cancel = () => undefined;
    const look = (): void => {
      cancel = clock.after(refreshIntervalMs, look);
      void this.refresh();
    };
    cancel = clock.after(refreshIntervalMs, look);
    this.#stop = () => {
      endWatch();
      cancel();
    };
    // What was committed between the load and the watch had nobody to tell.
    await this.refresh();
  }

  close(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  /**
   * Whether a principal may do something.
   * @throws AccessRequestError see `PolicySet.decide`
   */
  decide(principal: Principal, action: ActionName, resource: Resource, context: AccessContext): Decision {
    if (this.#isStale()) return { allowed: false, reason: 'policies-stale', statements: [] };
    return this.#policies.decide(principal, action, resource, context);
  }

  /** The same with the reasons and what would change it. */
  simulate(principal: Principal, action: ActionName, resource: Resource, context: AccessContext): Simulation {
    const decision = this.decide(principal, action, resource, context);
    return simulate(this.#policies, decision, { principal, action, resource, context });
  }

  /** Looks at the store now. Never rejects: what goes wrong is reported, and the last policies known go on. */
  async refresh(): Promise<void> {
    this.#isAskedAgain = true;
    this.#refreshing ??= this.#refreshUntilQuiet();
    await this.#refreshing;
  }

  /**
   * Sets an identity policy, new or in place of the one of that name. `document` may be JSON text.
   * @throws PolicyInvalidError, PolicyLockoutError, PolicyChangedError, PolicyLimitError, StoreContentionError
   */
  async putPolicy(
    author: PolicyAuthor,
    policy: {
      readonly name: string;
      readonly principals: readonly string[];
      readonly document: PolicyDocument | string;
    },
    options: PolicyChangeOptions = {},
  ): Promise<StoredIdentityPolicy> {
    const { name, principals, document } = checkIdentityPolicy(policy);
    if (this.#builtIn.some((own) => own.name === name)) {
      const fault = { path: 'name', message: 'is that of a policy from code, which changes with the code only' };
      throw new PolicyInvalidError(`The policy ${name}`, [fault]);
    }
    const content = (sequence: number): IdentityContent =>
      identityContent(name, { ...this.#stamp(author, sequence), principals, document });
    const guarded = ['secrets:PutPolicy', policyResource(name)] as const;
    const written = await this.#change(author, guarded, options, ({ identity, sequence }) => {
      checkSequence(`policy ${name}`, identity.get(name), options);
      return { kind: 'identity', name, content: content(sequence + 1) };
    });
    return { name, principals, document, ...stampOf(written.identity.get(name)?.content) };
  }

  /** @throws PolicyNotFoundError, PolicyLockoutError, PolicyChangedError, StoreContentionError */
  async deletePolicy(author: PolicyAuthor, name: string, options: PolicyChangeOptions = {}): Promise<void> {
    const guarded = ['secrets:PutPolicy', policyResource(name)] as const;
    await this.#change(author, guarded, options, ({ identity }) => {
      if (!identity.has(name)) throw new PolicyNotFoundError(`policy ${JSON.stringify(name.slice(0, 128))}`);
      checkSequence(`policy ${name}`, identity.get(name), options);
      return { kind: 'identity', name, content: undefined };
    });
  }

  /** Undefined when there is none, or none that can be read (see `listPolicies`). */
  getPolicy(name: string): StoredIdentityPolicy | undefined {
    const content = this.#loaded.identity.get(name)?.content;
    return content && { ...content.policy, ...stampOf(content) };
  }

  /** The names of all identity policies in the store, in order; `corrupt` are those that cannot be trusted. */
  listPolicies(prefix = ''): { readonly names: readonly string[]; readonly corrupt: readonly string[] } {
    const found = [...this.#loaded.identity].filter(([name]) => name.startsWith(prefix));
    const corrupt = found.filter(([, { content }]) => content === undefined);
    return { names: found.map(([name]) => name).sort(), corrupt: corrupt.map(([name]) => name).sort() };
  }

  /**
   * Sets the policy of a secret. `document` may be JSON text. `facts` are the secret's, for the question whether the author could take
   * it back.
   * @throws PolicyInvalidError, PolicyLockoutError, PolicyChangedError, PolicyLimitError, StoreContentionError
   */
  async setSecretPolicy(
    author: PolicyAuthor,
    secret: { readonly name: string; readonly facts: SecretFacts },
    document: PolicyDocument | string,
    options: PolicyChangeOptions = {},
  ): Promise<StoredSecretPolicy> {
    const { name, facts } = secret;
    const checked = secretContent(name, { ...this.#stamp(author, 0), document });
    const guarded = ['secrets:SetSecretPolicy', secretResource(name, facts)] as const;
    const written = await this.#change(author, guarded, options, ({ secrets, sequence }) => {
      checkSequence(`policy of the secret ${name}`, secrets.get(name), options);
      return { kind: 'secret', name, content: { ...checked, sequence: sequence + 1 } };
    });
    return { secretName: name, document: checked.document, ...stampOf(written.secrets.get(name)?.content) };
  }

  /** @throws PolicyNotFoundError, PolicyLockoutError, PolicyChangedError, StoreContentionError */
  async deleteSecretPolicy(
    author: PolicyAuthor,
    secret: { readonly name: string; readonly facts: SecretFacts },
    options: PolicyChangeOptions = {},
  ): Promise<void> {
    const { name, facts } = secret;
    const guarded = ['secrets:SetSecretPolicy', secretResource(name, facts)] as const;
    await this.#change(author, guarded, options, ({ secrets }) => {
      if (!secrets.has(name)) throw new PolicyNotFoundError(`policy of a secret ${name}`);
      checkSequence(`policy of the secret ${name}`, secrets.get(name), options);
      return { kind: 'secret', name, content: undefined };
    });
  }

  /** Undefined when there is none, or none that can be read: then the secret's decisions say `policy-corrupt`. */
  getSecretPolicy(secretName: string): StoredSecretPolicy | undefined {
    const content = this.#loaded.secrets.get(secretName)?.content;
    return content && { secretName, document: content.document, ...stampOf(content) };
  }

  /** Whether a secret has a policy that cannot be trusted. */
  isSecretPolicyCorrupt(secretName: string): boolean {
    const found = this.#loaded.secrets.get(secretName);
    return found !== undefined && found.content === undefined;
  }

  /** Whether there is no policy of either kind in the store. */
  get isEmpty(): boolean {
    return this.#loaded.identity.size === 0 && this.#loaded.secrets.size === 0;
  }

  /**
   * Sets policies that another store had, those that are not there yet, in one commit. Policies govern from then on, even if there are none. Returns those that differ
   * from what is there, or that code has; where `keepsOthers` is false there must be none, or nothing is changed.
   * @throws PolicyInvalidError, PolicyLimitError, StoreContentionError
   */
  async restorePolicies(
    policies: readonly RestoredPolicy[],
    keepsOthers: boolean,
  ): Promise<{ readonly restored: number; readonly others: readonly string[] }> {
    const isBuiltIn = (name: string): boolean => this.#builtIn.some((own) => own.name === name);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const before = await this.#records.load(this.#loaded);
      const { edits, others } = restoration(before, policies, isBuiltIn);
      if (others.length > 0 && !keepsOthers) return { restored: 0, others };
      if (edits.length === 0 && before.sequence > 0) return { restored: 0, others };
      const committed = await this.#records.commit(before, edits);
      if (committed === undefined) continue;
      this.#install(committed);
      return { restored: edits.length, others };
    }
    throw new StoreContentionError('the policies');
  }

  /** Commits one change on top of whatever the store has, after making sure that its author could take it back. */
  async #change(
    { principal, context }: PolicyAuthor,
    [action, resource]: readonly [ActionName, Resource],
    { force = false }: PolicyChangeOptions,
    edit: (loaded: LoadedPolicies) => PolicyEdit,
  ): Promise<LoadedPolicies> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const before = await this.#records.load(this.#loaded);
      const wanted = edit(before);
      const after = this.#compile(applyEdit(before, wanted, ''), 'always');
      if (!force && !after.decide(principal, action, resource, context).allowed)
        throw new PolicyLockoutError(principal.id, action, resource.id);
      const committed = await this.#records.commit(before, [wanted]);
      if (committed !== undefined) {
        this.#install(committed);
        return committed;
      }
    }
    throw new StoreContentionError('the policies');
  }

  async #refreshUntilQuiet(): Promise<void> {
    while (this.#isAskedAgain) {
      this.#isAskedAgain = false;
      try {
        await this.#load();
      } catch (error) {
        // Closed means that the application is going down.
        if (!isSecretsError(error, 'STORE_CLOSED')) this.#report({ type: 'policies-unreadable', error });
      }
    }
    // In the same breath as the last look at the flag, so that nobody who asks in between is forgotten.
    this.#refreshing = undefined;
  }

  async #load(): Promise<void> {
    const startedAt = this.#options.clock.now();
    this.#install(await this.#records.load(this.#loaded));
    this.#confirmedAt = startedAt;
  }

  /** Swaps in what was loaded, unless something newer is in already. */
  #install(loaded: LoadedPolicies): void {
    if (loaded === this.#loaded || loaded.sequence < this.#loaded.sequence) return;
    const policies = this.#compile(loaded);
    const isNews = loaded.sequence > this.#loaded.sequence;
    [this.#loaded, this.#policies] = [loaded, policies];
    if (isNews) this.#report({ type: 'policies-changed', sequence: loaded.sequence });
    const { corrupt = [], corruptSecrets = [] } = policies.parts;
    const untrusted = [...corrupt.map(({ name }) => `policy/${name}`), ...corruptSecrets];
    if (untrusted.join() !== this.#corrupt && untrusted.length > 0)
      this.#report({ type: 'policies-corrupt', policies: untrusted });
    this.#corrupt = untrusted.join();
  }

  #compile(
    { sequence, identity, secrets }: LoadedPolicies,
    enforce = this.#options.enforce ?? 'when-configured',
  ): PolicySet {
    const isOff = enforce === 'off' || (enforce === 'when-configured' && sequence === 0 && this.#builtIn.length === 0);
    const stored = [...identity.values()].flatMap(({ content }) => (content === undefined ? [] : [content.compiled]));
    return new PolicySet({
      identity: [...this.#builtIn, ...stored],
      secrets: new Map(
        [...secrets].flatMap(([name, { content }]) =>
          content === undefined ? [] : [[`secret/${name}`, content.compiled] as const],
        ),
      ),
      corrupt: [...identity].flatMap(([name, { content, principals }]) =>
        content === undefined ? [{ name, principals }] : [],
      ),
      corruptSecrets: new Set(
        [...secrets].flatMap(([name, { content }]) => (content === undefined ? [`secret/${name}`] : [])),
      ),
      ...(isOff ? { unrestricted: this.#options.own } : {}),
    });
  }

  #isStale(): boolean {
    const { clock, maxStalenessMs = 300_000, enforce } = this.#options;
    return enforce !== 'off' && clock.now() - this.#confirmedAt > maxStalenessMs;
  }

  #hear({ keys }: StoreHint): void {
    if (keys === undefined || keys.some((key) => key.startsWith(POLICY_PREFIX))) void this.refresh();
  }

  #stamp({ principal, context }: PolicyAuthor, sequence: number): Written {
    return { sequence, updatedAt: context.time, updatedBy: principal.id };
  }

  #report(report: PolicyReport): void {
    this.#options.onReport?.(report);
  }
}
