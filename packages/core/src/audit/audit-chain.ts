import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import { AuditOptionsError, AuditUnavailableError } from './audit-errors.js';
import { HmacKey, ROOM_START } from '../foundation/hmac-key.js';
import { appendMarkedLeaf, EMPTY_TREE, type MerkleTree } from './merkle-tree.js';

/** 32 bytes or more that only the application holds; made for this purpose alone. */
export type AuditKey = KeyObject | Uint8Array;

const KEY_LABEL = 'nestjs-secrets audit v1\n';
const HASH = 'sha256';
const MAC_HEX = 64;
/** Every line ends in `,"mac":"<64 hex digits>"}`. */
const TAIL_LENGTH = ',"mac":"'.length + MAC_HEX + '"}'.length;
const CLOSING = Buffer.from('}');
/** A character takes at most so many bytes. */
const MOST_BYTES_A_CHARACTER = 3;
const RECORD =
  /^\{"seq":([1-9]\d{0,15}),"time":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)","key":"([0-9a-f]{8})","prev":"([0-9a-f]{64})","event":$/;
const TAIL = /^,"mac":"([0-9a-f]{64})"\}$/;
/** The part of a record before its event has at most this many characters. */
const LONGEST_HEAD = 200;

/** The key of one log, derived from the application's, so that no line of one log passes in another. */
export class ChainKey {
  readonly #key: HmacKey;
  /** 8 hex digits that tell keys apart and give nothing away. */
  readonly id: string;
  /** What the first record names as the one before it. */
  readonly genesis: string;

  /** `origin` names the log; see `AuditLogOptions.origin`. */
  constructor(
    key: AuditKey,
    readonly origin: string,
  ) {
    checkOrigin(origin);
    const size = 'symmetricKeySize' in key ? (key.symmetricKeySize ?? 0) : 'byteLength' in key ? key.byteLength : 0;
    if (size < 32) throw new AuditOptionsError('The key of an audit log has at least 32 bytes.');
    const derived = createHmac(HASH, key).update(`${KEY_LABEL}${origin}`).digest();
    this.#key = new HmacKey(derived, () => new AuditUnavailableError('the audit log', 'is closed'));
    derived.fill(0);
    this.id = this.mac('key id').slice(0, 8);
    this.genesis = this.mac('genesis');
  }

  /** HMAC-SHA-256 in hex. */
  mac(text: string): string {
    return this.#key.mac(Buffer.from(text));
  }

  /** Overwrites the key; nothing can be sealed or verified with it any more. */
  end(): void {
    this.#key.end();
  }

  /** Whether a whole line, without its line feed, carries the MAC of the rest of it. */
  verifies(line: Buffer): boolean {
    const end = line.length - TAIL_LENGTH;
    const stated = TAIL.exec(line.toString('latin1', Math.max(0, end)))?.[1];
    if (stated === undefined) return false;
    return timingSafeEqual(Buffer.from(stated), Buffer.from(this.#key.mac(line.subarray(0, end), CLOSING)));
  }

  /** A whole line from all of it but its closing brace. */
  seal(open: string): SealedLine {
    const room = this.#key.room(open.length * MOST_BYTES_A_CHARACTER + CLOSING.length);
    const length = room.write(open, ROOM_START);
    room.set(CLOSING, ROOM_START + length);
    const mac = this.#key.macOfRoom(length + CLOSING.length);
    const framed = Buffer.allocUnsafe(1 + length + TAIL_LENGTH + 1);
    room.copy(framed, 1, ROOM_START, ROOM_START + length);
    framed.write(`,"mac":"${mac}"}\n`, 1 + length, 'latin1');
    return { framed, mac };
  }
}

/** A line on its way into the log. */
export interface SealedLine {
  /** A byte that is free for the mark of the Merkle tree, the line in UTF-8, and its line feed. */
  readonly framed: Buffer;
  readonly mac: string;
}

/** One event in its place in the chain. */
export interface SealedRecord {
  /** From 1, without a gap. */
  readonly sequence: number;
  /** The line for the log in UTF-8, with its line feed. */
  readonly bytes: Buffer;
  /** The line as text, without the line feed. */
  readonly line: string;
  readonly mac: string;
  /** The MAC of the record before. */
  readonly previous: string;
  /** The tree of all lines up to this one. */
  readonly tree: MerkleTree;
  /** The canonical JSON of the event. */
  readonly event: string;
  /** When it was recorded, in milliseconds since the Unix epoch. */
  readonly time: number;
}

/** A record as its bytes; what else there is to it is made when it is first asked for. */
export class FramedRecord implements SealedRecord {
  readonly bytes: Buffer;
  readonly previous: string;
  #before: ChainHead | undefined;
  #tree: MerkleTree | undefined;

  /** `framed` as in `SealedLine`. */
  constructor(
    before: ChainHead,
    readonly sequence: number,
    private readonly framed: Buffer,
    readonly mac: string,
    readonly event: string,
    readonly time: number,
  ) {
    this.bytes = framed.subarray(1);
    this.previous = before.mac;
    this.#before = before;
  }

  get line(): string {
    return this.bytes.toString('utf8', 0, this.bytes.length - 1);
  }

  get tree(): MerkleTree {
    if (this.#before !== undefined) {
      this.#tree = appendMarkedLeaf(this.#before.tree, this.framed.subarray(0, -1));
      // Or every record would keep all before it in memory.
      this.#before = undefined;
    }
    return this.#tree ?? EMPTY_TREE;
  }
}

/** The end of a chain: what the next record builds on. */
export interface ChainHead {
  /** 0 for an empty log. */
  readonly sequence: number;
  readonly mac: string;
  readonly tree: MerkleTree;
}

export function emptyChain(key: ChainKey): ChainHead {
  return { sequence: 0, mac: key.genesis, tree: EMPTY_TREE };
}

/** The next record: `{"seq":…,"time":…,"key":…,"prev":…,"event":…,"mac":…}`, in this order and without white space. */
export function sealRecord(key: ChainKey, head: ChainHead, event: string, time: number, iso: string): SealedRecord {
  const sequence = head.sequence + 1;
  const { framed, mac } = key.seal(
    `{"seq":${sequence},"time":"${iso}","key":"${key.id}","prev":"${head.mac}","event":${event}`,
  );
  return new FramedRecord(head, sequence, framed, mac, event, time);
}

/** What a record says of its place, nothing of which is proven yet. */
export interface RecordFields {
  readonly sequence: number;
  readonly time: number;
  readonly keyId: string;
  readonly previous: string;
  readonly mac: string;
  /** The bytes of its event. */
  readonly event: Buffer;
}

/** Takes a line apart; undefined when it does not have the form of a record. */
export function parseRecord(line: Buffer): RecordFields | undefined {
  const tail = TAIL.exec(line.toString('latin1', Math.max(0, line.length - TAIL_LENGTH)));
  const start = line.toString('latin1', 0, LONGEST_HEAD);
  const end = start.indexOf('"event":') + '"event":'.length;
  const head = RECORD.exec(start.slice(0, end));
  if (tail === null || head === null) return undefined;
  const [, sequence = '', time = '', keyId = '', previous = ''] = head;
  return {
    sequence: Number(sequence),
    time: Date.parse(time),
    keyId,
    previous,
    mac: tail[1] ?? '',
    event: line.subarray(end, line.length - TAIL_LENGTH),
  };
}

/** Whether these bytes can be the beginning of a record with this sequence number that was cut short while it was written. */
export function isBeginningOfRecord(bytes: Buffer, sequence: number): boolean {
  const expected = `{"seq":${sequence},"time":"`;
  const start = bytes.toString('latin1', 0, expected.length);
  return bytes.length < expected.length ? expected.startsWith(start) : start === expected;
}

/** @throws AuditOptionsError */
export function checkOrigin(origin: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,199}$/.test(origin)) return;
  throw new AuditOptionsError(
    'The origin of an audit log is 1 to 200 characters of A-Z a-z 0-9 . _ / : @ - and begins with a letter or digit, such as orders.example.com/audit/instance-1.',
  );
}
