// Proofs of numbers as they stand in records; `proof.ts` finds them.

import { type Cbor, Raw } from './cbor';

/** A plain number's proof as it stands in records. */
export function plainProof(nonce: bigint): Cbor {
  return [0, new Map([[0, new Map([[0, nonce]])]])];
}

/** A chosen number's proof as it stands in records: the directory's certificate, and the nonce of a plain number. */
export function chosenProof(certificate: Uint8Array, nonce: bigint): Cbor {
  return [1, new Map<number, Cbor>([[0, new Raw(certificate)], [1, new Map([[0, nonce]])]])];
}
