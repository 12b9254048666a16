// Requests and backups: the same bytes as core/proto writes (its fuzzer's seeds), and what must be refused.

import { describe, expect, test } from 'vitest';
import { Backup, backupKey, seal, unseal, unsealAsOwner } from '../src/lib/formats/backup';
import { bytesToHex, hexToBytes, utf8ToBytes } from '../src/lib/formats/bytes';
import { decode, encode, field, Raw } from '../src/lib/formats/cbor';
import { open, sign, verify } from '../src/lib/formats/envelope';
import { identityId } from '../src/lib/formats/identity';
import { chosenKey, signRequest, signTransfer, type Action } from '../src/lib/formats/requests';
import vectors from './vectors.json';

const NOW = 1_800_000_000_000;
const ISSUED = 1_790_000_000_000;
const ALICE = new Uint8Array(32).fill(7);
const BOB = new Uint8Array(32).fill(8);
const MAILBOX = new Uint8Array(32).fill(99);
const DIRECTORY = identityId(new Uint8Array(32).fill(77));
const NUMBER = 'ada@directory.example';
const KEY = backupKey(new Uint8Array(64).fill(5));
const NONCES = { backup: new Uint8Array(24).fill(1), recovery: new Uint8Array(24).fill(2) };

const plain = hexToBytes(vectors.backup.plain);
const sealed = hexToBytes(vectors.backup.sealed);

describe('requests', () => {
  const upload = utf8ToBytes('upload');
  const backup = utf8ToBytes('backup');
  // A transfer of the record key 1, 1, 1…, which belongs to no word that is known.
  const fields = new Map<number, Uint8Array | number>([[0, new Uint8Array(32).fill(1)], [1, identityId(BOB)], [2, identityId(ALICE)], [3, NOW]]);
  const transfer = sign(BOB, 'offhook/number-transfer/1', fields);
  const actions: [keyof typeof vectors.requests, Action][] = [
    ['sign_up', { kind: 'signUp', id: 'ada', number: '387245519274', nonce: 78, upload, backup }],
    ['backup', { kind: 'backup', version: 7, backup }],
    ['claim', { kind: 'claim', number: NUMBER, transfer }],
    ['renew', { kind: 'renew', number: NUMBER }],
    ['release', { kind: 'release', number: NUMBER }],
    ['credentials', { kind: 'credentials', id: '홍길동', upload, version: 8, backup }],
    ['recover', { kind: 'recover' }],
  ];

  test.each(actions)('the request %s has the bytes of core/proto', (name, action) => {
    expect(bytesToHex(signRequest(ALICE, DIRECTORY, action, NOW))).toBe(vectors.requests[name]);
  });

  test('a claim without a transfer leaves the field out', () => {
    const signed = signRequest(ALICE, DIRECTORY, { kind: 'claim', number: NUMBER, transfer: undefined }, NOW);
    const action = decode(open(signed).payload, (r) => field(r.map(), 3, (inner) => inner.array((item) => item.raw())));
    expect(action[1]).toEqual(new Raw(encode(new Map([[0, NUMBER]]))));
  });
});

describe('transfers', () => {
  test('a transfer is the one that core/proto has put into its backup', () => {
    const [chosen] = Backup.decode(plain).chosen;
    const mine = signTransfer(BOB, DIRECTORY, NUMBER, identityId(ALICE), ISSUED);
    expect(bytesToHex(chosen?.transfers[0] ?? new Uint8Array())).toBe(bytesToHex(mine));
  });

  test('only a chosen number in its full form can be given away', () => {
    expect(() => chosenKey(DIRECTORY, 'ada')).toThrow();
    expect(() => chosenKey(DIRECTORY, '@directory.example')).toThrow();
  });
});

describe('backups', () => {
  test('what core/proto has sealed is opened, with password and as owner', () => {
    const backup = unseal(sealed, KEY, identityId(ALICE), 7);
    expect(backup.encode()).toEqual(plain);
    expect(backup).toMatchObject({ number: '387245519274', nonce: 78n, contactCount: 1, identitySeed: ALICE, mailboxSeed: MAILBOX });
    expect(backup.revoked).toEqual([new Uint8Array(32).fill(9)]);
    const owned = unsealAsOwner(sealed, ALICE, 7);
    expect([owned.backup.encode(), owned.key]).toEqual([plain, KEY]);
  });

  test('a sealed backup has the bytes of core/proto', () => {
    expect(bytesToHex(seal(Backup.decode(plain), KEY, 7, NONCES))).toBe(vectors.backup.sealed);
  });

  test('another key, identity or version opens nothing', () => {
    const alice = identityId(ALICE);
    expect(() => unseal(sealed, backupKey(new Uint8Array(64).fill(6)), alice, 7)).toThrow('does not open');
    expect(() => unseal(sealed, KEY, identityId(BOB), 7)).toThrow('does not open');
    expect(() => unseal(sealed, KEY, alice, 8)).toThrow('version');
    expect(() => unsealAsOwner(sealed, BOB, 7)).toThrow('does not open');
    const pretended = sealed.slice();
    pretended[4] = 8;
    expect(() => unseal(pretended, KEY, alice, 8)).toThrow('does not open');
    const later = sealed.slice();
    later[2] = 2;
    expect(() => unseal(later, KEY, alice, 7)).toThrow('format');
    expect(() => unseal(new Uint8Array(262_145), KEY, alice, 7)).toThrow('large');
  });

  test('two seals of one backup share no nonce', () => {
    const backup = Backup.decode(plain);
    expect(seal(backup, KEY, 7)).not.toEqual(seal(backup, KEY, 7));
  });

  test('a first backup is read back', () => {
    const first = Backup.first({ identity: ALICE, mailbox: MAILBOX }, '387245519274', 78, ISSUED);
    const opened = unseal(seal(first, KEY, 1), KEY, identityId(ALICE), 1);
    expect(opened).toMatchObject({ number: '387245519274', nonce: 78n, contactCount: 0, chosen: [], revoked: [] });
  });

  test('changes touch their field only, and fields of later versions live on', () => {
    const later = Backup.decode(encode(decode(plain, (r) => r.map()).set(99, new Raw(encode('later')))));
    const [chosen] = later.chosen;
    const changed = later.withChosen([]).withRevoked(new Uint8Array(32).fill(3));
    expect(changed.chosen).toEqual([]);
    expect(changed.revoked.length).toBe(2);
    expect(changed.contactCount).toBe(1);
    const map = decode(changed.encode(), (r) => r.map());
    expect(map.get(99)).toEqual(new Raw(encode('later')));
    expect(later.withChosen(chosen ? [chosen] : []).encode()).toEqual(later.encode());
  });
});

test('the head of the list is verified with the length where core/proto has it', () => {
  const envelope = open(hexToBytes(vectors.list_head));
  expect(verify(envelope, DIRECTORY, 'offhook/list-head/1')).toBe(true);
  expect(decode(envelope.payload, (r) => field(r.map(), 1, (inner) => inner.count()))).toBe(5);
});
