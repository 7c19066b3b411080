import { AccessRequestError } from './access-errors.js';

/**
 * Who asks. `application`: the application that the module is part of; `rotator`: the engine at work for a rotator; `operator`: a human
 * with a console or command line; `remote`: a caller of an HTTP face.
 */
export type PrincipalKind = 'application' | 'rotator' | 'operator' | 'remote';

export const PRINCIPAL_KINDS: readonly PrincipalKind[] = ['application', 'rotator', 'operator', 'remote'];

/** Who asks, carried explicitly from call to call. Make one with `principalOf`. */
export interface Principal {
  readonly kind: PrincipalKind;
  readonly name: string;
  /** What policies call it: `kind/name`, such as `application/MyApp`. All instances of an application share it. */
  readonly id: string;
  /** Which process of the application, where that matters. */
  readonly instanceId: string | undefined;
  /** What its authentication vouches for, such as a team; the condition keys `secrets:PrincipalAttribute/<name>`. */
  readonly attributes: ReadonlyMap<string, string>;
}

const PRINCIPAL_NAME = /^[A-Za-z0-9/_+=.@:-]{1,192}$/;

/**
 * A principal, checked and frozen. Names are 1–192 of `A-Z a-z 0-9 / _ + = . @ : -`, so that neither a wildcard nor a letter that only looks
 * like another can become part of one.
 * @throws AccessRequestError
 */
export function principalOf(
  kind: PrincipalKind,
  name: string,
  details: { readonly instanceId?: string; readonly attributes?: Readonly<Record<string, string>> } = {},
): Principal {
  if (!PRINCIPAL_KINDS.includes(kind)) {
    throw new AccessRequestError(
      `${JSON.stringify(kind)} is not a kind of principal: use ${PRINCIPAL_KINDS.join(', ')}.`,
    );
  }
  if (!PRINCIPAL_NAME.test(name)) {
    throw new AccessRequestError(
      `${JSON.stringify(name.slice(0, 64))} cannot name a principal: use 1 to 192 characters of A-Z a-z 0-9 / _ + = . @ : -`,
    );
  }
  return Object.freeze({
    kind,
    name,
    id: `${kind}/${name}`,
    instanceId: details.instanceId,
    attributes: new Map(Object.entries(details.attributes ?? {})),
  });
}
