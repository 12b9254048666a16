// The backup (`core/proto/src/backup.rs`): what ID and password give back on any terminal. Sealed here; the directory sees
// bytes and a version. Its key is sealed a second time, under one that follows from the identity key: that is what the
// recovery words open.

import { xchacha20poly1305 } from '@noble/ciphers/chacha';
import * as domain from './domain';
import { equalBytes, FormatError, inDomain, randomBytes, sha256, u64be } from './bytes';
import { type Cbor, decode, encode, field, optional, Raw } from './cbor';
import { identityId } from './identity';
import { MAX_REVOKED } from './record';

/** Most bytes of a sealed backup. */
export const MAX_BACKUP_BYTES = 256 * 1024;
const FORMAT = 1;
const NONCE_BYTES = 24;

const IDENTITY = 0;
const MAILBOX = 1;
const NUMBER = 2;
const PROOF = 3;
const CHOSEN = 4;
const CONTACTS = 5;
const SETTINGS = 6;
const PINS = 7;
const CREATED = 8;
const REVOKED = 9;
const MAILBOXES = 10;

/** A chosen number in a backup: the certificate, and the transfers by which the identity has got it. */
export interface BackupChosen {
  certificate: Uint8Array;
  transfers: readonly Uint8Array[];
}

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
      [CHOSEN, []],
      [CONTACTS, []],
      [SETTINGS, new Map()],
      [PINS, []],
      [CREATED, now],
      [REVOKED, []],
      [MAILBOXES, []],
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

  /** Chosen numbers. */
  get chosen(): BackupChosen[] {
    return field(this.fields, CHOSEN, (r) =>
      r.array((item) => {
        const map = item.map();
        return {
          certificate: field(map, 0, (value) => value.raw()).bytes,
          transfers: optional(map, 1, (value) => value.array((transfer) => transfer.raw().bytes)) ?? [],
        };
      }),
    );
  }

  /** How many contacts there are. */
  get contactCount(): number {
    return field(this.fields, CONTACTS, (r) => r.array((item) => item.raw())).length;
  }

  /** Terminals that are revoked: every newer account record says so again. */
  get revoked(): Uint8Array[] {
    return optional(this.fields, REVOKED, (r) => r.array((item) => item.fixed(32))) ?? [];
  }

  /** Directories that keep messages for the account, as account records have them. */
  get mailboxes(): Raw {
    return this.fields.get(MAILBOXES) ?? new Raw(encode([]));
  }

  /** The same backup with other chosen numbers. */
  withChosen(chosen: readonly BackupChosen[]): Backup {
    const encoded = chosen.map(({ certificate, transfers }) => {
      const list = transfers.length === 0 ? undefined : transfers.map((transfer) => new Raw(transfer));
      return new Map<number, Cbor | undefined>([[0, new Raw(certificate)], [1, list]]);
    });
    return this.with(CHOSEN, encoded);
  }

  /** The same backup with one terminal more revoked. */
  withRevoked(terminal: Uint8Array): Backup {
    const others = this.revoked.filter((known) => !equalBytes(known, terminal));
    return this.with(REVOKED, [...others, terminal].slice(-MAX_REVOKED));
  }

  private with(key: number, value: Cbor): Backup {
    return new Backup(new Map(this.fields).set(key, new Raw(encode(value))));
  }
}

/** The key of a backup: what only ID and password give (OPAQUE's export key), hashed for this purpose. */
export function backupKey(exportKey: Uint8Array): Uint8Array {
  return sha256(inDomain(domain.BACKUP_KEY, exportKey));
}

/** The second key, under which the first one is sealed. */
function ownerKey(identitySeed: Uint8Array): Uint8Array {
  return sha256(inDomain(domain.RECOVERY, identitySeed));
}

/** What a seal is bound to beside its key: whose backup it is, and which one. */
function associated(name: string, identity: Uint8Array, version: bigint): Uint8Array {
  return inDomain(name, identity, u64be(version));
}

/** Two nonces, fresh for every seal. */
export interface Nonces {
  backup: Uint8Array;
  recovery: Uint8Array;
}

/** Seals a backup as its `version`, the first of which is 1. */
export function seal(
  backup: Backup,
  key: Uint8Array,
  version: number,
  nonces: Nonces = { backup: randomBytes(NONCE_BYTES), recovery: randomBytes(NONCE_BYTES) },
): Uint8Array {
  const seed = backup.identitySeed;
  const identity = identityId(seed);
  const inner = xchacha20poly1305(key, nonces.backup, associated(domain.BACKUP, identity, BigInt(version)));
  const outer = xchacha20poly1305(ownerKey(seed), nonces.recovery, associated(domain.RECOVERY, identity, BigInt(version)));
  const recovery = new Map([
    [0, nonces.recovery],
    [1, outer.encrypt(key)],
  ]);
  const fields: Cbor[] = [FORMAT, version, nonces.backup, inner.encrypt(backup.encode()), recovery];
  const bytes = encode(new Map(fields.map((value, key) => [key, value])));
  if (bytes.length > MAX_BACKUP_BYTES) throw new FormatError('backup too large');
  return bytes;
}

interface Sealed {
  version: bigint;
  nonce: Uint8Array;
  sealed: Uint8Array;
  recovery: { nonce: Uint8Array; sealed: Uint8Array };
}

function readSealed(bytes: Uint8Array): Sealed {
  if (bytes.length > MAX_BACKUP_BYTES) throw new FormatError('backup too large');
  const map = decode(bytes, (r) => r.map());
  if (field(map, 0, (r) => r.count()) !== FORMAT) throw new FormatError('backup of another format');
  const recovery = field(map, 4, (r) => r.map());
  return {
    version: field(map, 1, (r) => r.uint()),
    nonce: field(map, 2, (r) => r.fixed(NONCE_BYTES)),
    sealed: field(map, 3, (r) => r.byteString()),
    recovery: { nonce: field(recovery, 0, (r) => r.fixed(NONCE_BYTES)), sealed: field(recovery, 1, (r) => r.byteString()) },
  };
}

/** Opens the backup of `identity` with the key that ID and password give. The directory says it is of this version. */
export function unseal(bytes: Uint8Array, key: Uint8Array, identity: Uint8Array, version: number): Backup {
  const sealed = readSealed(bytes);
  if (sealed.version !== BigInt(version)) throw new FormatError('backup of another version');
  const plain = decrypt(key, sealed.nonce, associated(domain.BACKUP, identity, sealed.version), sealed.sealed);
  const backup = Backup.decode(plain);
  if (!equalBytes(identityId(backup.identitySeed), identity)) throw new FormatError('backup of another identity');
  return backup;
}

/** Opens a backup with the identity key, which the recovery words give. Its own key comes along. */
export function unsealAsOwner(bytes: Uint8Array, identitySeed: Uint8Array, version: number): { backup: Backup; key: Uint8Array } {
  const sealed = readSealed(bytes);
  const identity = identityId(identitySeed);
  const { recovery } = sealed;
  const key = decrypt(ownerKey(identitySeed), recovery.nonce, associated(domain.RECOVERY, identity, sealed.version), recovery.sealed);
  return { backup: unseal(bytes, key, identity, version), key };
}

function decrypt(key: Uint8Array, nonce: Uint8Array, data: Uint8Array, sealed: Uint8Array): Uint8Array {
  try {
    return xchacha20poly1305(key, nonce, data).decrypt(sealed);
  } catch {
    throw new FormatError('backup that this key does not open');
  }
}
