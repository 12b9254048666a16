// Account records (`core/proto/src/record.rs`): who has a number, and which terminals no longer count.

import * as domain from './domain';
import { FormatError, equalBytes, inDomain, sha256 } from './bytes';
import { type Cbor, decode, encode, field, optional, Raw, type Reader } from './cbor';
import { open, sign } from './envelope';

/** Longest validity of an account record in milliseconds: 400 days. */
const ACCOUNT_LIFETIME_MS = 400 * 86_400_000;
/** Most revoked terminals that a record lists. */
export const MAX_REVOKED = 32;

const REVOKED = 5;
const SEQ = 6;
const EXPIRES = 7;
const TRANSFERS = 8;
const BACKUPS = 9;
/** Most directories whose backups a record tells the versions of. */
const MAX_BACKUPS = 8;
const PLACE_BYTES = 16;

/** How new the account's backup at a directory is: one that hands out an older one is found out. */
export interface BackupAt {
  /** The directory, as only its account can tell. */
  place: Uint8Array;
  version: number;
}

/** How new the backup at a directory is; `identitySeed` is the account's. */
export function backupAt(identitySeed: Uint8Array, directory: Uint8Array, version: number): BackupAt {
  return { place: sha256(inDomain(domain.BACKUP_AT, identitySeed, directory)).slice(0, PLACE_BYTES), version };
}

/** What a first record says beside number, proof and keys. */
export interface FirstRecord {
  /** Directories that keep messages for the account. */
  mailboxes: Cbor;
  revoked: readonly Uint8Array[];
  /** The transfers by which the identity has got the number, if it was somebody else's. */
  transfers: readonly Uint8Array[];
  backup: BackupAt;
}

/** What a next record changes. */
export interface Change {
  revoke?: Uint8Array;
  backup?: BackupAt;
}

/** An account record. Its fields are kept as they were encoded, so that those which this version does not know live on. */
export class AccountRecord {
  private constructor(private readonly fields: ReadonlyMap<number, Raw>) {}

  /** Reads a record out of its envelope. Its signature is not looked at: what we make of it gets our own. */
  static read(envelope: Uint8Array): AccountRecord {
    return new AccountRecord(decode(open(envelope).payload, (r) => r.map()));
  }

  /** The first record of a number. */
  static first(
    number: string,
    proof: Cbor,
    keys: { identity: Uint8Array; mailbox: Uint8Array },
    now: number,
    { mailboxes, revoked, transfers, backup }: FirstRecord,
  ): AccountRecord {
    const values: Cbor[] = [number, proof, keys.identity, keys.mailbox, mailboxes, revoked, now, now + ACCOUNT_LIFETIME_MS];
    const fields = new Map(values.map((value, key) => [key, new Raw(encode(value))]));
    if (transfers.length > 0) fields.set(TRANSFERS, new Raw(encode(transfers.map((transfer) => new Raw(transfer)))));
    fields.set(BACKUPS, encodeBackups([backup]));
    return new AccountRecord(fields);
  }

  get number(): string {
    return field(this.fields, 0, (r) => r.text());
  }

  get identity(): Uint8Array {
    return field(this.fields, 2, (r) => r.fixed(32));
  }

  get revoked(): Uint8Array[] {
    return field(this.fields, REVOKED, (r) => r.array((item) => item.fixed(32)));
  }

  /** How new the backups at the account's directories are. */
  get backups(): BackupAt[] {
    const read = (r: Reader): BackupAt[] =>
      r.array((item) => {
        const map = item.map();
        return { place: field(map, 0, (value) => value.fixed(PLACE_BYTES)), version: field(map, 1, (value) => value.count()) };
      });
    return optional(this.fields, BACKUPS, read) ?? [];
  }

  get seq(): number {
    return field(this.fields, SEQ, (r) => r.count());
  }

  /** The record that follows this one. Of too many revocations the oldest give way: their certificates are over. */
  next({ revoke, backup }: Change, now: number): AccountRecord {
    const fields = new Map(this.fields);
    if (revoke !== undefined) {
      if (revoke.length !== 32) throw new FormatError('a terminal is a key of 32 bytes');
      const others = this.revoked.filter((known) => !equalBytes(known, revoke));
      fields.set(REVOKED, new Raw(encode([...others, revoke].slice(-MAX_REVOKED))));
    }
    if (backup !== undefined) {
      const others = this.backups.filter(({ place }) => !equalBytes(place, backup.place));
      fields.set(BACKUPS, encodeBackups([...others, backup].slice(-MAX_BACKUPS)));
    }
    // A record counts only if it is later than the one before, whatever the clocks say.
    const seq = Math.max(now, this.seq + 1);
    fields.set(SEQ, new Raw(encode(seq)));
    fields.set(EXPIRES, new Raw(encode(seq + ACCOUNT_LIFETIME_MS)));
    return new AccountRecord(fields);
  }

  /** Signs the record; the encoded envelope. */
  sign(seed: Uint8Array): Uint8Array {
    return sign(seed, domain.ACCOUNT_RECORD, this.fields);
  }
}

function encodeBackups(backups: readonly BackupAt[]): Raw {
  return new Raw(encode(backups.map(({ place, version }) => new Map<number, Cbor>([[0, place], [1, version]]))));
}
