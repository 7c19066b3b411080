import { describe, expect, it } from '@jest/globals';
import type { AuditEvent } from '@nestjs-secrets/core';
import { encodeAuditEvent } from '../src/audit/canonical-event.js';

const LIMIT = 65_536;

/** Each field there is, in no order. */
const FULL: AuditEvent = {
  userIdentity: {
    type: 'operator',
    principalId: 'operator/alice',
    userName: 'Alice "A."',
    instanceId: 'i-1',
    accountId: '12',
  },
  userAgent: 'cli/1 \u0000 \u2028',
  sourceIpAddress: '192.0.2.1',
  serviceName: 'orders',
  resourceType: 'Secret',
  resourceName: 'billing/ä€😀',
  requestParameters: { stage: 'current', versionId: 'v7', again: [{ z: 1, a: undefined }, null, true, 1e21, -0] },
  requestId: 'r-1',
  eventVersion: '1',
  eventType: 'ApiCall',
  eventTime: '2026-11-25T08:00:00.000Z',
  eventSource: 'orders',
  eventRW: 'Read',
  eventName: 'GetSecretValue',
  eventId: 'e-1',
  errorMessage: 'half a pair: \ud800',
  errorCode: 'NO',
  additionalEventData: { '9': 1, '10': 2, '-': 3, '\uff00': 4, '😀': 5, ['__proto__']: 6, '': 7 },
};

/** RFC 8785, section 3.2.3, in the shortest way there is. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).filter(([, item]) => item !== undefined);
  members.sort(([one], [other]) => (one < other ? -1 : 1));
  return `{${members.map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`).join(',')}}`;
}

describe('the text of an event', () => {
  it('is this', () => {
    expect(encodeAuditEvent(FULL, LIMIT)).toBe(
      String.raw`{"additionalEventData":{"":7,"-":3,"10":2,"9":1,"__proto__":6,"😀":5,"${'\uff00'}":4},"errorCode":"NO","errorMessage":"half a pair: \ud800","eventId":"e-1","eventName":"GetSecretValue","eventRW":"Read","eventSource":"orders","eventTime":"2026-11-25T08:00:00.000Z","eventType":"ApiCall","eventVersion":"1","requestId":"r-1","requestParameters":{"again":[{"z":1},null,true,1e+21,0],"stage":"current","versionId":"v7"},"resourceName":"billing/ä€😀","resourceType":"Secret","serviceName":"orders","sourceIpAddress":"192.0.2.1","userAgent":"cli/1 \u0000 ${'\u2028'}","userIdentity":{"accountId":"12","instanceId":"i-1","principalId":"operator/alice","type":"operator","userName":"Alice \"A.\""}}`,
    );
  });

  it('is that of RFC 8785, whichever fields there are', () => {
    const optional = [
      'additionalEventData',
      'errorCode',
      'errorMessage',
      'eventVersion',
      'requestId',
      'requestParameters',
      'resourceName',
      'resourceType',
      'serviceName',
      'sourceIpAddress',
      'userAgent',
    ] as const;
    for (let mask = 0; mask < 2 ** optional.length; mask += 1) {
      const event: Record<string, unknown> = { ...FULL };
      for (const [index, field] of optional.entries()) if ((mask & (1 << index)) === 0) event[field] = undefined;
      const partial = event as unknown as AuditEvent;
      expect(encodeAuditEvent(partial, LIMIT)).toBe(canonical(partial));
    }
  });

  it.each(Object.keys(FULL))('is refused when %s is a number', (field) => {
    const event = { ...FULL, [field]: 7 } as unknown as AuditEvent;
    const encode = (): string => encodeAuditEvent(event, LIMIT);
    // Data that is a number is JSON, if not what its type says.
    if (field === 'requestParameters' || field === 'additionalEventData') expect(encode()).toContain(`"${field}":7`);
    else expect(encode).toThrow(expect.objectContaining({ code: 'AUDIT_EVENT_INVALID' }));
  });
});
