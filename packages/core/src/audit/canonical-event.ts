import { AuditEventError } from './audit-errors.js';
import type { AuditEvent, AuditIdentity } from './audit-event.js';

/** In the order they are written: by UTF-16 code units, as RFC 8785 asks. */
const TEXT_FIELDS_BEFORE_IDENTITY = [
  'errorCode',
  'errorMessage',
  'eventId',
  'eventName',
  'eventRW',
  'eventSource',
  'eventTime',
  'eventType',
  'eventVersion',
  'requestId',
] as const;
const TEXT_FIELDS_AFTER_PARAMETERS = [
  'resourceName',
  'resourceType',
  'serviceName',
  'sourceIpAddress',
  'userAgent',
] as const;
const IDENTITY_FIELDS = ['accountId', 'instanceId', 'principalId', 'type', 'userName'] as const;
const REQUIRED_FIELDS = ['eventId', 'eventName', 'eventSource', 'eventTime'] as const;

/** Longer texts in a named field are cut, since who asks decides how long they are, and must not thereby go unrecorded. */
const LONGEST_TEXT = 1024;
const DEEPEST_DATA = 12;

/** Under these names no event has anything to keep; whoever puts something there is about to record a value. */
const NAMES_OF_VALUES = new Set([
  'value',
  'secretvalue',
  'secretstring',
  'secretbinary',
  'secretdata',
  'password',
  'passphrase',
  'plaintext',
  'privatekey',
  'token',
]);

/**
 * The one text of an event: JSON as RFC 8785 (JSON Canonicalization Scheme) writes it, that is without white space, members sorted by UTF-16
 * code units, numbers and strings as ECMAScript's `JSON.stringify` prints them. Members that are undefined are left out; half a surrogate pair
 * is written as its escape (RFC 8785 has nothing for it).
 * @throws AuditEventError when the event cannot be recorded, naming the path and never what is there
 */
export function encodeAuditEvent(event: AuditEvent, limitBytes: number): string {
  for (const field of REQUIRED_FIELDS) {
    if (typeof event[field] !== 'string' || event[field] === '') {
      throw new AuditEventError(`An audit event needs a text in \`${field}\`.`);
    }
  }
  let json = '{';
  if (event.additionalEventData !== undefined) {
    json += `"additionalEventData":${canonical(event.additionalEventData, 'additionalEventData', 0)},`;
  }
  for (const field of TEXT_FIELDS_BEFORE_IDENTITY) json += member(field, event[field]);
  if (event.requestParameters !== undefined) {
    json += `"requestParameters":${canonical(event.requestParameters, 'requestParameters', 0)},`;
  }
  for (const field of TEXT_FIELDS_AFTER_PARAMETERS) json += member(field, event[field]);
  json += `"userIdentity":${identity(event.userIdentity)}}`;
  // A character takes at most three bytes, so most events need no count.
  if (json.length * 3 > limitBytes) {
    const bytes = Buffer.byteLength(json);
    if (bytes > limitBytes) {
      throw new AuditEventError(
        `The audit event ${event.eventName} has ${bytes} bytes; the log takes at most ${limitBytes} (eventLimitBytes). Say less in requestParameters and additionalEventData.`,
      );
    }
  }
  return json;
}

function member(field: string, text: string | undefined): string {
  if (text === undefined) return '';
  if (typeof text !== 'string')
    throw new AuditEventError(`\`${field}\` of an audit event is a text, not a ${typeof text}.`);
  return `"${field}":${quoted(text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)}…` : text)},`;
}

function identity(who: AuditIdentity): string {
  if (typeof who?.principalId !== 'string' || typeof who.type !== 'string') {
    throw new AuditEventError('`userIdentity` of an audit event needs `type` and `principalId`.');
  }
  let json = '';
  for (const field of IDENTITY_FIELDS) json += member(field, who[field]);
  return `{${json.slice(0, -1)}}`;
}

function canonical(value: unknown, path: string, depth: number): string {
  if (typeof value === 'string') return quoted(value);
  if (typeof value === 'boolean' || value === null) return String(value);
  if (typeof value === 'number' && Number.isFinite(value)) return JSON.stringify(value);
  if (typeof value !== 'object') {
    throw new AuditEventError(
      `${path} of an audit event is a ${typeof value}: only plain, finite JSON can be recorded.`,
    );
  }
  if (depth === DEEPEST_DATA) {
    throw new AuditEventError(`${path} of an audit event is nested more than ${DEEPEST_DATA} deep.`);
  }
  if (!Array.isArray(value)) return canonicalObject(value, path, depth);
  return `[${value.map((item, index) => canonical(item ?? null, `${path}[${index}]`, depth + 1)).join(',')}]`;
}

/** As `JSON.stringify`, which takes a while for what needs no escape. */
function quoted(text: string): string {
  return /^[ !#-[\]-~]*$/.test(text) ? `"${text}"` : JSON.stringify(text);
}

function canonicalObject(value: object, path: string, depth: number): string {
  const prototype: unknown = Object.getPrototypeOf(value);
  // By its own parent rather than by identity: an object of another realm is as plain.
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
    throw new AuditEventError(`${path} of an audit event is not plain JSON: convert it to strings and numbers first.`);
  }
  const members: string[] = [];
  for (const key of Object.keys(value).sort()) {
    const item: unknown = Reflect.get(value, key);
    if (item === undefined) continue;
    if (NAMES_OF_VALUES.has(key.toLowerCase())) {
      throw new AuditEventError(
        `${path} of an audit event has a member ${key}: values are never recorded. Leave it out.`,
      );
    }
    members.push(`${quoted(key)}:${canonical(item, `${path}.${key}`, depth + 1)}`);
  }
  return `{${members.join(',')}}`;
}
