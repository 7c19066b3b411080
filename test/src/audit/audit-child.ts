import { createPrivateKey } from 'node:crypto';
import { writeSync } from 'node:fs';
import path from 'node:path';
import { auditFiles, AuditLog, checkpointFile, checkpointSigner } from '@nestjs-secrets/core';
import { AUDIT_ORIGIN, type AuditOrder } from './audit-order.js';

/** Records without end, and names each event on its standard output once it was acknowledged; `failed …` when one was not. Is to be killed. */
const order: AuditOrder = JSON.parse(process.argv[2] ?? '');
const log = new AuditLog({
  origin: AUDIT_ORIGIN,
  key: Buffer.from(order.key, 'hex'),
  sinks: [{ sink: auditFiles({ folder: order.folder, maxFileBytes: 20_000 }), mode: 'required' }],
  checkpoints: {
    signer: checkpointSigner(createPrivateKey(order.signingKey), AUDIT_ORIGIN),
    places: [
      checkpointFile({ path: path.join(order.folder, 'checkpoints') }),
      checkpointFile({ path: order.elsewhere }),
    ],
    everyEvents: 7,
  },
});

async function record(caller: number): Promise<void> {
  for (let count = 0; ; count += 1) {
    const eventId = `${process.pid}-${caller}-${count}-${Date.now()}`;
    await log.record({ eventId, eventName: 'GetSecretValue', eventRW: 'Read', resourceName: `Secret${caller}` });
    // Written at once: what a pipe has taken outlives the process.
    writeSync(1, `${eventId}\n`);
  }
}

try {
  await log.open();
  writeSync(1, 'open\n');
  await Promise.all(Array.from({ length: order.callers }, (_, caller) => record(caller)));
} catch (error) {
  const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : String(error);
  writeSync(1, `failed ${code}\n`);
}
