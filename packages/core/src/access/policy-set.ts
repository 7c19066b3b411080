import type { AccessContext, Resource } from './access-request.js';
import type { ActionName } from './actions.js';
import {
  type CompiledIdentityPolicy,
  type CompiledStatement,
  conditionsHold,
  coversPrincipal,
  type StatementOrigin,
} from './compiled-policy.js';
import { AccessRequest } from './condition-keys.js';
import type { Decision, DecisionReason } from './decision.js';
import { Glob } from './glob.js';
import type { Principal } from './principal.js';
import { ResourceIndex } from './resource-index.js';

/** An identity policy whose record cannot be trusted, with the principals it was attached to. */
export interface CorruptPolicy {
  readonly name: string;
  readonly principals: readonly string[];
}

export interface PolicySetParts {
  readonly identity: readonly CompiledIdentityPolicy[];
  /** The statements of each secret's own policy, by `secret/<name>`. */
  readonly secrets: ReadonlyMap<string, readonly CompiledStatement[]>;
  readonly corrupt?: readonly CorruptPolicy[];
  /** Secrets, as `secret/<name>`, whose policy cannot be trusted. */
  readonly corruptSecrets?: ReadonlySet<string>;
  /** Set where there are no policies: who may then do everything. */
  readonly unrestricted?: (principal: Principal) => boolean;
}

/** What one principal has, whatever it asks for. */
interface View {
  readonly statements: readonly CompiledStatement[];
  readonly corrupt: readonly string[];
  readonly byAction: Map<string, ResourceIndex>;
}

const KNOWN_PRINCIPALS = 2000;
const NO_STATEMENTS: readonly StatementOrigin[] = Object.freeze([]);
const POLICY_REPAIRS: ReadonlySet<string> = new Set<ActionName>([
  'secrets:PutPolicy',
  'secrets:DeletePolicy',
  'secrets:GetPolicy',
]);
const SECRET_POLICY_REPAIRS: ReadonlySet<string> = new Set<ActionName>([
  'secrets:SetSecretPolicy',
  'secrets:DeleteSecretPolicy',
  'secrets:GetSecretPolicy',
]);

/**
 * All policies as of one moment, compiled: never changed, only replaced as a whole. Denied unless a statement allows; a statement that
 * denies always wins; an allow counts from an identity policy as well as from the policy of the secret. As Alibaba Cloud RAM and AWS IAM
 * decide within one account.
 */
export class PolicySet {
  readonly #literal = new Map<string, CompiledIdentityPolicy[]>();
  readonly #patterned: { readonly glob: Glob; readonly policy: CompiledIdentityPolicy }[] = [];
  readonly #corrupt: readonly { readonly name: string; readonly globs: readonly Glob[] }[];
  readonly #corruptSecrets: ReadonlySet<string>;
  /** Made when a principal first asks, forgotten oldest first. */
  readonly #views = new Map<string, View>();

  constructor(readonly parts: PolicySetParts) {
    for (const policy of parts.identity) {
      for (const glob of policy.principals) {
        if (glob.literal === undefined) this.#patterned.push({ glob, policy });
        else this.#literal.set(glob.literal, [...(this.#literal.get(glob.literal) ?? []), policy]);
      }
    }
    this.#corrupt = (parts.corrupt ?? []).map(({ name, principals }) => ({
      name,
      globs: principals.map((pattern) => new Glob(pattern)),
    }));
    this.#corruptSecrets = parts.corruptSecrets ?? new Set();
  }

  /**
   * Whether a principal may do something, with the statements that say so.
   * @throws AccessRequestError when a policy needs the source address and it is none
   */
  decide(principal: Principal, action: ActionName, resource: Resource, context: AccessContext): Decision {
    if (this.parts.unrestricted !== undefined) {
      const allowed = this.parts.unrestricted(principal);
      return { allowed, reason: 'policies-off', statements: NO_STATEMENTS };
    }
    const view = this.#view(principal.id);
    if (this.#isUntrusted(view, action, resource)) return denied('policy-corrupt');
    return new Collector(new AccessRequest(principal, action, resource, context)).collect(
      this.#index(view, action),
      this.parts.secrets.get(resource.id),
    );
  }

  /** The statements of the identity policies that a principal has, in no particular order of meaning. */
  statementsOf(principal: Principal): readonly CompiledStatement[] {
    return this.#view(principal.id).statements;
  }

  /** A corrupt policy may have held any denial, so whatever it governs is denied; but for what puts it right, which the others decide. */
  #isUntrusted({ corrupt }: View, action: string, { id }: Resource): boolean {
    if (corrupt.length > 0) {
      const repairs = POLICY_REPAIRS.has(action) && corrupt.some((name) => id === `policy/${name}`);
      if (!repairs) return true;
    }
    return this.#corruptSecrets.has(id) && !SECRET_POLICY_REPAIRS.has(action);
  }

  #view(principalId: string): View {
    let view = this.#views.get(principalId);
    if (view !== undefined) return view;
    const policies = new Set(this.#literal.get(principalId));
    for (const { glob, policy } of this.#patterned) if (glob.matches(principalId)) policies.add(policy);
    view = {
      statements: [...policies].flatMap(({ statements }) => statements),
      corrupt: this.#corrupt
        .filter(({ globs }) => globs.some((glob) => glob.matches(principalId)))
        .map(({ name }) => name),
      byAction: new Map(),
    };
    // Remote callers choose their names, so what is remembered of them has an end.
    const [oldest] = this.#views.size >= KNOWN_PRINCIPALS ? this.#views.keys() : [];
    if (oldest !== undefined) this.#views.delete(oldest);
    this.#views.set(principalId, view);
    return view;
  }

  #index(view: View, action: ActionName): ResourceIndex {
    let index = view.byAction.get(action);
    if (index === undefined) {
      index = new ResourceIndex(view.statements.filter(({ actions }) => actions.has(action)));
      view.byAction.set(action, index);
    }
    return index;
  }
}

/** Takes the statements that cover one request to a decision. */
class Collector {
  readonly #denies: StatementOrigin[] = [];
  readonly #allows: StatementOrigin[] = [];
  #deniesPerhaps = false;
  #allowsPerhaps = false;

  constructor(readonly request: AccessRequest) {}

  collect(identity: ResourceIndex, ofSecret: readonly CompiledStatement[] | undefined): Decision {
    const { principal, action, resource } = this.request;
    identity.visit(resource.id, (statement) => this.#take(statement));
    for (const statement of ofSecret ?? []) {
      const covers = statement.actions.has(action as ActionName) && coversPrincipal(statement, principal.id);
      if (covers) this.#take(statement);
    }
    if (this.#denies.length > 0) return { allowed: false, reason: 'explicit-deny', statements: ordered(this.#denies) };
    if (this.#deniesPerhaps) return denied('facts-needed');
    if (this.#allows.length > 0) return { allowed: true, reason: 'allowed', statements: ordered(this.#allows) };
    return denied(this.#allowsPerhaps ? 'facts-needed' : 'no-allow');
  }

  #take(statement: CompiledStatement): void {
    const holds = conditionsHold(statement, this.request);
    if (holds === 'no') return;
    if (holds === 'unknown') {
      if (statement.denies) this.#deniesPerhaps = true;
      else this.#allowsPerhaps = true;
      return;
    }
    const matched = statement.denies ? this.#denies : this.#allows;
    if (!matched.includes(statement.origin)) matched.push(statement.origin);
  }
}

function denied(reason: DecisionReason): Decision {
  return { allowed: false, reason, statements: NO_STATEMENTS };
}

/** By policy and place in it, so that two instances with the same policies say the same. */
function ordered(statements: StatementOrigin[]): readonly StatementOrigin[] {
  if (statements.length < 2) return statements;
  return statements.sort((one, other) => {
    if (one.policy !== other.policy) return one.policy < other.policy ? -1 : 1;
    return one.index - other.index;
  });
}
