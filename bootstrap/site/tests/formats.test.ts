// Known answers that core/proto's own code wrote (tests/vectors.rs), and what must be refused.

import { describe, expect, test } from 'vitest';
import { bytesToHex, fromBase64Url, hexToBytes, toBase64Url, utf8ToBytes } from '../src/lib/formats/bytes';
import { decode, encode, Raw } from '../src/lib/formats/cbor';
import { expectCertificate, readCertificate } from '../src/lib/formats/certificate';
import { open, sign, verify } from '../src/lib/formats/envelope';
import { identityId, mailboxPublic, newSeeds, peerId } from '../src/lib/formats/identity';
import { checkDigit, display, isPlain, plainFromIndex } from '../src/lib/formats/number';
import { tryNonce } from '../src/lib/formats/proof';
import { chosenProof, plainProof } from '../src/lib/formats/proof-encoding';
import { AccountRecord, backupAt, MAX_REVOKED } from '../src/lib/formats/record';
import { seedOf, wordMeant, wordsOf } from '../src/lib/formats/words';
import vectors from './vectors.json';

const DIRECTORY = hexToBytes(vectors.certificate.directory);

describe('numbers', () => {
  test('the number of an identity and a nonce is that of core/proto', async () => {
    for (const vector of vectors.mined) {
      expect(bytesToHex(identityId(hexToBytes(vector.seed)))).toBe(vector.identity);
      expect(await tryNonce(hexToBytes(vector.identity), vector.nonce)).toBe(vector.number);
      expect(await tryNonce(hexToBytes(vector.identity), vector.nonce + 1)).toBeUndefined();
      expect(bytesToHex(encode(plainProof(BigInt(vector.nonce))))).toBe(vector.proof);
      expect(display(vector.number)).toBe(vector.display);
      expect(isPlain(vector.number)).toBe(true);
    }
  });

  test('a mistyped digit does not pass', () => {
    expect(checkDigit('572')).toBe(4);
    expect(isPlain('387245519275')).toBe(false);
    expect(isPlain('38724551927')).toBe(false);
    expect(plainFromIndex(100_000_000_000n)).toBe('000000000000');
    expect(display('ada@directory.example')).toBe('ada@directory.example');
  });
});

describe('envelopes', () => {
  test('an envelope has the bytes of core/proto', () => {
    const { seed, domain, payload, bytes } = vectors.envelope;
    expect(bytesToHex(sign(hexToBytes(seed), domain, new Raw(hexToBytes(payload))))).toBe(bytes);
  });

  test('a signature is good for one key, one domain and one payload', () => {
    const { seed, domain, bytes } = vectors.envelope;
    const key = identityId(hexToBytes(seed));
    const envelope = open(hexToBytes(bytes));
    expect(verify(envelope, key, domain)).toBe(true);
    expect(verify(envelope, key, 'offhook/signal/1')).toBe(false);
    expect(verify(envelope, identityId(new Uint8Array(32)), domain)).toBe(false);
    expect(verify({ ...envelope, payload: utf8ToBytes('payloae') }, key, domain)).toBe(false);
    expect(verify(envelope, new Uint8Array(32).fill(255), domain)).toBe(false);
  });

  test('keys are shown as the client shows them', () => {
    expect(bytesToHex(mailboxPublic(hexToBytes(vectors.mailbox.seed)))).toBe(vectors.mailbox.public);
    expect(peerId(hexToBytes(vectors.peer_id.terminal))).toBe(vectors.peer_id.text);
  });
});

describe('certificates', () => {
  const { bytes, number, identity, issued, expires } = vectors.certificate;

  test('a certificate is read and its signature checked', () => {
    const certificate = expectCertificate(hexToBytes(bytes), number, hexToBytes(identity));
    expect(certificate).toMatchObject({ number, issued, expires });
  });

  test('a certificate of something else, or forged, is refused', () => {
    expect(() => expectCertificate(hexToBytes(bytes), 'ada@directory.example', hexToBytes(identity))).toThrow();
    expect(() => expectCertificate(hexToBytes(bytes), number, new Uint8Array(32))).toThrow();
    const forged = hexToBytes(bytes);
    forged[forged.length - 1] = (forged[forged.length - 1] ?? 0) ^ 1;
    expect(() => readCertificate(forged)).toThrow('bad signature');
  });
});

describe('account records', () => {
  const seed = hexToBytes(vectors.envelope.seed);
  const terminal = hexToBytes(vectors.peer_id.terminal);

  test('reading and signing again gives the same bytes', () => {
    for (const vector of vectors.records) {
      const record = AccountRecord.read(hexToBytes(vector.bytes));
      expect(record.number).toBe(vector.number);
      expect(bytesToHex(record.sign(seed))).toBe(vector.bytes);
    }
  });

  test('a first record has the bytes of core/proto', () => {
    const [plain, , chosen] = vectors.records;
    const publics = { identity: identityId(seed), mailbox: mailboxPublic(hexToBytes(vectors.mailbox.seed)) };
    const certificate = hexToBytes(vectors.certificate.bytes);
    const common = { mailboxes: ['/dns4/mailbox.example/tcp/443'], revoked: [], backup: backupAt(seed, DIRECTORY, 3) };
    const cases = [
      [plain, plainProof(78n), []],
      [chosen, chosenProof(certificate, 78n), [hexToBytes(vectors.transfer)]],
    ] as const;
    for (const [vector, proof, transfers] of cases) {
      const record = AccountRecord.first(vector?.number ?? '', proof, publics, vector?.now ?? 0, { ...common, transfers });
      expect(bytesToHex(record.sign(seed))).toBe(vector?.bytes);
    }
  });

  test('revoking adds the terminal and takes the next sequence', () => {
    const [before, after] = vectors.records;
    const record = AccountRecord.read(hexToBytes(before?.bytes ?? ''));
    const revoked = record.next({ revoke: terminal }, 5);
    expect(revoked.seq).toBe(record.seq + 1);
    expect(revoked.revoked).toEqual([terminal]);
    expect(payloadOf(revoked.sign(seed)).get(5)).toEqual(payloadOf(hexToBytes(after?.bytes ?? '')).get(5));
    expect(revoked.next({ revoke: terminal }, 5).revoked).toEqual([terminal]);
    const next = record.next({ backup: backupAt(seed, DIRECTORY, 4) }, 5);
    expect(next.backups).toEqual([backupAt(seed, DIRECTORY, 4)]);
    const other = backupAt(seed, new Uint8Array(32).fill(6), 9);
    expect(next.next({ backup: other }, 6).backups).toEqual([backupAt(seed, DIRECTORY, 4), other]);
    expect(backupAt(new Uint8Array(32).fill(8), DIRECTORY, 4).place).not.toEqual(next.backups[0]?.place);
  });

  test('the oldest revocations give way', () => {
    let record = AccountRecord.read(hexToBytes(vectors.records[0]?.bytes ?? ''));
    for (let i = 0; i <= MAX_REVOKED; i++) record = record.next({ revoke: new Uint8Array(32).fill(i) }, i);
    expect(record.revoked.length).toBe(MAX_REVOKED);
    expect(record.revoked[0]).toEqual(new Uint8Array(32).fill(1));
  });

  test('fields of a later version live on', () => {
    const fields = payloadOf(hexToBytes(vectors.records[0]?.bytes ?? ''));
    fields.set(99, new Raw(encode('later')));
    const later = sign(seed, 'offhook/account-record/1', fields);
    expect(payloadOf(AccountRecord.read(later).next({ revoke: terminal }, 5).sign(seed)).get(99)).toEqual(new Raw(encode('later')));
  });
});

function payloadOf(envelope: Uint8Array): Map<number, Raw> {
  return decode(open(envelope).payload, (r) => r.map());
}

describe('CBOR', () => {
  test('numbers take the shortest form (RFC 8949 appendix A)', () => {
    const cases: [number | bigint, string][] = [
      [0, '00'], [23, '17'], [24, '1818'], [255, '18ff'], [256, '190100'], [65_536, '1a00010000'],
      [1_000_000_000_000, '1b000000e8d4a51000'], [18_446_744_073_709_551_615n, '1bffffffffffffffff'],
    ];
    for (const [value, hex] of cases) expect(bytesToHex(encode(value))).toBe(hex);
    expect(() => encode(-1)).toThrow();
  });

  test('keys ascend whatever their order was, and undefined is left out', () => {
    const map = new Map<number, number | undefined>([[24, 1], [3, 2], [5, undefined]]);
    expect(bytesToHex(encode(map))).toBe('a20302181801');
  });

  test('what is cut off, too long or of another type is refused', () => {
    const uint = (hex: string) => () => decode(hexToBytes(hex), (r) => r.uint());
    for (const hex of ['', '18', '1b00', '60', '0000', '1f']) expect(uint(hex)).toThrow();
    expect(() => decode(hexToBytes('5affffffff00'), (r) => r.byteString())).toThrow();
    expect(() => decode(hexToBytes('a200010002'), (r) => r.map())).toThrow('twice');
    expect(() => decode(hexToBytes('61ff'), (r) => r.text())).toThrow('UTF-8');
    expect(() => decode(hexToBytes('81'.repeat(1000) + '00'), (r) => r.raw())).toThrow('deep');
    expect(() => decode(hexToBytes('9bffffffffffffffff'), (r) => r.raw())).toThrow();
  });
});

describe('texts', () => {
  test('base64url is the one without padding', () => {
    const bytes = Uint8Array.of(251, 255, 0, 1);
    expect(toBase64Url(bytes)).toBe('-_8AAQ');
    expect(fromBase64Url('-_8AAQ')).toEqual(bytes);
    for (const bad of ['a', 'ab==', '+/', 'ab cd']) expect(() => fromBase64Url(bad)).toThrow();
  });

  test('recovery words give the identity back, however they are typed', () => {
    const { identity } = newSeeds();
    const words = wordsOf(identity);
    expect(words.length).toBe(24);
    expect(seedOf(words.map((word, i) => `${i + 1}. ${word.toUpperCase()},`).join('\n'))).toEqual({ seed: identity });
    expect(seedOf(words.map((word) => word.slice(0, 4)).join('  '))).toEqual({ seed: identity });
    expect(wordMeant(' Zoo ')).toBe('zoo');
  });

  test('recovery words are those of BIP-39', () => {
    expect(wordsOf(new Uint8Array(32)).join(' ')).toBe(`${'abandon '.repeat(23)}art`);
    expect(wordsOf(new Uint8Array(32).fill(0xff)).join(' ')).toBe(`${'zoo '.repeat(23)}vote`);
  });

  test('mistakes in recovery words are told', () => {
    const words = wordsOf(new Uint8Array(32).fill(7));
    expect(seedOf('')).toEqual({ fault: { count: 0 } });
    expect(seedOf(words.slice(1).join(' '))).toEqual({ fault: { count: 23 } });
    const withFifth = (word: string) => words.map((old, i) => (i === 4 ? word : old)).join(' ');
    expect(seedOf(withFifth('telephonist'))).toEqual({ fault: { unknown: 5 } });
    expect(seedOf(withFifth('zoo'))).toEqual({ fault: 'check' });
  });
});
