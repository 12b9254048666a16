// What an account asks of a directory (`core/proto/src/request.rs`), signed by its identity key: a stolen session alone
// changes nothing.

import * as domain from './domain';
import { FormatError, inDomain, sha256, utf8ToBytes } from './bytes';
import { type Cbor, Raw } from './cbor';
import { sign } from './envelope';
import { identityId } from './identity';

/** What is asked for. `upload` is the last message of OPAQUE's registration, `backup` the sealed backup. */
export type Action =
  | { kind: 'signUp'; id: string; number: string; nonce: number; upload: Uint8Array; backup: Uint8Array }
  | { kind: 'backup'; version: number; backup: Uint8Array }
  | { kind: 'claim'; number: string; transfer: Uint8Array | undefined }
  | { kind: 'renew' | 'release'; number: string }
  | { kind: 'credentials'; id: string; upload: Uint8Array; version: number; backup: Uint8Array }
  | { kind: 'recover' };

/** The variant's number and its fields in the order of their keys. */
function variant(action: Action): [number, (Cbor | undefined)[]] {
  switch (action.kind) {
    case 'signUp':
      return [0, [action.id, action.number, action.nonce, sha256(action.upload), sha256(action.backup)]];
    case 'backup':
      return [1, [action.version, sha256(action.backup)]];
    case 'claim':
      return [2, [action.number, action.transfer === undefined ? undefined : new Raw(action.transfer)]];
    case 'renew':
      return [3, [action.number]];
    case 'release':
      return [4, [action.number]];
    case 'credentials':
      return [5, [action.id, sha256(action.upload), action.version, sha256(action.backup)]];
    case 'recover':
      return [6, []];
  }
}

/** Signs a request to the directory whose signing key is `directory`; the encoded envelope. */
export function signRequest(seed: Uint8Array, directory: Uint8Array, action: Action, now: number): Uint8Array {
  const [index, values] = variant(action);
  const fields = new Map(values.map((value, key) => [key, value]));
  const payload = new Map<number, Cbor>([
    [0, directory],
    [1, identityId(seed)],
    [2, now],
    [3, [index, fields]],
  ]);
  return sign(seed, domain.DIRECTORY_REQUEST, payload);
}

/** Where the records of a chosen number in its full form lie: what a transfer names it by. */
export function chosenKey(directory: Uint8Array, number: string): Uint8Array {
  const at = number.indexOf('@');
  if (at < 1) throw new FormatError('not a chosen number in its full form');
  return sha256(inDomain(domain.CHOSEN_NUMBER, directory, utf8ToBytes(number.slice(0, at))));
}

/** Gives a chosen number away to the identity `to` (`core/proto/src/proof/transfer.rs`); the encoded envelope. */
export function signTransfer(seed: Uint8Array, directory: Uint8Array, number: string, to: Uint8Array, now: number): Uint8Array {
  const fields = new Map<number, Cbor>([
    [0, chosenKey(directory, number)],
    [1, identityId(seed)],
    [2, to],
    [3, now],
  ]);
  return sign(seed, domain.NUMBER_TRANSFER, fields);
}
