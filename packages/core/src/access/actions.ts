import type { ResourceType } from './access-request.js';

/** A condition key that only some operations have. */
export type OperationKey =
  | 'secrets:ResourceTag/<key>'
  | 'secrets:SecretType'
  | 'secrets:Stage'
  | 'secrets:VersionId'
  | 'secrets:RequestTag/<key>'
  | 'secrets:TagKeys'
  | 'secrets:RecoveryWindowDays';

export interface Operation<Action extends string = string> {
  /** What policies call it. */
  readonly action: Action;
  readonly access: 'read' | 'write';
  readonly resource: ResourceType;
  /** Where it comes in. */
  readonly door: string;
  readonly keys: readonly OperationKey[];
}

const SECRET = ['secrets:ResourceTag/<key>', 'secrets:SecretType'] as const;
const VERSION = [...SECRET, 'secrets:Stage', 'secrets:VersionId'] as const;
const NAMED_VERSION = [...SECRET, 'secrets:VersionId'] as const;
const TAGGING = [...SECRET, 'secrets:RequestTag/<key>', 'secrets:TagKeys'] as const;
const UNTAGGING = [...SECRET, 'secrets:TagKeys'] as const;
const DELETION = [...SECRET, 'secrets:RecoveryWindowDays'] as const;

function row<const Name extends string>(
  name: Name,
  access: 'read' | 'write',
  resource: ResourceType,
  door: string,
  keys: readonly OperationKey[] = resource === 'secret' ? SECRET : [],
): Operation<`secrets:${Name}`> {
  return { action: `secrets:${name}`, access, resource, door, keys };
}

const M = 'SecretsManager';

/**
 * Every operation, with what it is called in policies: the one table. Types, validation and the documentation derive from it. Names are those
 * of Alibaba Cloud KMS where it has the operation. Whatever hands out a value does it under `secrets:GetSecretValue`, so that a denial of
 * that closes every door; `secrets:Operation` tells the doors apart.
 */
export const OPERATIONS = {
  createSecret: row('CreateSecret', 'write', 'secret', `${M}.createSecret, .ensureSecret`, TAGGING),
  getSecretValue: row('GetSecretValue', 'read', 'secret', `${M}.getSecretValue`, VERSION),
  putSecretValue: row('PutSecretValue', 'write', 'secret', `${M}.putSecretValue`, VERSION),
  describeSecret: row('DescribeSecret', 'read', 'secret', `${M}.describeSecret`),
  listSecrets: row('ListSecrets', 'read', 'secret', `${M}.listSecrets`),
  listVersions: row('ListSecretVersionIds', 'read', 'secret', `${M}.listVersions`),
  updateVersionStage: row('UpdateSecretVersionStage', 'write', 'secret', `${M}.updateVersionStage`, VERSION),
  updateSecret: row('UpdateSecret', 'write', 'secret', `${M}.updateSecret`, TAGGING),
  updateRotationPolicy: row('UpdateSecretRotationPolicy', 'write', 'secret', `${M}.updateRotationPolicy`),
  pauseRotation: row('PauseRotation', 'write', 'secret', `${M}.pauseRotation`),
  resumeRotation: row('ResumeRotation', 'write', 'secret', `${M}.resumeRotation`),
  rotateSecret: row('RotateSecret', 'write', 'secret', `${M}.rotateSecret`),
  emergencyRotateSecret: row('EmergencyRotateSecret', 'write', 'secret', `${M}.rotateSecret, emergency`),
  rehearseRotation: row('RehearseRotation', 'write', 'secret', `${M}.rotateSecret, dry run`),
  observeRotations: row('ObserveRotations', 'read', 'store', `${M}.rotationEvents$`),
  deleteSecret: row('DeleteSecret', 'write', 'secret', `${M}.deleteSecret`, DELETION),
  restoreSecret: row('RestoreSecret', 'write', 'secret', `${M}.restoreSecret`),
  destroyVersion: row('DestroySecretVersion', 'write', 'secret', `${M}.destroyVersion`, NAMED_VERSION),
  observeLifecycle: row('ObserveLifecycle', 'read', 'store', `${M}.lifecycleEvents$`),
  getRandomPassword: row('GetRandomPassword', 'read', 'store', `${M}.getRandomPassword`),
  tagSecret: row('TagResource', 'write', 'secret', `${M}.tag`, TAGGING),
  untagSecret: row('UntagResource', 'write', 'secret', `${M}.untag`, UNTAGGING),
  setSecretPolicy: row('SetSecretPolicy', 'write', 'secret', `${M}.setSecretPolicy`),
  getSecretPolicy: row('GetSecretPolicy', 'read', 'secret', `${M}.getSecretPolicy`),
  deleteSecretPolicy: row('DeleteSecretPolicy', 'write', 'secret', `${M}.setSecretPolicy, null`),
  rewrap: row('RewrapSecret', 'write', 'secret', `${M}.keys.rewrap, of a secret`),

  exportStore: row('ExportStore', 'read', 'store', `${M}.backup.exportStore`),
  importStore: row('ImportStore', 'write', 'store', `${M}.backup.importStore`),
  verifyStore: row('VerifyStore', 'read', 'store', `${M}.integrity.verifyStore, .storeHead`),
  acceptRestore: row('AcceptRestore', 'write', 'store', `${M}.integrity.acceptRestore`),

  exportValue: row('GetSecretValue', 'read', 'secret', 'export of the store: every version of each secret', VERSION),
  deliverVersion: row('GetSecretValue', 'read', 'secret', 'live handle: a version reaches it', VERSION),
  getCandidates: row('GetSecretValue', 'read', 'secret', 'live pool: the candidates, each by its stage', VERSION),
  acknowledgeVersion: row('AcknowledgeVersion', 'write', 'secret', 'instance: it runs on a version', NAMED_VERSION),
  renewInstance: row('RenewInstance', 'write', 'store', 'instance: it joins, with its heartbeat lease'),

  createPendingVersion: row('CreatePendingVersion', 'write', 'secret', 'rotation: create', NAMED_VERSION),
  applyPendingVersion: row('ApplyPendingVersion', 'write', 'secret', 'rotation: apply', NAMED_VERSION),
  verifyPendingVersion: row('VerifyPendingVersion', 'write', 'secret', 'rotation: verify', NAMED_VERSION),
  promoteVersion: row('PromoteVersion', 'write', 'secret', 'rotation: promote', NAMED_VERSION),
  settleVersion: row('SettleVersion', 'write', 'secret', 'rotation: settle', NAMED_VERSION),
  retireVersion: row('RetireVersion', 'write', 'secret', 'rotation: retire', NAMED_VERSION),
  undoRotation: row('UndoRotation', 'write', 'secret', 'rotation: taken back before promote', NAMED_VERSION),
  renewLease: row('RenewLease', 'write', 'secret', 'rotation: the credential of an instance goes on', NAMED_VERSION),
  rollBackRotation: row('RollBackRotation', 'write', 'secret', 'rotation: rolled back after promote', NAMED_VERSION),

  putPolicy: row('PutPolicy', 'write', 'policy', `${M}.policies.putPolicy`),
  getPolicy: row('GetPolicy', 'read', 'policy', `${M}.policies.getPolicy`),
  listPolicies: row('ListPolicies', 'read', 'policy', `${M}.policies.listPolicies`),
  deletePolicy: row('DeletePolicy', 'write', 'policy', `${M}.policies.deletePolicy`),
  simulate: row('SimulatePolicy', 'read', 'store', `${M}.policies.simulate`),

  listKeys: row('ListKeys', 'read', 'key', `${M}.keys.listKeys`),
  describeKey: row('DescribeKey', 'read', 'key', `${M}.keys.describeKey`),
  createKey: row('CreateKey', 'write', 'key', `${M}.keys.createKey`),
  createKeyVersion: row('CreateKeyVersion', 'write', 'key', `${M}.keys.rotateKey`),
  enableKey: row('EnableKey', 'write', 'key', `${M}.keys.enable`),
  disableKey: row('DisableKey', 'write', 'key', `${M}.keys.disable`),
  destroyKey: row('DestroyKey', 'write', 'key', `${M}.keys.scheduleDestruction`),
  cancelKeyDestruction: row('CancelKeyDestruction', 'write', 'key', `${M}.keys.cancelDestruction`),
  setKeyAlias: row('SetKeyAlias', 'write', 'key', `${M}.keys.setAlias`),
  rewrapKey: row('RewrapKey', 'write', 'key', `${M}.keys.rewrap, of a key or everything`),
  moveKeys: row('MoveKeys', 'write', 'key', `${M}.keys.move`),
  observeKeys: row('ObserveKeys', 'read', 'key', `${M}.keys.events$`),

  purgeSecret: row('PurgeSecret', 'write', 'secret', 'lifecycle: a deleted secret is removed'),
  purgeVersion: row('PurgeSecretVersion', 'write', 'secret', 'lifecycle: old versions are destroyed'),
  purgeKeyVersion: row('PurgeKeyVersion', 'write', 'key', 'lifecycle: a version of a key is destroyed'),

  lookupEvents: row('LookupEvents', 'read', 'audit', `${M}.audit.lookupEvents, .whoRead, .anomalies$`),
  verifyAudit: row('VerifyAudit', 'read', 'audit', `${M}.audit.verify`),
  repairAudit: row('RepairAudit', 'write', 'audit', `${M}.audit.repair, of a torn last line`),
} as const satisfies Record<string, Operation>;

export type OperationName = keyof typeof OPERATIONS;
/** What a statement may allow or deny, such as `secrets:GetSecretValue`. */
export type ActionName = (typeof OPERATIONS)[OperationName]['action'];

/** An action, with all of its operations taken together. */
export interface ActionDescription {
  readonly name: ActionName;
  readonly access: 'read' | 'write';
  readonly resource: ResourceType;
  /** Names of the condition keys that its requests can have beside those that every request can. */
  readonly keys: ReadonlySet<string>;
}

/** Every action by its name, in the order of the table. */
export const ACTIONS: ReadonlyMap<string, ActionDescription> = new Map(
  Object.values(OPERATIONS).map(({ action, access, resource, keys }) => [
    action,
    { name: action, access, resource, keys: new Set<string>(keys) },
  ]),
);
