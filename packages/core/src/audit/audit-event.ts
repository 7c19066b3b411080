import { isSecretsError } from '../foundation/errors.js';

/** What an event may carry beside its named fields: plain JSON. Bytes are refused, since a value could hide in them. */
export type AuditData =
  string | number | boolean | null | undefined | readonly AuditData[] | { readonly [key: string]: AuditData };

/** Who asked. */
export interface AuditIdentity {
  /** `application`, `rotator`, `operator`, `remote` or `system`. */
  readonly type: string;
  /** Whom policies name, such as `application/orders`. All instances of an application share it. */
  readonly principalId: string;
  readonly userName?: string;
  readonly accountId?: string;
  /** Which running process it was. */
  readonly instanceId?: string;
}

/**
 * One operation, or one thing that happened by itself, in the field names of Alibaba Cloud ActionTrail ("Structure of an ActionTrail event"),
 * so that what reads those reads ours. Never a value: not in `requestParameters`, not in a message.
 */
export interface AuditEvent {
  /** Unique; 1–64 characters. */
  readonly eventId: string;
  /** When it was asked for: ISO 8601 in UTC with milliseconds. When it was recorded stands beside the event in the log. */
  readonly eventTime: string;
  /** The operation, such as `GetSecretValue`. */
  readonly eventName: string;
  readonly eventRW: 'Read' | 'Write';
  /** Who handled it, such as the name of the application. */
  readonly eventSource: string;
  /** `ApiCall` for what somebody asked for, `ServiceEvent` for what happened by itself. */
  readonly eventType: 'ApiCall' | 'ServiceEvent';
  readonly eventVersion?: string;
  readonly serviceName?: string;
  readonly userIdentity: AuditIdentity;
  readonly sourceIpAddress?: string;
  readonly userAgent?: string;
  readonly requestId?: string;
  /** The secret, as a rule. */
  readonly resourceName?: string;
  /** `Secret`, `Policy`, `Key`… */
  readonly resourceType?: string;
  /** Missing for what went well; `AccessDenied` for what policies forbid. */
  readonly errorCode?: string;
  readonly errorMessage?: string;
  readonly requestParameters?: Readonly<Record<string, AuditData>>;
  readonly additionalEventData?: Readonly<Record<string, AuditData>>;
}

/** An event to be recorded; the log fills in what is missing. */
export type AuditEventInput = Omit<AuditEvent, 'eventId' | 'eventTime' | 'eventSource' | 'eventType' | 'userIdentity'> &
  Partial<Pick<AuditEvent, 'eventId' | 'eventTime' | 'eventSource' | 'eventType' | 'userIdentity'>>;

/** The `errorCode` of what policies forbid. */
export const ACCESS_DENIED = 'AccessDenied';

/** How an operation went, as far as the log knows. */
export type AuditOutcome = 'success' | 'denied' | 'failure';

/** How the operation went, going by the event alone. */
export function outcomeOf(event: Pick<AuditEvent, 'errorCode'>): AuditOutcome {
  if (event.errorCode === undefined) return 'success';
  return event.errorCode === ACCESS_DENIED ? 'denied' : 'failure';
}

/** What an event says of an error: code and message of ours; of a foreign error only that there was one, since its text may quote anything. */
export function errorFields(error: unknown): { readonly errorCode: string; readonly errorMessage: string } {
  if (isSecretsError(error)) {
    const errorCode = error.code === 'ACCESS_DENIED' ? ACCESS_DENIED : error.code;
    return { errorCode, errorMessage: error.message };
  }
  return { errorCode: 'InternalError', errorMessage: 'An error that is not one of nestjs-secrets; see the logs.' };
}
