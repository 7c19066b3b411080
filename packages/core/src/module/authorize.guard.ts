import {
  BadRequestException,
  type CanActivate,
  type ExecutionContext,
  ForbiddenException,
  Inject,
  Injectable,
  UnauthorizedException,
} from '@nestjs/common';
import type { AccessContext, RequestContext, Resource } from '../access/access-request.js';
import type { ActionName } from '../access/actions.js';
import type { Decision } from '../access/decision.js';
import type { Principal } from '../access/principal.js';
import { systemClock, type Clock } from '../foundation/clock.js';
import { isSecretsError } from '../foundation/errors.js';

export const AUTHORIZE_METADATA = '@nestjs-secrets/authorize';
/** The injection token of what decides: an `AccessControl`. */
export const ACCESS_CONTROL = '@nestjs-secrets/access-control';
/** The injection token of the guard's `AuthorizeOptions`. */
export const AUTHORIZE_OPTIONS = '@nestjs-secrets/authorize-options';

/** What decides. It looks up what policies ask about a secret itself: the guard has its name only. */
export interface AccessControl {
  decide(
    principal: Principal,
    action: ActionName,
    resource: Resource,
    context: AccessContext,
  ): Decision | Promise<Decision>;
}

export interface AuthorizeOptions {
  /** Who is calling, as the application's own authentication says (`principalOf`); undefined for nobody. */
  readonly principal: (context: ExecutionContext) => Principal | undefined | Promise<Principal | undefined>;
  /** Overrides what is read from the HTTP request: its address (`request.ip`), user agent and `x-request-id`, and whether it came over TLS. */
  readonly requestContext?: (context: ExecutionContext) => Omit<RequestContext, 'time'>;
  /** For tests. */
  readonly clock?: Clock;
}

/** One `@Authorize()`. */
export interface AuthorizeRule {
  readonly action: ActionName;
  readonly resource: (context: ExecutionContext) => Resource | Promise<Resource>;
}

/** Behind `@Authorize()`. */
@Injectable()
export class AuthorizeGuard implements CanActivate {
  constructor(
    @Inject(ACCESS_CONTROL) private readonly access: AccessControl,
    @Inject(AUTHORIZE_OPTIONS) private readonly options: AuthorizeOptions,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const { principal: principalOf, requestContext = readRequest, clock = systemClock } = this.options;
    const principal = await principalOf(context);
    if (principal === undefined) throw new UnauthorizedException();
    const rules: readonly AuthorizeRule[] = Reflect.getMetadata(AUTHORIZE_METADATA, context.getHandler()) ?? [];
    for (const { action, resource: find } of rules) {
      const resource = await legal(() => find(context));
      const request = { ...requestContext(context), time: clock.now() };
      const { allowed } = await this.access.decide(principal, action, resource, request);
      // Which policy decided is for the audit log and for `simulate`, not for whoever was turned away.
      if (!allowed) {
        const message = `${principal.id} may not do ${action} on ${resource.id}`;
        throw new ForbiddenException({ statusCode: 403, error: 'Forbidden', code: 'ACCESS_DENIED', message });
      }
    }
    return rules.length > 0;
  }
}

async function legal(find: () => Resource | Promise<Resource>): Promise<Resource> {
  try {
    return await find();
  } catch (error) {
    if (!isSecretsError(error, 'SECRET_NAME_INVALID')) throw error;
    throw new BadRequestException({ statusCode: 400, error: 'Bad Request', code: error.code, message: error.message });
  }
}

/** As Express and Fastify have them, both with their own say in which proxies to trust. */
interface HttpRequest {
  readonly ip?: string;
  readonly protocol?: string;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
}

function readRequest(context: ExecutionContext): Omit<RequestContext, 'time'> {
  if (context.getType() !== 'http') return {};
  const { ip, protocol, headers } = context.switchToHttp().getRequest<HttpRequest>();
  const [userAgent, requestId] = [headers['user-agent'], headers['x-request-id']];
  return {
    ...(ip === undefined ? {} : { sourceAddress: ip }),
    ...(typeof userAgent === 'string' ? { userAgent } : {}),
    ...(typeof requestId === 'string' ? { requestId } : {}),
    secureTransport: protocol === 'https',
  };
}
