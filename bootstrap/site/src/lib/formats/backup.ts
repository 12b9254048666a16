// The backup: what ID and password give back on any terminal. Sealed here; the directory sees bytes and a version.

import { xchacha20poly1305 } from '@noble/ciphers/chacha';
import * as domain from './domain';
import { FormatError, inDomain, randomBytes, sha256, u64be } from './bytes';
import { type Cbor, decode, encode, field, optional, Raw } from './cbor';
import { identityId } from './identity';

/** Most bytes of a sealed backup. */
export const MAX_BACKUP_BYTES = 256 * 1024;
const FORMAT = 1;
const NONCE_BYTES = 24;

const IDENTITY = 0;
const MAILBOX = 1;
const NUMBER = 2;
const PROOF = 3;
const CERTIFICATES = 4;
const CONTACTS = 5;
const SETTINGS = 6;
const PINS = 7;
const CREATED = 8;

/** What is in a backup. Fields that this site does not touch are kept as they were encoded, unknown ones, too. */
export class Backup {
  private constructor(private readonly fields: ReadonlyMap<number, Raw>) {}

  /** The backup of a new account. */
  static first(seeds: { identity: Uint8Array; mailbox: Uint8Array }, number: string, nonce: number, now: number): Backup {
    const fields = new Map<number, Cbor>([
      [IDENTITY, seeds.identity],
      [MAILBOX, seeds.mailbox],
      [NUMBER, number],
      [PROOF, nonce],
      [CERTIFICATES, []],
      [CONTACTS, []],
      [SETTINGS, new Map()],
      [PINS, []],
      [CREATED, now],
    ]);
    return new Backup(new Map([...fields].map(([key, value]) => [key, new Raw(encode(value))])));
  }

  static decode(bytes: Uint8Array): Backup {
    return new Backup(decode(bytes, (r) => r.map()));
  }

  encode(): Uint8Array {
    return encode(this.fields);
  }

  /** Secret seed of the identity. */
  get identitySeed(): Uint8Array {
    return field(this.fields, IDENTITY, (r) => r.fixed(32));
  }

  /** Secret seed of the mailbox. */
  get mailboxSeed(): Uint8Array {
    return field(this.fields, MAILBOX, (r) => r.fixed(32));
  }

  /** The plain number. */
  get number(): string {
    return field(this.fields, NUMBER, (r) => r.text());
  }

  /** The nonce that gives the plain number. */
  get nonce(): bigint {
    return field(this.fields, PROOF, (r) => r.uint());
  }

  /** Certificates of chosen numbers. */
  get certificates(): Uint8Array[] {
    return optional(this.fields, CERTIFICATES, (r) => r.array((item) => item.byteString())) ?? [];
  }

  /** How many contacts there are. */
  get contactCount(): number {
    return optional(this.fields, CONTACTS, (r) => r.array((item) => item.raw()))?.length ?? 0;
  }

  /** The same backup with other certificates. */
  withCertificates(certificates: readonly Uint8Array[]): Backup {
    return new Backup(new Map(this.fields).set(CERTIFICATES, new Raw(encode(certificates))));
  }
}

/** A sealed backup's outer fields. */
interface Sealed {
  version: bigint;
  nonce: Uint8Array;
  ciphertext: Uint8Array;
  recovery: Raw | undefined;
}

/** The key of a backup: what only ID and password give, hashed for this purpose. */
export function backupKey(exportKey: Uint8Array): Uint8Array {
  return sha256(inDomain(domain.BACKUP_KEY, exportKey));
}

function associated(identity: Uint8Array, version: bigint): Uint8Array {
  return inDomain(domain.BACKUP, identity, u64be(version));
}

/** Seals a backup. `recovery` is what [sealRecovery] or an earlier backup gives: it is passed on. */
export function seal(backup: Backup, exportKey: Uint8Array, version: number, recovery: Raw | undefined): Uint8Array {
  const nonce = randomBytes(NONCE_BYTES);
  const identity = identityId(backup.identitySeed);
  const cipher = xchacha20poly1305(backupKey(exportKey), nonce, associated(identity, BigInt(version)));
  const fields = new Map<number, Cbor | undefined>([
    [0, FORMAT],
    [1, version],
    [2, nonce],
    [3, cipher.encrypt(backup.encode())],
    [4, recovery],
  ]);
  const bytes = encode(fields);
  if (bytes.length > MAX_BACKUP_BYTES) throw new FormatError('backup too large');
  return bytes;
}

function readSealed(bytes: Uint8Array): Sealed {
  if (bytes.length > MAX_BACKUP_BYTES) throw new FormatError('backup too large');
  const map = decode(bytes, (r) => r.map());
  if (field(map, 0, (r) => r.count()) !== FORMAT) throw new FormatError('backup of another format');
  return {
    version: field(map, 1, (r) => r.uint()),
    nonce: field(map, 2, (r) => r.fixed(NONCE_BYTES)),
    ciphertext: field(map, 3, (r) => r.byteString()),
    recovery: map.get(4),
  };
}

/** Opens the backup of `identity` that is said to be of this version. */
export function unseal(
  bytes: Uint8Array,
  exportKey: Uint8Array,
  identity: Uint8Array,
  version: number,
): { backup: Backup; recovery: Raw | undefined } {
  const sealed = readSealed(bytes);
  if (sealed.version !== BigInt(version)) throw new FormatError('backup of another version');
  const cipher = xchacha20poly1305(backupKey(exportKey), sealed.nonce, associated(identity, sealed.version));
  let plain: Uint8Array;
  try {
    plain = cipher.decrypt(sealed.ciphertext);
  } catch {
    throw new FormatError('backup sealed under another key');
  }
  return { backup: Backup.decode(plain), recovery: sealed.recovery };
}

/** Seals the identity seed under the recovery words' entropy: the second key to the identity. */
export function sealRecovery(identitySeed: Uint8Array, entropy: Uint8Array): Raw {
  const nonce = randomBytes(NONCE_BYTES);
  const key = sha256(inDomain(domain.RECOVERY, entropy));
  const cipher = xchacha20poly1305(key, nonce, inDomain(domain.RECOVERY, identityId(identitySeed)));
  return new Raw(
    encode(
      new Map([
        [0, nonce],
        [1, cipher.encrypt(identitySeed)],
      ]),
    ),
  );
}
