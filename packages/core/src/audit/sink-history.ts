import { type ChainHead, type ChainKey, parseRecord, FramedRecord, type SealedRecord } from './audit-chain.js';
import { AuditLogDamagedError } from './audit-errors.js';
import { recordsAfter } from './audit-folder-reader.js';
import type { SinkLane } from './sink-lane.js';

const FREE_BYTE = Buffer.alloc(1);
const LINE_FEED = Buffer.from('\n');

/**
 * Records that are no longer in memory, for a sink that fell behind, from a sink that has them; undefined when there is none.
 * @throws AuditLogDamagedError when what is stored there does not follow upon `head`
 */
export function historyFor(
  behind: SinkLane,
  lanes: readonly SinkLane[],
  keys: readonly ChainKey[],
): ((head: ChainHead) => Promise<readonly SealedRecord[]>) | undefined {
  const source = lanes.find(
    (lane) => lane !== behind && lane.sink.reader !== undefined && lane.position > behind.position,
  );
  const reader = source?.sink.reader;
  if (source === undefined || reader === undefined) return undefined;
  return async (head) => {
    for await (const lines of recordsAfter(reader, head.sequence)) {
      const records: SealedRecord[] = [];
      let end = head;
      for (const { bytes } of lines) {
        const fields = parseRecord(bytes);
        // What stands further on may not be durable yet.
        if (fields === undefined || fields.sequence > source.position) break;
        const key = keys.find(({ id }) => id === fields.keyId);
        if (fields.sequence !== end.sequence + 1 || fields.previous !== end.mac || key?.verifies(bytes) !== true) {
          throw new AuditLogDamagedError(
            source.name,
            `was changed: record ${end.sequence + 1} is not what was written`,
          );
        }
        const framed = Buffer.concat([FREE_BYTE, bytes, LINE_FEED]);
        const event = fields.event.toString('utf8');
        const record = new FramedRecord(end, fields.sequence, framed, fields.mac, event, fields.time);
        records.push(record);
        end = record;
      }
      if (records.length > 0) return records;
    }
    throw new AuditLogDamagedError(source.name, `has lost the records behind ${head.sequence}`);
  };
}
