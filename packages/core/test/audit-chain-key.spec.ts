import { describe, expect, it } from '@jest/globals';
import { AuditLog, type AuditSink, type AuditSinkContext } from '@nestjs-secrets/core';

describe('the keys of an audit log', () => {
  it('seal and verify nothing any more once it is closed, those of before included', async () => {
    const given: AuditSinkContext[] = [];
    const sink: AuditSink = {
      name: 'keeps nothing',
      open: async (context) => void given.push(context),
      append: async () => undefined,
      close: async () => undefined,
    };
    const log = new AuditLog({
      origin: 'example.com/audit',
      key: Buffer.alloc(32, 1),
      previousKeys: [Buffer.alloc(32, 2)],
      sinks: [{ sink, mode: 'required' }],
    });
    await log.open();
    const keys = given.flatMap((context) => context.keys);
    expect(new Set(keys.map((key) => key.mac('x'))).size).toBe(2);
    await log.close();
    for (const key of keys) expect(() => key.mac('x')).toThrow(expect.objectContaining({ code: 'AUDIT_UNAVAILABLE' }));
  });
});
