/** An address: its family and its 32 or 128 bits in words of 32. */
export interface Address {
  readonly family: 4 | 6;
  readonly words: readonly number[];
}

/** Addresses that share their first `bits` bits. */
export interface AddressRange extends Address {
  readonly bits: number;
}

const DECIMAL = /^(0|[1-9]\d{0,2})$/;
const HEXADECIMAL = /^[0-9a-fA-F]{1,4}$/;

/**
 * An IPv4 address in four decimal parts without leading zeros (which some read as octal), or an IPv6 address (RFC 4291, section 2.2), a zone
 * (`%eth0`) left aside. An IPv4 address mapped into IPv6, as sockets that serve both report it, is the IPv4 address.
 */
export function parseAddress(text: string): Address | undefined {
  if (!text.includes(':')) {
    const word = parseV4(text);
    return word === undefined ? undefined : { family: 4, words: [word] };
  }
  const words = parseV6(text.replace(/%[A-Za-z0-9_.-]{1,32}$/, ''));
  if (words === undefined) return undefined;
  return isMapped(words) ? { family: 4, words: words.slice(3) } : { family: 6, words };
}

/** `address` or `address/bits` (RFC 4632); a text that says why not. Bits beyond `/bits` must be 0. */
export function parseRange(text: string): AddressRange | string {
  const [written = '', bitsWritten, ...more] = text.split('/');
  const address = written.includes('%') ? undefined : parseAddress(written);
  if (address === undefined || more.length > 0) return 'is not an IP address or CIDR range';
  const mapped = written.includes(':') && address.family === 4;
  const width = written.includes(':') ? 128 : 32;
  if (bitsWritten !== undefined && (!DECIMAL.test(bitsWritten) || Number(bitsWritten) > width))
    return `has a prefix length that is not 0 to ${width}`;
  const bits = (bitsWritten === undefined ? width : Number(bitsWritten)) - (mapped ? 96 : 0);
  if (bits < 0) return 'covers more than the IPv4 addresses mapped into IPv6; write an IPv4 range';
  const range = { ...address, bits };
  if (address.words.some((word, index) => (word & ~maskOf(bits, index)) !== 0))
    return `has bits set beyond its prefix length; did you mean ${written} alone?`;
  return range;
}

export function isWithin(address: Address, range: AddressRange): boolean {
  if (address.family !== range.family) return false;
  return address.words.every((word, index) => ((word ^ (range.words[index] ?? 0)) & maskOf(range.bits, index)) === 0);
}

/** The bits of the word at `index` that a prefix of so many bits covers. */
function maskOf(bits: number, index: number): number {
  const covered = Math.min(32, Math.max(0, bits - 32 * index));
  return covered === 0 ? 0 : -1 << (32 - covered);
}

function parseV4(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => DECIMAL.test(part) && Number(part) <= 255)) return undefined;
  return parts.reduce((word, part) => (word << 8) | Number(part), 0);
}

function parseV6(text: string): number[] | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [front, back] = halves.map((half, index) => parseGroups(half, index === halves.length - 1));
  if (front === undefined || (halves.length === 2 && back === undefined)) return undefined;
  const missing = 8 - front.length - (back?.length ?? 0);
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const groups = [...front, ...Array.from({ length: missing }, () => 0), ...(back ?? [])];
  return [0, 2, 4, 6].map((index) => ((groups[index] ?? 0) << 16) | (groups[index + 1] ?? 0));
}

/** The 16-bit groups on one side of `::`; the last two of the address may be written as IPv4. */
function parseGroups(half: string, isLast: boolean): number[] | undefined {
  if (half === '') return [];
  const parts = half.split(':');
  const groups: number[] = [];
  for (const [index, part] of parts.entries()) {
    if (HEXADECIMAL.test(part)) groups.push(Number.parseInt(part, 16));
    else {
      const word = isLast && index === parts.length - 1 ? parseV4(part) : undefined;
      if (word === undefined) return undefined;
      groups.push(word >>> 16, word & 0xffff);
    }
  }
  return groups;
}

function isMapped(words: readonly number[]): boolean {
  return words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
}
