// Signed envelopes (`core/proto/src/wire.rs`): CBOR map {0: payload, 1: Ed25519 signature over `domain || 0x00 || payload`}.

import { ed25519 } from '@noble/curves/ed25519';
import { inDomain } from './bytes';
import { type Cbor, decode, encode, field, type Reader } from './cbor';

/** An envelope whose signature nobody has looked at. */
export interface Envelope {
  payload: Uint8Array;
  signature: Uint8Array;
}

/** Signs `payload` for `domain` with an Ed25519 seed; the encoded envelope. */
export function sign(seed: Uint8Array, domain: string, payload: Cbor): Uint8Array {
  const bytes = encode(payload);
  const signature = ed25519.sign(inDomain(domain, bytes), seed);
  return encode(
    new Map([
      [0, bytes],
      [1, signature],
    ]),
  );
}

/** Reads an envelope. */
export function readEnvelope(reader: Reader): Envelope {
  const map = reader.map();
  return { payload: field(map, 0, (r) => r.byteString()), signature: field(map, 1, (r) => r.fixed(64)) };
}

/** Decodes an envelope. */
export function open(bytes: Uint8Array): Envelope {
  return decode(bytes, readEnvelope);
}

/** Whether the signature is good for this key and domain: strictly by RFC 8032, as every node judges it. */
export function verify(envelope: Envelope, key: Uint8Array, domain: string): boolean {
  try {
    return ed25519.verify(envelope.signature, inDomain(domain, envelope.payload), key, { zip215: false });
  } catch {
    return false;
  }
}
