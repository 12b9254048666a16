// Proofs of numbers (`core/proto/src/proof.rs`): Argon2id over `identity || nonce`, whose first output byte must be zero.

import { argon2id } from 'hash-wasm';
import { concatBytes, u64be, utf8ToBytes } from './bytes';
import { plainFromIndex } from './number';

/** Memory of one hash in KiB. */
const MEMORY_KIB = 8 * 1024;
const PASSES = 1;
const LANES = 1;
/** Bytes of output: the first must be zero, the next eight make the digits. */
const OUTPUT = 32;
const SALT = utf8ToBytes('offhook/number/1');

/** The number of `identity` and `nonce`, if that nonce gives one: one slow hash. */
export async function tryNonce(identity: Uint8Array, nonce: number): Promise<string | undefined> {
  const output = await argon2id({
    password: concatBytes(identity, u64be(nonce)),
    salt: SALT,
    memorySize: MEMORY_KIB,
    iterations: PASSES,
    parallelism: LANES,
    hashLength: OUTPUT,
    outputType: 'binary',
  });
  if (output[0] !== 0) return undefined;
  return plainFromIndex(new DataView(output.buffer, output.byteOffset).getBigUint64(1));
}
