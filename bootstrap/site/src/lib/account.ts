// What an account does at its directory. The pages call these; they know nothing of formats.

import { ApiError } from './api/client';
import type { Account, Availability, Bytes, SealedBackup, SessionAnswer, Terminals } from './api/types';
import { Backup, backupKey, seal, unseal, unsealAsOwner, type BackupChosen } from './formats/backup';
import { bytesToHex, fromBase64Url, keyFromHex, toBase64Url } from './formats/bytes';
import type { Cbor } from './formats/cbor';
import { expectCertificate, readCertificate } from './formats/certificate';
import { identityId, mailboxPublic, type Seeds } from './formats/identity';
import { chosenProof, plainProof } from './formats/proof-encoding';
import { AccountRecord, backupAt, type BackupAt, type Change } from './formats/record';
import { signRequest, signTransfer, type Action } from './formats/requests';
import { Opaque } from './keys/opaque';
import type { Found } from './miner/miner';
import { api, session, type Keys } from './session.svelte';

/** What a sign-up needs. */
export interface NewAccount {
  id: string;
  password: string;
  seeds: Seeds;
  found: Found;
}

/** First version of a backup. */
const FIRST_VERSION = 1;

/** Makes the account: registers the password, stores the sealed backup, opens the session. */
export async function signUp(account: NewAccount, onSaving: () => void): Promise<void> {
  const { seeds, found } = account;
  const now = Date.now();
  const opaque = new Opaque(account.password);
  try {
    const { state, message } = await opaque.register();
    const started = await api.post<{ response: Bytes; id?: string }>('/signup/start', { id: account.id, request: message });
    const finished = await opaque.registered(state, started.response);
    onSaving();
    const id = started.id ?? account.id;
    const backup = Backup.first(seeds, found.number, found.nonce, now);
    const key = backupKey(fromBase64Url(finished.exportKey));
    const sealed = seal(backup, key, FIRST_VERSION);
    const upload = fromBase64Url(finished.message);
    const action: Action = { kind: 'signUp', id, number: found.number, nonce: found.nonce, upload, backup: sealed };
    const answer = await api.post<SessionAnswer>('/signup/finish', {
      id,
      upload: finished.message,
      identity: bytesToHex(identityId(seeds.identity)),
      number: found.number,
      proof_nonce: found.nonce,
      backup: toBase64Url(sealed),
      signed: await signedBy(seeds.identity, action),
    });
    session.open(answer, { key, backup, version: FIRST_VERSION });
  } finally {
    opaque.close();
  }
  await publishFirst(found.number, plainProof(BigInt(found.nonce)));
}

/** Logs in and opens the backup. */
export async function logIn(id: string, password: string): Promise<void> {
  const opaque = new Opaque(password);
  try {
    const { state, message } = await opaque.login();
    const started = await api.post<{ login: string; response: Bytes }>('/login/start', { id, request: message });
    const finished = await opaque.loggedIn(state, started.response);
    const answer = await api.post<SessionAnswer & { backup: SealedBackup }>('/login/finish', {
      login: started.login,
      finish: finished.message,
    });
    session.open(answer, openBackup(answer.account, answer.backup, backupKey(fromBase64Url(finished.exportKey))));
  } finally {
    opaque.close();
  }
}

function openBackup(account: Account, { data, version }: SealedBackup, key: Uint8Array): Keys {
  return { key, version, backup: unseal(fromBase64Url(data), key, keyFromHex(account.identity), version) };
}

/** Gets in with the identity key that the recovery words give, and sets a new password. */
export async function recover(identitySeed: Uint8Array, password: string): Promise<void> {
  const body = { signed: await signedBy(identitySeed, { kind: 'recover' }) };
  const answer = await api.post<SessionAnswer & { backup: SealedBackup }>('/recover', body);
  const { data, version } = answer.backup;
  session.open(answer, { version, ...unsealAsOwner(fromBase64Url(data), identitySeed, version) });
  await changeCredentials(answer.account.id, password);
}

/** Logs out; the keys are forgotten whatever the directory says. */
export async function logOut(): Promise<void> {
  try {
    await api.post('/logout');
  } finally {
    session.close();
  }
}

/** Fetches the account anew. */
export async function refresh(): Promise<void> {
  session.account = await api.get<Account>('/account');
}

/** The keys, which the caller has seen to be there. */
function keys(): Keys {
  if (session.keys === undefined) throw new ApiError('login_again', 403);
  return session.keys;
}

async function signedBy(seed: Uint8Array, action: Action): Promise<Bytes> {
  const { directory } = await session.directory();
  return toBase64Url(signRequest(seed, keyFromHex(directory), action, Date.now()));
}

function signed(action: Action): Promise<Bytes> {
  return signedBy(keys().backup.identitySeed, action);
}

/** Whether a wished number may be had. */
export function availability(typed: string, signal: AbortSignal): Promise<Availability> {
  return api.get(`/numbers/${encodeURIComponent(typed)}`, signal);
}

/**
 * Asks for a chosen number in its full form, and keeps its certificate in the backup. `code` is the transfer that its
 * previous owner has signed, if there is one.
 */
export async function claim(number: string, code?: Bytes): Promise<void> {
  const transfer = code === undefined ? undefined : fromBase64Url(code);
  const { identitySeed, nonce } = keys().backup;
  const body = { number, signed: await signed({ kind: 'claim', number, transfer }) };
  const answer = await api.post<{ certificate: Bytes }>('/account/numbers', body);
  const certificate = fromBase64Url(answer.certificate);
  expectCertificate(certificate, number, identityId(identitySeed));
  const transfers = transfer === undefined ? [] : [transfer];
  await storeChosen([...othersThan(number), { certificate, transfers }]);
  await publishFirst(number, chosenProof(certificate, nonce), transfers);
  await refresh();
}

/** Gives a chosen number up. */
export async function release(number: string): Promise<void> {
  await api.delete(`/account/numbers/${encodeURIComponent(number)}`, { signed: await signed({ kind: 'release', number }) });
  await forget(number);
}

/** Gives a chosen number to another identity, for good. The code with which the new owner asks for it. */
export async function transfer(number: string, to: Uint8Array): Promise<Bytes> {
  const { directory } = await session.directory();
  const code = toBase64Url(signTransfer(keys().backup.identitySeed, keyFromHex(directory), number, to, Date.now()));
  await api.post(`/account/numbers/${encodeURIComponent(number)}/transfer`, { signed: code });
  await forget(number);
  return code;
}

/** The chosen numbers in the backup without this one. */
function othersThan(number: string): BackupChosen[] {
  return keys().backup.chosen.filter(({ certificate }) => readCertificate(certificate).number !== number);
}

async function forget(number: string): Promise<void> {
  await storeChosen(othersThan(number));
  await refresh();
}

async function storeChosen(chosen: readonly BackupChosen[]): Promise<void> {
  await tellVersion(await storeBackup(keys().backup.withChosen(chosen)));
}

/** Stores another backup as the next version, which it gives back. */
async function storeBackup(backup: Backup): Promise<number> {
  const { key, version } = keys();
  const next = version + 1;
  const sealed = seal(backup, key, next);
  const action: Action = { kind: 'backup', version: next, backup: sealed };
  await api.put('/account/backup', { version: next, data: toBase64Url(sealed), signed: await signed(action) });
  session.keys = { key, backup, version: next };
  return next;
}

/** Changes ID and password. The backup is sealed anew under the new password. */
export async function changeCredentials(newId: string, password: string): Promise<void> {
  const { backup, version } = keys();
  const opaque = new Opaque(password);
  try {
    const { state, message } = await opaque.register();
    const body = { new_id: newId, request: message };
    const started = await api.post<{ response: Bytes; id?: string }>('/account/credentials/start', body);
    const finished = await opaque.registered(state, started.response);
    const id = started.id ?? newId;
    const next = version + 1;
    const key = backupKey(fromBase64Url(finished.exportKey));
    const sealed = seal(backup, key, next);
    const answer = await api.post<Partial<SessionAnswer>>('/account/credentials/finish', {
      new_id: id,
      upload: finished.message,
      backup: toBase64Url(sealed),
      version: next,
      signed: await signed({ kind: 'credentials', id, upload: fromBase64Url(finished.message), version: next, backup: sealed }),
    });
    session.keys = { key, backup, version: next };
    // The directory may give a new session with the new ID, so that an old cookie is worth nothing.
    if (answer.csrf !== undefined) api.csrf = answer.csrf;
    await tellVersion(next);
  } finally {
    opaque.close();
  }
  await refresh();
}

/** The account's terminals and the records of its numbers. */
export function terminals(): Promise<Terminals> {
  return api.get('/account/terminals');
}

/**
 * Revokes a terminal in the record of every number, and in the backup, from which later records are made. The directory does
 * not hold the key that signs this.
 */
export async function revoke(terminal: string): Promise<void> {
  const key = keyFromHex(terminal);
  const version = await storeBackup(keys().backup.withRevoked(key));
  await changeRecords({ revoke: key, backup: await here(version) });
  await refresh();
}

/** Publishes the next record of every number that the directory holds one of. */
async function changeRecords(change: Change): Promise<void> {
  const { identitySeed } = keys().backup;
  const { records } = await terminals();
  const now = Date.now();
  for (const record of records) {
    await publish(AccountRecord.read(fromBase64Url(record)).next(change, now).sign(identitySeed));
  }
}

/** Tells everybody the backup's version, so that no directory can hand out an older one. */
async function tellVersion(version: number): Promise<void> {
  try {
    await changeRecords({ backup: await here(version) });
  } catch (error) {
    // The backup is stored; the next terminal that is on line tells its version.
    if (!(error instanceof ApiError)) throw error;
  }
}

/** The version of the backup at this directory, as records tell it. */
async function here(version: number): Promise<BackupAt> {
  const { directory } = await session.directory();
  return backupAt(keys().backup.identitySeed, keyFromHex(directory), version);
}

/** Publishes the first record of a number, so that it exists before a terminal is on line. */
async function publishFirst(number: string, proof: Cbor, transfers: readonly Uint8Array[] = []): Promise<void> {
  const { backup, version } = keys();
  const { identitySeed, mailboxSeed, mailboxes, revoked } = backup;
  const publics = { identity: identityId(identitySeed), mailbox: mailboxPublic(mailboxSeed) };
  const told = { mailboxes, revoked, transfers, backup: await here(version) };
  const record = AccountRecord.first(number, proof, publics, Date.now(), told);
  try {
    await publish(record.sign(identitySeed));
  } catch (error) {
    // The terminal that logs in next publishes it, too; the number is held all the same.
    if (!(error instanceof ApiError)) throw error;
  }
}

function publish(record: Uint8Array): Promise<unknown> {
  return api.post('/account/record', { record: toBase64Url(record) });
}

/** Deletes the account. */
export async function deleteAccount(): Promise<void> {
  await api.delete('/account');
  session.close();
}
