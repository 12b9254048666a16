// Keys of an account: Ed25519 identity and X25519 mailbox, each from a seed of 32 bytes.

import { ed25519, x25519 } from '@noble/curves/ed25519';
import { bytesToHex, concatBytes, hexToBytes, randomBytes } from './bytes';

/** The secrets of an account. */
export interface Seeds {
  identity: Uint8Array;
  mailbox: Uint8Array;
}

/** New secrets from the browser's random source. */
export function newSeeds(): Seeds {
  return { identity: randomBytes(32), mailbox: randomBytes(32) };
}

/** Public identity key of a seed. */
export function identityId(seed: Uint8Array): Uint8Array {
  return ed25519.getPublicKey(seed);
}

/** Public mailbox key of a seed. */
export function mailboxPublic(seed: Uint8Array): Uint8Array {
  return x25519.getPublicKey(seed);
}

/** Identity multihash of the protobuf message {1: Ed25519, 2: 32 bytes} (libp2p specification, peer-ids). */
const PEER_ID_PREFIX = hexToBytes('002408011220');
const BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';

/** The libp2p peer id of a terminal's key, `12D3KooW…`, under which the client shows it, too. */
export function peerId(terminal: Uint8Array): string {
  let value = BigInt(`0x${bytesToHex(concatBytes(PEER_ID_PREFIX, terminal))}`);
  let text = '';
  for (; value > 0n; value /= 58n) text = (BASE58[Number(value % 58n)] ?? '') + text;
  // The multihash begins with one zero byte, which base58 writes as a 1.
  return `1${text}`;
}
