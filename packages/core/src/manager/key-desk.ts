import type { Observable } from 'rxjs';
import { keyResource, secretResource } from '../access/access-request.js';
import type { OperationName } from '../access/actions.js';
import type { Caller } from '../doors/caller.js';
import type { Asked } from '../doors/door.js';
import { observed } from '../doors/observed.js';
import { isSecretsError } from '../foundation/errors.js';
import type { KeyDescription, KeyPage } from '../keys/key-descriptions.js';
import type { KeyEvent, RewrapReport } from '../keys/key-events.js';
import type { KeyMoveReport } from '../keys/key-move.js';
import type {
  CreateKeyOptions,
  MoveKeysOptions,
  RewrapScope,
  RotateKeyOptions,
  ScheduleDestructionOptions,
} from '../keys/key-requests.js';
import { checkSecretName } from '../versions/secret-name.js';
import type { SecretsManagerParts } from './manager-parts.js';

const LONGEST_SHOWN = 128;

/**
 * `SecretsManager.keys`: the master keys. A key is called by its id or by an alias; policies speak of ids. See docs/keys.md.
 *
 * Every method throws `KeyNotFoundError` for an unknown key.
 */
export class KeyDesk {
  constructor(
    private readonly parts: SecretsManagerParts,
    private readonly caller: Caller,
  ) {}

  /** What happens to keys in this process, as it happens; nothing is replayed. Completes on shutdown. */
  get events$(): Observable<KeyEvent> {
    const asked: Asked = { operation: 'observeKeys', resource: keyResource('*') };
    return observed(this.parts.door, this.caller, asked, this.parts.keys.events$);
  }

  /**
   * Makes a key, or takes one up that the provider has. Resolves once every instance can use it.
   * @throws KeyUnsupportedError when the provider makes no keys and no `id` is given
   * @throws KeyNotPublishedError when some instance does not have it by the deadline
   */
  createKey(options: CreateKeyOptions = {}): Promise<KeyDescription> {
    const { id, alias, description } = options;
    const asked: Asked = {
      operation: 'createKey',
      resource: keyResource(shown(id ?? '*')),
      parameters: { id, alias, description },
    };
    return this.parts.door.write(this.caller, asked, () => this.parts.keys.createKey(options));
  }

  /** In the order of their ids, up to 100 a page. */
  listKeys(options: { readonly after?: string; readonly limit?: number } = {}): Promise<KeyPage> {
    const asked: Asked = { operation: 'listKeys', resource: keyResource('*'), parameters: { ...options } };
    return this.parts.door.read(this.caller, asked, () => this.parts.keys.listKeys(options));
  }

  async describeKey(key: string): Promise<KeyDescription> {
    const asked = await this.#asked('describeKey', key);
    return this.parts.door.read(this.caller, asked, () => this.parts.keys.describeKey(key));
  }

  /**
   * Gives a key its next version. Every instance must be able to open what it wraps before anything is sealed under it; then it is active, the one before it
   * still opens, and what is under the key is sealed anew in the background (see `rewrap`).
   * @throws KeyUnsupportedError when there is no next version and the provider makes none
   * @throws KeyNotPublishedError when some instance does not have it by the deadline
   */
  async rotateKey(key: string, options: RotateKeyOptions = {}): Promise<KeyDescription> {
    const asked = await this.#asked('createKeyVersion', key, { rewrap: options.rewrap });
    return this.parts.door.write(this.caller, asked, () => this.parts.keys.rotateKey(key, options));
  }

  /** Takes `disable` back, for one version or all, and calls off a destruction. */
  async enable(key: string, version?: number): Promise<KeyDescription> {
    const asked = await this.#asked('enableKey', key, { version });
    return this.parts.door.write(this.caller, asked, () => this.parts.keys.enable(key, version));
  }

  /**
   * Has one version, or all of a key, neither seal nor open anything, on every instance, until it is enabled again. What instances hold already stays with
   * them.
   * @throws KeyInUseError for the default key as a whole
   */
  async disable(key: string, version?: number): Promise<KeyDescription> {
    const asked = await this.#asked('disableKey', key, { version });
    return this.parts.door.write(this.caller, asked, () => this.parts.keys.disable(key, version));
  }

  /**
   * Disables one version, or all of a key, and destroys it after a recovery window of 7 to 30 days. Unless `shred` is given, nothing may be sealed under it.
   * @throws KeyInUseError
   */
  async scheduleDestruction(key: string, options: ScheduleDestructionOptions = {}): Promise<KeyDescription> {
    const { version, shred, recoveryWindow } = options;
    const asked = await this.#asked('destroyKey', key, { version, shred, recoveryWindow });
    return this.parts.door.write(this.caller, asked, () => this.parts.keys.scheduleDestruction(key, options));
  }

  /** Calls a destruction off and enables what it had disabled. */
  async cancelDestruction(key: string, version?: number): Promise<KeyDescription> {
    const asked = await this.#asked('cancelKeyDestruction', key, { version });
    return this.parts.door.write(this.caller, asked, () => this.parts.keys.cancelDestruction(key, version));
  }

  /** Points an alias to a key; null takes it away. The alias `default` always points to one: what names no key is under it from then on. */
  async setAlias(alias: string, key: string | null): Promise<void> {
    // Whoever moves an alias has a say in the key that it leaves, and in the one that it comes to.
    const named = typeof alias === 'string' ? alias : '';
    const asked = await this.#asked('setKeyAlias', key ?? named, { alias: shown(named), key: key ?? undefined });
    if (key !== null) await this.parts.door.check(this.caller, await this.#asked('setKeyAlias', named));
    await this.parts.door.write(this.caller, asked, () => this.parts.keys.setAlias(alias, key));
  }

  /**
   * Seals everything in the scope anew that is not under the active version of its key, while the application works. For a key, or everything, it goes on in
   * another instance when this one dies. Resolves when it is through, or the application stops.
   */
  async rewrap(scope: RewrapScope): Promise<RewrapReport> {
    const work = (): Promise<RewrapReport> => this.parts.keys.rewrap(scope);
    if (scope !== 'all' && 'secret' in scope) {
      const resource = secretResource(checkSecretName(scope.secret));
      return this.parts.door.write(this.caller, { operation: 'rewrap', resource }, work);
    }
    const asked: Asked =
      scope === 'all'
        ? { operation: 'rewrapKey', resource: keyResource('*') }
        : await this.#asked('rewrapKey', scope.key);
    return this.parts.door.write(this.caller, asked, work);
  }

  /**
   * Moves everything from the keys of one provider to those of the other, while the application works; all instances must have been started with `movingKeys`. Called
   * again, also elsewhere and after a crash, it goes on. Resolves with what is left under the old provider, which is needed no more when that is nothing.
   * @throws KeyRequestError without `movingKeys`, or when the new provider has no key for one of the old
   * @throws KeyNotPublishedError when some instance does not have the new keys by the deadline; nothing is sealed under them then
   */
  move(options: MoveKeysOptions = {}): Promise<KeyMoveReport> {
    const asked: Asked = { operation: 'moveKeys', resource: keyResource('*') };
    return this.parts.door.write(this.caller, asked, () => this.parts.keys.move(options));
  }

  /** Policies speak of ids: an alias must not be a way around them, so it is looked up before anything is decided. */
  async #asked(operation: OperationName, key: string, parameters: Asked['parameters'] = {}): Promise<Asked> {
    const id = await this.#idOf(key);
    return {
      operation,
      resource: keyResource(shown(id)),
      parameters: { ...parameters, ...(id === key ? {} : { alias: shown(key) }) },
    };
  }

  async #idOf(key: string): Promise<string> {
    try {
      return await this.parts.versions.keys.records.resolve(key);
    } catch (error) {
      // What there is not is told to those only who may ask.
      if (isSecretsError(error, 'KEY_NOT_FOUND')) return key;
      throw error;
    }
  }
}

function shown(text: unknown): string {
  return typeof text === 'string' ? text.slice(0, LONGEST_SHOWN) : '';
}
