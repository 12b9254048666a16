// Bytes as text and back, and the other small things that every format needs.

import { sha256 } from '@noble/hashes/sha2';
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from '@noble/hashes/utils';

export { bytesToHex, concatBytes, hexToBytes, sha256, utf8ToBytes };

/** Text is not what was expected of it. */
export class FormatError extends Error {
  override name = 'FormatError';
}

/** URL-safe base64 without padding (RFC 4648 section 5), as everywhere in the API. */
export function toBase64Url(bytes: Uint8Array): string {
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

/** The bytes of URL-safe base64 without padding; throws a [FormatError] for anything else. */
export function fromBase64Url(text: string): Uint8Array {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) throw new FormatError('not base64url');
  const binary = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  return Uint8Array.from(binary, (c) => c.charCodeAt(0));
}

/** 32 bytes as 64 hexadecimal digits, how keys are written for people. */
export function keyFromHex(text: string): Uint8Array {
  const trimmed = text.trim().toLowerCase();
  if (!/^[0-9a-f]{64}$/.test(trimmed)) throw new FormatError('a key has 64 hexadecimal digits');
  return hexToBytes(trimmed);
}

/** A number as eight bytes, the highest first. */
export function u64be(value: bigint | number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
  return bytes;
}

/** `domain || 0x00 || parts`: what is signed or hashed. */
export function inDomain(domain: string, ...parts: Uint8Array[]): Uint8Array {
  return concatBytes(utf8ToBytes(domain), new Uint8Array(1), ...parts);
}

/** Bytes from the browser's cryptographic random source. */
export function randomBytes(count: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(count));
}

/** Whether two byte strings are the same. Not for secrets. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
