// Certificates of chosen numbers (`core/proto/src/proof/chosen.rs`), signed by a directory's key.

import * as domain from './domain';
import { equalBytes, FormatError } from './bytes';
import { decode, field } from './cbor';
import { open, verify } from './envelope';

/** What a directory says: `number` belongs to `identity` between the two times. */
export interface Certificate {
  number: string;
  identity: Uint8Array;
  directory: Uint8Array;
  issued: number;
  expires: number;
}

/** Reads a certificate and checks that the directory it names has signed it. */
export function readCertificate(bytes: Uint8Array): Certificate {
  const envelope = open(bytes);
  const map = decode(envelope.payload, (r) => r.map());
  const certificate = {
    number: field(map, 0, (r) => r.text()),
    identity: field(map, 1, (r) => r.fixed(32)),
    directory: field(map, 2, (r) => r.fixed(32)),
    issued: field(map, 3, (r) => r.count()),
    expires: field(map, 4, (r) => r.count()),
  };
  if (!verify(envelope, certificate.directory, domain.CHOSEN_CERT)) throw new FormatError('bad signature');
  return certificate;
}

/** The same, for a certificate that has just been issued: it must say what was asked for. */
export function expectCertificate(bytes: Uint8Array, number: string, identity: Uint8Array): Certificate {
  const certificate = readCertificate(bytes);
  if (certificate.number !== number || !equalBytes(certificate.identity, identity)) {
    throw new FormatError('certificate of another number');
  }
  return certificate;
}
