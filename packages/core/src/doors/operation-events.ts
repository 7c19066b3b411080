import type { Resource, ResourceType } from '../access/access-request.js';
import { OPERATIONS, type OperationName } from '../access/actions.js';

const PREFIX = 'secrets:';

/** Deliveries have a name of their own, since `secrets:GetSecretValue` is what somebody asked for. */
const OWN_NAMES: Readonly<Partial<Record<OperationName, string>>> = {
  deliverVersion: 'DeliverSecretVersion',
  getCandidates: 'DeliverSecretVersion',
};

/** What the log calls an operation: as its action, without the prefix. */
export function eventNameOf(operation: OperationName): string {
  return OWN_NAMES[operation] ?? OPERATIONS[operation].action.slice(PREFIX.length);
}

const TYPE_NAMES: Readonly<Record<ResourceType, string>> = {
  secret: 'Secret',
  policy: 'Policy',
  key: 'Key',
  audit: 'AuditLog',
  store: 'Store',
};

/** `resourceType` and `resourceName` of an event. */
export function resourceFieldsOf(
  operation: OperationName,
  { id }: Resource,
): { readonly resourceType: string; readonly resourceName: string | undefined } {
  const type = OPERATIONS[operation].resource;
  const name = id.slice(type.length + 1);
  return { resourceType: TYPE_NAMES[type], resourceName: name === '' ? undefined : name };
}
