import { AuditEventError } from './audit-errors.js';
import type { AuditEvent, AuditIdentity } from './audit-event.js';

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
  // Field by field, each with its label in one piece, which takes half the time of loops over their names. In the order of UTF-16 code units, as RFC 8785 asks.
  const before =
    data('"additionalEventData":', event.additionalEventData) +
    text('"errorCode":', event.errorCode) +
    text('"errorMessage":', event.errorMessage) +
    needed('"eventId":', event.eventId) +
    needed('"eventName":', event.eventName) +
    text('"eventRW":', event.eventRW) +
    needed('"eventSource":', event.eventSource) +
    needed('"eventTime":', event.eventTime) +
    text('"eventType":', event.eventType) +
    text('"eventVersion":', event.eventVersion) +
    text('"requestId":', event.requestId) +
    data('"requestParameters":', event.requestParameters);
  const after =
    text('"resourceName":', event.resourceName) +
    text('"resourceType":', event.resourceType) +
    text('"serviceName":', event.serviceName) +
    text('"sourceIpAddress":', event.sourceIpAddress) +
    text('"userAgent":', event.userAgent);
  const json = `{${before}${after}"userIdentity":${identity(event.userIdentity)}}`;
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

function needed(label: string, value: string): string {
  if (typeof value !== 'string' || value === '') {
    throw new AuditEventError(`An audit event needs a text in \`${fieldOf(label)}\`.`);
  }
  return text(label, value);
}

/** `"field":"text",`, or nothing. */
function text(label: string, value: string | undefined): string {
  if (value === undefined) return '';
  if (typeof value !== 'string') {
    throw new AuditEventError(`\`${fieldOf(label)}\` of an audit event is a text, not a ${typeof value}.`);
  }
  return `${label}${quoted(value.length > LONGEST_TEXT ? `${value.slice(0, LONGEST_TEXT)}…` : value)},`;
}

/** `"field":{…},`, or nothing. */
function data(label: string, value: AuditEvent['requestParameters']): string {
  return value === undefined ? '' : `${label}${canonical(value, fieldOf(label), 0)},`;
}

function fieldOf(label: string): string {
  return label.slice(1, -2);
}

function identity(who: AuditIdentity): string {
  if (typeof who?.principalId !== 'string' || typeof who.type !== 'string') {
    throw new AuditEventError('`userIdentity` of an audit event needs `type` and `principalId`.');
  }
  const members =
    text('"accountId":', who.accountId) +
    text('"instanceId":', who.instanceId) +
    text('"principalId":', who.principalId) +
    text('"type":', who.type) +
    text('"userName":', who.userName);
  return `{${members.slice(0, -1)}}`;
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
  if (!isPlain(value)) {
    throw new AuditEventError(`${path} of an audit event is not plain JSON: convert it to strings and numbers first.`);
  }
  const keys = Object.keys(value);
  if (keys.length > 1) keys.sort();
  let members = '';
  for (const key of keys) {
    const item = value[key];
    if (item === undefined) continue;
    if (NAMES_OF_VALUES.has(key.toLowerCase())) {
      throw new AuditEventError(
        `${path} of an audit event has a member ${key}: values are never recorded. Leave it out.`,
      );
    }
    members += `${members === '' ? '' : ','}${quoted(key)}:${canonical(item, `${path}.${key}`, depth + 1)}`;
  }
  return `{${members}}`;
}

function isPlain(value: object): value is Readonly<Record<string, unknown>> {
  const prototype: unknown = Object.getPrototypeOf(value);
  // By its own parent rather than by identity: an object of another realm is as plain.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
