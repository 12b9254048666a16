// The part of CBOR (RFC 8949) that Offhook writes: integers from 0, byte strings, text, arrays and maps with integer
// keys, all of definite length and in the shortest form, keys ascending. `core/proto` writes the same bytes.

import { concatBytes, FormatError, utf8ToBytes } from './bytes';

/** Bytes that are CBOR already: a part that is passed on unread. */
export class Raw {
  constructor(readonly bytes: Uint8Array) {}
}

/** What can be encoded. Maps with integer keys are `Map`s in any order; keys whose value is undefined are left out. */
export type Cbor =
  | number
  | bigint
  | string
  | boolean
  | null
  | Uint8Array
  | Raw
  | readonly Cbor[]
  | ReadonlyMap<number | string, Cbor | undefined>;

const UNSIGNED = 0;
const BYTES = 2;
const TEXT = 3;
const ARRAY = 4;
const MAP = 5;
/** Deepest nesting that is read. */
const MAX_DEPTH = 16;

function head(major: number, value: bigint | number): Uint8Array {
  const size = BigInt(value);
  if (size < 0n || size > 0xffff_ffff_ffff_ffffn) throw new FormatError('not an unsigned number of 64 bits');
  const top = major << 5;
  if (size < 24n) return Uint8Array.of(top | Number(size));
  if (size < 0x100n) return Uint8Array.of(top | 24, Number(size));
  const width = size < 0x1_0000n ? 2 : size < 0x1_0000_0000n ? 4 : 8;
  const bytes = new Uint8Array(1 + width);
  bytes[0] = top | (width === 2 ? 25 : width === 4 ? 26 : 27);
  for (let i = 0; i < width; i++) bytes[width - i] = Number((size >> BigInt(8 * i)) & 0xffn);
  return bytes;
}

/** Encodes `value`. */
export function encode(value: Cbor): Uint8Array {
  if (typeof value === 'number' || typeof value === 'bigint') return head(UNSIGNED, value);
  if (typeof value === 'boolean') return Uint8Array.of(value ? 0xf5 : 0xf4);
  if (value === null) return Uint8Array.of(0xf6);
  if (value instanceof Raw) return value.bytes;
  if (value instanceof Uint8Array) return concatBytes(head(BYTES, value.length), value);
  if (typeof value === 'string') {
    const text = utf8ToBytes(value);
    return concatBytes(head(TEXT, text.length), text);
  }
  if (Array.isArray(value)) return concatBytes(head(ARRAY, value.length), ...value.map((item: Cbor) => encode(item)));
  return encodeMap(value as ReadonlyMap<number | string, Cbor | undefined>);
}

function encodeMap(map: ReadonlyMap<number | string, Cbor | undefined>): Uint8Array {
  const entries: [Uint8Array, Cbor][] = [];
  for (const [key, value] of map) if (value !== undefined) entries.push([encode(key), value]);
  entries.sort(([a], [b]) => compare(a, b));
  return concatBytes(head(MAP, entries.length), ...entries.flatMap(([key, value]) => [key, encode(value)]));
}

function compare(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** Reads one value after the other. Every method throws a [FormatError] when something else follows. */
export class Reader {
  private at = 0;

  constructor(private readonly bytes: Uint8Array) {}

  /** Where the next value begins. */
  get position(): number {
    return this.at;
  }

  /** Throws if anything is left. */
  end(): void {
    if (this.at !== this.bytes.length) throw new FormatError('bytes after the end of the encoding');
  }

  uint(): bigint {
    return this.expect(UNSIGNED);
  }

  /** A time or a count: an integer that JavaScript's numbers hold exactly. */
  count(): number {
    const value = this.uint();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new FormatError('number too large');
    return Number(value);
  }

  byteString(): Uint8Array {
    return this.take(this.expect(BYTES));
  }

  /** A byte string of exactly this length. */
  fixed(length: number): Uint8Array {
    const bytes = this.byteString();
    if (bytes.length !== length) throw new FormatError(`${bytes.length} bytes instead of ${length}`);
    return bytes;
  }

  text(): string {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(this.take(this.expect(TEXT)));
    } catch {
      throw new FormatError('text is not UTF-8');
    }
  }

  bool(): boolean {
    const byte = this.take(1n)[0];
    if (byte !== 0xf4 && byte !== 0xf5) throw new FormatError('not a truth value');
    return byte === 0xf5;
  }

  array<T>(item: (reader: Reader) => T): T[] {
    const count = this.expect(ARRAY);
    const items: T[] = [];
    for (let i = 0n; i < count; i++) items.push(item(this));
    return items;
  }

  /** A map with integer keys, its values unread. */
  map(): Map<number, Raw> {
    const count = this.expect(MAP);
    const map = new Map<number, Raw>();
    for (let i = 0n; i < count; i++) {
      const key = this.count();
      if (map.has(key)) throw new FormatError('a key twice');
      map.set(key, this.raw());
    }
    return map;
  }

  /** A map from text to text. */
  texts(): Map<string, string> {
    const count = this.expect(MAP);
    const map = new Map<string, string>();
    for (let i = 0n; i < count; i++) map.set(this.text(), this.text());
    return map;
  }

  /** The next value, whatever it is, unread. */
  raw(): Raw {
    const start = this.at;
    this.skip(0);
    return new Raw(this.bytes.slice(start, this.at));
  }

  private skip(depth: number): void {
    if (depth > MAX_DEPTH) throw new FormatError('nested too deep');
    const [major, value] = this.head();
    if (major === BYTES || major === TEXT) this.take(value);
    if (major === ARRAY) for (let i = 0n; i < value; i++) this.skip(depth + 1);
    if (major === MAP) for (let i = 0n; i < 2n * value; i++) this.skip(depth + 1);
    if (major === 6) this.skip(depth + 1);
  }

  private expect(major: number): bigint {
    const [found, value] = this.head();
    if (found !== major) throw new FormatError('a value of another type');
    return value;
  }

  private head(): [number, bigint] {
    const first = this.take(1n)[0] ?? 0;
    const low = first & 31;
    if (low < 24) return [first >> 5, BigInt(low)];
    if (low > 27) throw new FormatError('a length that is not definite');
    let value = 0n;
    for (const byte of this.take(BigInt(1 << (low - 24)))) value = (value << 8n) | BigInt(byte);
    return [first >> 5, value];
  }

  private take(count: bigint): Uint8Array {
    if (count > BigInt(this.bytes.length - this.at)) throw new FormatError('the encoding ends too early');
    const start = this.at;
    this.at += Number(count);
    return this.bytes.slice(start, this.at);
  }
}

/** Reads one value that fills `bytes` exactly. */
export function decode<T>(bytes: Uint8Array, read: (reader: Reader) => T): T {
  const reader = new Reader(bytes);
  const value = read(reader);
  reader.end();
  return value;
}

/** The field `key` of a map, read by `read`; undefined if it is missing. */
export function optional<T>(map: ReadonlyMap<number, Raw>, key: number, read: (reader: Reader) => T): T | undefined {
  const raw = map.get(key);
  return raw === undefined ? undefined : decode(raw.bytes, read);
}

/** The field `key` of a map, read by `read`; throws a [FormatError] if it is missing. */
export function field<T>(map: ReadonlyMap<number, Raw>, key: number, read: (reader: Reader) => T): T {
  const value = optional(map, key, read);
  if (value === undefined) throw new FormatError(`field ${key} is missing`);
  return value;
}
