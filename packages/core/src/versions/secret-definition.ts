import type { StandardSchemaV1 } from '@standard-schema/spec';
import { InvalidSecretValueError, SecretDefinedTwiceError } from '../foundation/errors.js';
import { deepFreeze } from './secret-value.js';
import type { Duration, RotationPolicy } from './rotation-policy.js';
import { checkSecretName } from './secret-name.js';

/** Makes something a definition needs at start, with what Nest injects for `inject`, in that order. */
export interface InjectedFactory<T> {
  readonly inject?: readonly unknown[];
  readonly useFactory: (...dependencies: never[]) => T | Promise<T>;
}

export interface SecretDefinitionOptions<T> {
  readonly description?: string;
  /** A word for what it is, such as `database-credentials`; `generic` by default. */
  readonly type?: string;
  readonly tags?: Readonly<Record<string, string>>;
  /** Each version expires this long after it was made. */
  readonly ttl?: Duration;
  /**
   * How the first value is made when the store has none: a function, a factory with dependencies, or `'rotator'`, which lets the rotator of
   * `rotation` create, apply and verify it. Without it the secret must exist, or the application does not start.
   */
  readonly initial?: (() => T | Promise<T>) | InjectedFactory<T> | 'rotator';
  /** Written to the store at start, so that the code says how a secret rotates: a policy, or a factory where configuration decides. */
  readonly rotation?: RotationPolicy | InjectedFactory<RotationPolicy>;
}

/** A secret's name with its type: what `forFeature`, `@InjectSecret` and `getSecretToken` take. */
export interface SecretDefinition<T = unknown> extends SecretDefinitionOptions<T> {
  readonly name: string;
  readonly schema?: StandardSchemaV1<unknown, T>;
}

/**
 * Names a secret and says what its value looks like. Any schema library of the Standard Schema (https://standardschema.dev) types and
 * checks it: zod, valibot, arktype and others. The schema's output is what consumers see.
 * @throws InvalidSecretNameError
 */
export function defineSecret<T>(
  name: string,
  schema?: StandardSchemaV1<unknown, T>,
  options: SecretDefinitionOptions<NoInfer<T>> = {},
): SecretDefinition<T> {
  return { ...options, name: checkSecretName(name), ...(schema === undefined ? {} : { schema }) };
}

/** The definitions of one application, each secret's at most once. */
export class SecretDefinitions {
  readonly #definitions = new Map<string, SecretDefinition>();

  /** @throws SecretDefinedTwiceError when another definition of that name is known */
  add(definition: SecretDefinition): void {
    const known = this.#definitions.get(definition.name);
    if (known !== undefined && known !== definition) throw new SecretDefinedTwiceError(definition.name);
    this.#definitions.set(definition.name, definition);
  }

  /**
   * What the schema of a secret makes of a value, frozen; the value itself where no schema is known.
   * @throws InvalidSecretValueError naming the paths that do not fit
   */
  async check(name: string, value: unknown): Promise<unknown> {
    const schema = this.#definitions.get(name)?.schema;
    if (schema === undefined) return value;
    const result = await schema['~standard'].validate(value);
    if (result.issues === undefined) return deepFreeze(result.value);
    // The messages of some schema libraries quote what they were given, so only the paths travel.
    const paths = result.issues.map((issue) =>
      (issue.path ?? []).map((part) => String(typeof part === 'object' ? part.key : part)).join('.'),
    );
    const where = [...new Set(paths.map((path) => (path === '' ? 'the value as a whole' : path)))].join(', ');
    throw new InvalidSecretValueError(name, `The value of ${name} does not fit its schema at: ${where}.`);
  }
}
