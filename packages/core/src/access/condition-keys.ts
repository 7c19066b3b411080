import { AccessRequestError } from './access-errors.js';
import { OPERATIONS } from './actions.js';
import { UNKNOWN, type AccessContext, type Resource, type Unknown } from './access-request.js';
import { parseAddress, type Address } from './ip-range.js';
import { PRINCIPAL_KINDS, type Principal } from './principal.js';

/** Everything a condition can look at. */
export class AccessRequest {
  #address: Address | undefined;

  constructor(
    readonly principal: Principal,
    readonly action: string,
    readonly resource: Resource,
    readonly context: AccessContext,
  ) {}

  /** Read once, and only when a condition asks. */
  get address(): Address | undefined {
    const { sourceAddress } = this.context;
    if (sourceAddress === undefined) return undefined;
    this.#address ??= parseAddress(sourceAddress);
    if (this.#address !== undefined) return this.#address;
    throw new AccessRequestError(
      `${JSON.stringify(sourceAddress.slice(0, 64))} is not an IP address, and a policy asks where the call came from. Give the address alone, without a port.`,
    );
  }
}

/** One value under a condition key. */
export type SingleFact = string | number | boolean | Address;
/** What a request has under a condition key: undefined is absent, `UNKNOWN` was not looked up. */
export type Fact = SingleFact | readonly string[] | undefined | Unknown;

/** `text` takes every operator but those of addresses, since tags are texts that may hold numbers or dates. */
export type FactKind = 'string' | 'text' | 'number' | 'date' | 'boolean' | 'address';

export interface ConditionKey {
  /** With a last part `<key>` it stands for a family, such as `secrets:ResourceTag/<key>`. */
  readonly name: string;
  readonly kind: FactKind;
  /** True when there can be several values, which takes `ForAnyValue:` or `ForAllValues:`. */
  readonly many: boolean;
  /** True when every request has the key or can have it; otherwise the table of actions says which do. */
  readonly everywhere: boolean;
  readonly meaning: string;
  /** All values it can have, where they are known. */
  readonly known?: readonly string[];
  /** `member` is what a family is asked for. */
  read(request: AccessRequest, member: string): Fact;
}

const own = (tags: Readonly<Record<string, string>> | undefined, key: string): string | undefined =>
  tags !== undefined && Object.hasOwn(tags, key) ? tags[key] : undefined;

const aboutSecret = ({ resource }: AccessRequest, read: (facts: NonNullable<Resource['facts']>) => Fact): Fact => {
  if (resource.facts !== undefined) return read(resource.facts);
  return resource.id.startsWith('secret/') ? UNKNOWN : undefined;
};

type Row = Pick<ConditionKey, 'name' | 'kind' | 'meaning' | 'known' | 'read'>;
const always = (row: Row): ConditionKey => ({ ...row, many: false, everywhere: true });
const sometimes = (row: Row): ConditionKey => ({ ...row, many: false, everywhere: false });

/** The condition keys there are. */
export const CONDITION_KEYS: readonly ConditionKey[] = [
  always({
    name: 'secrets:Principal',
    kind: 'string',
    meaning: 'who asks, such as `operator/alice`',
    read: ({ principal }) => principal.id,
  }),
  always({
    name: 'secrets:PrincipalKind',
    kind: 'string',
    meaning: '`application`, `rotator`, `operator` or `remote`',
    known: PRINCIPAL_KINDS,
    read: ({ principal }) => principal.kind,
  }),
  always({
    name: 'secrets:PrincipalAttribute/<key>',
    kind: 'text',
    meaning: 'what the authentication of the principal vouches for',
    read: ({ principal }, member) => principal.attributes.get(member),
  }),
  always({
    name: 'secrets:InstanceId',
    kind: 'string',
    meaning: 'the process of an application',
    read: ({ principal }) => principal.instanceId,
  }),
  always({
    name: 'secrets:SourceIp',
    kind: 'address',
    meaning: 'where the call came from; absent inside the process',
    read: ({ address }) => address,
  }),
  always({
    name: 'secrets:SecureTransport',
    kind: 'boolean',
    meaning: 'whether the call came over TLS; absent inside the process',
    read: ({ context }) => context.secureTransport,
  }),
  always({
    name: 'secrets:MFAPresent',
    kind: 'boolean',
    meaning: 'whether the caller proved a second factor; absent where nobody could say',
    read: ({ context }) => context.mfaPresent,
  }),
  always({
    name: 'secrets:UserAgent',
    kind: 'text',
    meaning: 'what the client calls itself; anyone can claim anything',
    read: ({ context }) => context.userAgent,
  }),
  always({
    name: 'secrets:CurrentTime',
    kind: 'date',
    meaning: 'when the call is decided',
    read: ({ context }) => context.time,
  }),
  always({
    name: 'secrets:EpochTime',
    kind: 'number',
    meaning: 'the same in seconds since 1970',
    read: ({ context }) => Math.floor(context.time / 1000),
  }),
  always({
    name: 'secrets:Operation',
    kind: 'string',
    meaning: 'the row of the action table; several share an action',
    known: Object.keys(OPERATIONS),
    read: ({ context }) => context.operation,
  }),
  sometimes({
    name: 'secrets:ResourceTag/<key>',
    kind: 'text',
    meaning: 'a tag of the secret',
    read: (request, member) => aboutSecret(request, ({ tags }) => own(tags, member)),
  }),
  sometimes({
    name: 'secrets:SecretType',
    kind: 'text',
    meaning: 'the type of the secret',
    read: (request) => aboutSecret(request, ({ secretType }) => secretType),
  }),
  sometimes({
    name: 'secrets:Stage',
    kind: 'string',
    meaning: 'the stage asked for; of several, each is decided by itself',
    read: ({ context }) => context.stage,
  }),
  sometimes({
    name: 'secrets:VersionId',
    kind: 'string',
    meaning: 'the version, where the request names one',
    read: ({ context }) => context.versionId,
  }),
  sometimes({
    name: 'secrets:RequestTag/<key>',
    kind: 'text',
    meaning: 'a tag that the request would set',
    read: ({ context }, member) => own(context.requestTags, member),
  }),
  {
    name: 'secrets:TagKeys',
    kind: 'text',
    many: true,
    everywhere: false,
    meaning: 'the keys of the tags that the request would set or take away',
    read: ({ context }) => context.tagKeys ?? (context.requestTags && Object.keys(context.requestTags)),
  },
  sometimes({
    name: 'secrets:RecoveryWindowDays',
    kind: 'number',
    meaning: 'days until a deleted secret is gone; 0 for at once',
    read: ({ context }) => context.recoveryWindowDays,
  }),
];

/** A condition key as a policy writes it, with the member it names of a family. */
export interface NamedKey {
  readonly key: ConditionKey;
  readonly member: string;
}

const FAMILY = '<key>';
const LONGEST_MEMBER = 128;

/** The key that a policy means; undefined for one that does not exist. */
export function findConditionKey(written: string): NamedKey | undefined {
  for (const key of CONDITION_KEYS) {
    if (key.name === written && !key.name.endsWith(FAMILY)) return { key, member: '' };
    if (!key.name.endsWith(FAMILY)) continue;
    const stem = key.name.slice(0, -FAMILY.length);
    const member = written.slice(stem.length);
    if (written.startsWith(stem) && member !== '' && member.length <= LONGEST_MEMBER) return { key, member };
  }
  return undefined;
}
