import { UseGuards, type ExecutionContext } from '@nestjs/common';
import { AUDIT_RESOURCE, STORE_RESOURCE, secretResource, type Resource } from '../access/access-request.js';
import { ACTIONS, type ActionName } from '../access/actions.js';
import { SecretsError } from '../foundation/errors.js';
import { checkSecretName } from '../versions/secret-name.js';
import { AUTHORIZE_METADATA, AuthorizeGuard, type AuthorizeRule } from './authorize.guard.js';

/** What a handler's action is done to: a secret by its name, one named by a route parameter, or whatever a function finds. */
export type AuthorizeTarget =
  | { readonly secret: string }
  | { readonly secretParam: string }
  | ((context: ExecutionContext) => Resource | Promise<Resource>);

/**
 * Lets a route handler run only when the policies of this application's secrets manager allow its caller the action: the same policies,
 * decided the same way. Several on one handler must all allow. Without a principal 401, denied 403, an illegal secret name 400. The target
 * may be left out for actions on the audit log or the store as a whole.
 *
 * Needs `AUTHORIZE_OPTIONS`, which say who is calling.
 * @throws SecretsError `AUTHORIZE_INVALID`, where it is written
 */
export function Authorize(action: ActionName, target?: AuthorizeTarget): MethodDecorator {
  const rule: AuthorizeRule = { action, resource: resourceOf(action, target) };
  return <T>(holder: object, key: string | symbol, descriptor: TypedPropertyDescriptor<T>) => {
    const handler: unknown = descriptor.value;
    if (typeof handler !== 'function') return;
    const rules: readonly AuthorizeRule[] = Reflect.getMetadata(AUTHORIZE_METADATA, handler) ?? [];
    Reflect.defineMetadata(AUTHORIZE_METADATA, [...rules, rule], handler);
    // The guard looks at all of a handler's rules, so one is enough.
    if (rules.length === 0) UseGuards(AuthorizeGuard)(holder, key, descriptor);
  };
}

function resourceOf(action: ActionName, target: AuthorizeTarget | undefined): AuthorizeRule['resource'] {
  const type = ACTIONS.get(action)?.resource;
  if (type === undefined)
    throw new SecretsError('AUTHORIZE_INVALID', `@Authorize('${action}'): there is no such action; see OPERATIONS.`);
  if (typeof target === 'function') return target;
  if (target !== undefined) {
    if (type !== 'secret')
      throw new SecretsError('AUTHORIZE_INVALID', `@Authorize('${action}') is not about a secret.`);
    if ('secret' in target) {
      const resource = secretResource(checkSecretName(target.secret));
      return () => resource;
    }
    return (context) => secretResource(checkSecretName(routeParameter(context, target.secretParam)));
  }
  if (type === 'audit') return () => AUDIT_RESOURCE;
  if (type === 'store') return () => STORE_RESOURCE;
  throw new SecretsError(
    'AUTHORIZE_INVALID',
    `@Authorize('${action}') must say which ${type}: { secret }, { secretParam }, or a function that returns the resource.`,
  );
}

function routeParameter(context: ExecutionContext, name: string): unknown {
  const request = context.switchToHttp().getRequest<{ params?: Record<string, unknown> }>();
  return request.params !== undefined && Object.hasOwn(request.params, name) ? request.params[name] : undefined;
}
