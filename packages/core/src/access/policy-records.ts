import { createHash } from 'node:crypto';
import { CorruptRecordError } from '../foundation/errors.js';
import type { StoreDriver, StoreWrite } from '../store/store-driver.js';
import { PolicyLimitError } from './access-errors.js';
import { compileIdentityPolicy, compileStatements, type CompiledStatement } from './compiled-policy.js';
import type { CompiledIdentityPolicy } from './compiled-policy.js';
import type { ValidDocument } from './policy-document.js';
import { checkIdentityPolicy, checkSecretPolicy, type ValidIdentityPolicy } from './policy-validator.js';

export const POLICY_PREFIX = 'policy/';
const HEAD = 'policy/head';
const IDENTITY = 'policy/identity/';
const SECRET = 'policy/secret/';
/** Below what a store takes under one key, with room for the seal. */
const HEAD_LIMIT = 1_000_000;
const READS_AT_ONCE = 16;
const ATTEMPTS = 50;

/** Gives policies the integrity that secrets have: what was not sealed here under this very key does not open. */
export interface PolicySeal {
  seal(storeKey: string, plaintext: Uint8Array): Promise<Uint8Array>;
  /** Throws when `sealed` is not what `seal` made for this key of the store. */
  open(storeKey: string, sealed: Uint8Array): Promise<Uint8Array>;
}

interface PolicyRecord<Content> {
  /** SHA-256 of the sealed record. */
  readonly digest: string;
  /** Undefined when the record is not the one that the head names, or does not open, or is not valid. */
  readonly content: Content | undefined;
}

interface Stamp {
  /** The sequence of the change that wrote it. */
  readonly sequence: number;
  readonly updatedAt: number;
  readonly updatedBy: string;
}

export interface IdentityContent extends Stamp {
  readonly policy: ValidIdentityPolicy;
  readonly compiled: CompiledIdentityPolicy;
}

export interface SecretContent extends Stamp {
  readonly document: ValidDocument;
  readonly compiled: readonly CompiledStatement[];
}

/** Every policy in the store, as of one change of them. */
export interface LoadedPolicies {
  /** Counts changes from 1; 0 when there never was a policy. */
  readonly sequence: number;
  /** The head's revision in the store; 0 when there is none. */
  readonly revision: number;
  readonly identity: ReadonlyMap<string, PolicyRecord<IdentityContent> & { readonly principals: readonly string[] }>;
  readonly secrets: ReadonlyMap<string, PolicyRecord<SecretContent>>;
}

export const NO_POLICIES: LoadedPolicies = { sequence: 0, revision: 0, identity: new Map(), secrets: new Map() };

interface Head {
  readonly format: 1;
  readonly sequence: number;
  /** Whom a policy governs stands here as well, so that it is known when the policy itself cannot be read. */
  readonly identity: readonly (readonly [name: string, principals: readonly string[], digest: string])[];
  readonly secrets: readonly (readonly [secretName: string, digest: string])[];
}

/** One change: a policy set anew, or taken away when `content` is undefined. */
export type PolicyEdit =
  | { readonly kind: 'identity'; readonly name: string; readonly content: IdentityContent | undefined }
  | { readonly kind: 'secret'; readonly name: string; readonly content: SecretContent | undefined };

/**
 * Policies in the store: a record each, and a head that names all of them with their digests. The head is written with every change and is
 * what changes compete for; what it says is read as a whole, so that nobody ever sees half of a change, and a record that was swapped,
 * taken away, put back or slipped in is noticed.
 */
export class PolicyRecords {
  constructor(
    private readonly store: StoreDriver,
    private readonly sealing: PolicySeal,
  ) {}

  /**
   * What the store has, reusing what is `known`.
   * @throws CorruptRecordError when the head does not open, is gone, or is older than what is known
   */
  async load(known: LoadedPolicies): Promise<LoadedPolicies> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const entry = await this.store.get(HEAD);
      if (entry?.revision === known.revision && isWhole(known)) return known;
      if (entry === undefined) {
        if (known.sequence === 0) return known;
        throw new CorruptRecordError('The head of the policies', 'it is gone');
      }
      const head = await this.#openHead(entry.value);
      if (head.sequence < known.sequence)
        throw new CorruptRecordError(
          'The head of the policies',
          `it went back from ${known.sequence} to ${head.sequence}`,
        );
      const loaded = await this.#loadRecords(head, entry.revision, known);
      // A record that was written after the head was read is not what that head names: a newer head does.
      if (isWhole(loaded) || (await this.store.get(HEAD))?.revision === entry.revision) return loaded;
    }
    throw new CorruptRecordError('The head of the policies', 'it does not come to rest');
  }

  /** Makes a change of what was loaded, of several policies or even of none; undefined when somebody else changed something since. */
  async commit(loaded: LoadedPolicies, edits: readonly PolicyEdit[]): Promise<LoadedPolicies | undefined> {
    let after: LoadedPolicies = { ...loaded, sequence: loaded.sequence + 1 };
    const writes: StoreWrite[] = [];
    for (const edit of edits) {
      const key = (edit.kind === 'identity' ? IDENTITY : SECRET) + edit.name;
      const sealed = edit.content && (await this.sealing.seal(key, encode(plain(edit))));
      writes.push({ key, value: sealed ?? null });
      const edited = applyEdit(after, edit, sealed === undefined ? '' : digestOf(sealed));
      after = { ...edited, sequence: after.sequence };
    }
    const head = encode(headOf(after));
    if (head.byteLength > HEAD_LIMIT) {
      throw new PolicyLimitError(
        `There are ${after.identity.size} identity policies and ${after.secrets.size} secret policies, and their list takes more than ${HEAD_LIMIT} bytes; nothing was changed. Let one identity policy stand for several secret policies, or attach to fewer and wider principals.`,
      );
    }
    writes.push({ key: HEAD, value: await this.sealing.seal(HEAD, head) });
    const revision = await this.store.commit({ conditions: [{ key: HEAD, revision: loaded.revision }], writes });
    return revision === undefined ? undefined : { ...after, revision };
  }

  async #openHead(value: Uint8Array): Promise<Head> {
    try {
      const head = decode(await this.sealing.open(HEAD, value)) as Head;
      if (head.format === 1 && Number.isSafeInteger(head.sequence)) return head;
    } catch {
      // What opening says may come from foreign code; that it failed is all there is to tell.
    }
    throw new CorruptRecordError('The head of the policies', 'it does not open, or is of a later format');
  }

  async #loadRecords(head: Head, revision: number, known: LoadedPolicies): Promise<LoadedPolicies> {
    const identity = await inTurns(head.identity, async ([name, principals, digest]) => {
      const same = known.identity.get(name);
      if (same?.digest === digest && same.content !== undefined) return [name, same] as const;
      const content = await this.#read(IDENTITY + name, digest, (record) => identityContent(name, record));
      return [name, { principals, digest, content }] as const;
    });
    const secrets = await inTurns(head.secrets, async ([name, digest]) => {
      const same = known.secrets.get(name);
      if (same?.digest === digest && same.content !== undefined) return [name, same] as const;
      const content = await this.#read(SECRET + name, digest, (record) => secretContent(name, record));
      return [name, { digest, content }] as const;
    });
    return { sequence: head.sequence, revision, identity: new Map(identity), secrets: new Map(secrets) };
  }

  async #read<Content>(
    key: string,
    digest: string,
    parse: (record: StoredPolicy) => Content,
  ): Promise<Content | undefined> {
    const entry = await this.store.get(key);
    if (entry === undefined || digestOf(entry.value) !== digest) return undefined;
    try {
      return parse(decode(await this.sealing.open(key, entry.value)) as StoredPolicy);
    } catch {
      // Corrupt, or of a later version of the dialect: it governs, so it is not left out but denies.
      return undefined;
    }
  }
}

function isWhole({ identity, secrets }: LoadedPolicies): boolean {
  return [...identity.values(), ...secrets.values()].every(({ content }) => content !== undefined);
}

export function identityContent(name: string, { principals, document, ...stamp }: StoredPolicy): IdentityContent {
  const policy = checkIdentityPolicy({ name, principals, document });
  return { ...stamp, policy, compiled: compileIdentityPolicy(policy) };
}

export function secretContent(name: string, { document, ...stamp }: StoredPolicy): SecretContent {
  const valid = checkSecretPolicy(name, document);
  const { sequence, updatedAt, updatedBy } = stamp;
  return { sequence, updatedAt, updatedBy, document: valid, compiled: compileStatements(`secret/${name}`, valid) };
}

/** What the store would hold after a change, at the next sequence. */
export function applyEdit(loaded: LoadedPolicies, edit: PolicyEdit, digest: string): LoadedPolicies {
  const identity = new Map(loaded.identity);
  const secrets = new Map(loaded.secrets);
  if (edit.kind === 'identity') {
    if (edit.content === undefined) identity.delete(edit.name);
    else identity.set(edit.name, { digest, content: edit.content, principals: edit.content.policy.principals });
  } else if (edit.content === undefined) secrets.delete(edit.name);
  else secrets.set(edit.name, { digest, content: edit.content });
  return { sequence: loaded.sequence + 1, revision: loaded.revision, identity, secrets };
}

/** What a record holds. */
export interface StoredPolicy extends Stamp {
  readonly principals?: readonly string[];
  readonly document: unknown;
}

function plain({ kind, content }: PolicyEdit): StoredPolicy | undefined {
  if (content === undefined) return undefined;
  const { sequence, updatedAt, updatedBy } = content;
  const stamp = { sequence, updatedAt, updatedBy };
  if (kind === 'secret' && 'document' in content) return { ...stamp, document: content.document };
  if ('policy' in content)
    return { ...stamp, principals: content.policy.principals, document: content.policy.document };
  return undefined;
}

function headOf({ sequence, identity, secrets }: LoadedPolicies): Head {
  return {
    format: 1,
    sequence,
    identity: [...identity].map(([name, { principals, digest }]) => [name, principals, digest] as const),
    secrets: [...secrets].map(([name, { digest }]) => [name, digest] as const),
  };
}

const encode = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
const decode = (bytes: Uint8Array): unknown => JSON.parse(Buffer.from(bytes).toString('utf8'));
const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('base64url');

async function inTurns<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let from = 0; from < items.length; from += READS_AT_ONCE)
    results.push(...(await Promise.all(items.slice(from, from + READS_AT_ONCE).map(work))));
  return results;
}
