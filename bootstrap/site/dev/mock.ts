// A stand-in for the directory's HTTP API, for looking at the site without one. Never shipped: nothing in `src` imports it.
// It keeps everything in memory, speaks real OPAQUE and issues real certificates; it does not judge names as a directory does.

import { randomBytes } from 'node:crypto';
import { server as opaque, ready } from '@serenity-kit/opaque';
import { bytesToHex, fromBase64Url, hexToBytes, sha256, toBase64Url } from '../src/lib/formats/bytes';
import { type Cbor, decode, encode, field } from '../src/lib/formats/cbor';
import { open, sign, verify } from '../src/lib/formats/envelope';
import { identityId } from '../src/lib/formats/identity';
import { AccountRecord } from '../src/lib/formats/record';

/** An answer: status, body, and perhaps a session to set (null clears it). */
export interface Answer {
  status: number;
  body: object;
  session?: string | null;
}

interface Account {
  id: string;
  identity: string;
  number: string;
  chosen: { number: string; issued: number; expires: number; certificate: string }[];
  upload: string;
  backup: string;
  version: number;
  created: number;
  records: Map<string, string>;
  terminals: { terminal: string; certified: number; expires: number; online: boolean }[];
}

interface Session {
  id: string;
  csrf: string;
}

type Body = Record<string, unknown>;

const DAY = 86_400_000;
const NAME = 'directory.example';
const TAKEN = new Set(['bob@' + NAME, '1004@' + NAME]);
const RESERVED = new Set(['admin@' + NAME, 'operator@' + NAME]);

class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly details: object = {},
  ) {
    super(code);
  }
}

/** The directory. */
export class Mock {
  private readonly setup: string;
  private readonly seed = new Uint8Array(randomBytes(32));
  private readonly accounts = new Map<string, Account>();
  private readonly sessions = new Map<string, Session>();
  private readonly logins = new Map<string, { id: string; state: string }>();

  private constructor() {
    this.setup = opaque.createSetup();
  }

  static async start(): Promise<Mock> {
    await ready;
    return new Mock();
  }

  /** Answers one request. */
  handle(method: string, path: string, body: Body, cookie: string | undefined, csrf: string | undefined): Answer {
    try {
      return this.route(method, path, body, cookie, csrf);
    } catch (error) {
      if (error instanceof Refusal) return { status: error.status, body: { error: error.code, message: error.code, ...error.details } };
      console.error(error);
      return { status: 400, body: { error: 'bad_request', message: String(error) } };
    }
  }

  private route(method: string, path: string, body: Body, cookie: string | undefined, csrf: string | undefined): Answer {
    const at = `${method} ${path}`;
    const session = cookie === undefined ? undefined : this.sessions.get(cookie);
    if (at === 'GET /info') return { status: 200, body: this.info() };
    if (method === 'GET' && path.startsWith('/numbers/')) return { status: 200, body: this.availability(decodeURIComponent(path.slice(9))) };
    if (method === 'GET' && path.startsWith('/list')) return { status: 200, body: this.list() };
    if (at === 'POST /signup/start') return { status: 200, body: this.registration(text(body, 'id'), text(body, 'request')) };
    if (at === 'POST /signup/finish') return this.signUp(body);
    if (at === 'POST /login/start') return { status: 200, body: this.loginStart(body) };
    if (at === 'POST /login/finish') return this.loginFinish(body);
    if (at === 'POST /recover') return this.recover(body);
    const account = session && this.accounts.get(session.id);
    if (!session || !account) throw new Refusal(401, 'no_session');
    if (method !== 'GET' && csrf !== session.csrf) throw new Refusal(403, 'bad_csrf');
    return this.own(at, path, body, session, account, cookie ?? '');
  }

  private own(at: string, path: string, body: Body, session: Session, account: Account, cookie: string): Answer {
    if (at === 'POST /logout') return { status: 200, body: {}, session: null };
    if (at === 'GET /session') return { status: 200, body: { csrf: session.csrf, account: shown(account) } };
    if (at === 'GET /account') return { status: 200, body: shown(account) };
    if (at === 'DELETE /account') {
      this.accounts.delete(account.id);
      return { status: 200, body: {}, session: null };
    }
    if (at === 'GET /account/terminals') return { status: 200, body: { terminals: account.terminals, records: [...account.records.values()] } };
    if (at === 'POST /account/record') return { status: 200, body: this.record(account, text(body, 'record')) };
    if (at === 'PUT /account/backup') return { status: 200, body: this.backup(account, body) };
    if (at === 'POST /account/credentials/start') return { status: 200, body: this.registration(text(body, 'new_id'), text(body, 'request'), account) };
    if (at === 'POST /account/credentials/finish') return { status: 200, body: this.credentials(account, session, body, cookie) };
    if (at === 'POST /account/numbers') return { status: 201, body: this.claim(account, body) };
    const match = /^(DELETE|POST) \/account\/numbers\/([^/]+)(\/transfer)?$/.exec(`${at.split(' ')[0]} ${path}`);
    if (match) {
      const number = decodeURIComponent(match[2] ?? '');
      this.check(account, text(body, 'signed'), match[3] ? 'offhook/number-transfer/1' : 'offhook/directory-request/1');
      account.chosen = account.chosen.filter((chosen) => chosen.number !== number);
      return { status: 200, body: {} };
    }
    throw new Refusal(404, 'not_found');
  }

  private info(): object {
    return {
      name: NAME,
      directory: bytesToHex(identityId(this.seed)),
      signup: 'open',
      chosen: true,
      max_numbers: 8,
      version: 'offhook-directory 0.2.0',
      downloads: [
        { name: 'offhook_0.2.0_amd64.deb', size: 9_437_184, sha256: bytesToHex(sha256(Uint8Array.of(1))), url: '/downloads/offhook_0.2.0_amd64.deb' },
        { name: 'offhook-0.2.0-x86_64-linux.tar.gz', size: 8_912_896, sha256: bytesToHex(sha256(Uint8Array.of(2))), url: '/downloads/offhook-0.2.0-x86_64-linux.tar.gz' },
      ],
      node: { status: 'ok', started: Date.now() - 12 * DAY, peers: 1342, registered: 871, dht_nodes: 214, records: 20_417, accounts: 903, relay: true, mailbox: true, contact: 'operator@directory.example' },
    };
  }

  private list(): object {
    const payload = new Map<number, Cbor>([[0, identityId(this.seed)], [1, 1204], [2, new Uint8Array(32)], [3, Date.now()]]);
    return { head: toBase64Url(sign(this.seed, 'offhook/list-head/1', payload)), entries: [] };
  }

  private availability(typed: string): object {
    const name = typed.trim().normalize('NFKC').toLowerCase().split('@')[0] ?? '';
    const number = `${name}@${NAME}`;
    const owned = [...this.accounts.values()].some((account) => account.chosen.some((chosen) => chosen.number === number));
    if (/\s/.test(name)) return { number, state: 'invalid', reason: 'blank' };
    if (/^[0-9]{9,}$/.test(name)) return { number, state: 'invalid', reason: 'digits' };
    if (RESERVED.has(number)) return { number, state: 'reserved' };
    if (name === 'b0b') return { number, state: 'look_alike' };
    return { number, state: owned || TAKEN.has(number) ? 'taken' : 'free' };
  }

  private registration(typed: string, registrationRequest: string, own?: Account): object {
    const id = typed.trim().toLowerCase().normalize('NFC');
    if (/[\s/\\:*?"<>|]/.test(id)) throw new Refusal(422, 'id_invalid', { reason: 'character' });
    if (this.accounts.has(id) && own?.id !== id) throw new Refusal(409, 'id_taken');
    const { registrationResponse } = opaque.createRegistrationResponse({ serverSetup: this.setup, userIdentifier: id, registrationRequest });
    return { id, response: registrationResponse };
  }

  private signUp(body: Body): Answer {
    const id = text(body, 'id');
    const account: Account = {
      id,
      identity: text(body, 'identity'),
      number: text(body, 'number'),
      chosen: [],
      upload: text(body, 'upload'),
      backup: text(body, 'backup'),
      version: 1,
      created: Date.now(),
      records: new Map(),
      terminals: [
        { terminal: bytesToHex(randomBytes(32)), certified: Date.now() - 40 * DAY, expires: Date.now() + 356 * DAY, online: true },
        { terminal: bytesToHex(randomBytes(32)), certified: Date.now() - 200 * DAY, expires: Date.now() + 196 * DAY, online: false },
      ],
    };
    this.check(account, text(body, 'signed'), 'offhook/directory-request/1');
    this.accounts.set(id, account);
    const { cookie, csrf } = this.open(id);
    return { status: 201, body: { csrf, account: shown(account) }, session: cookie };
  }

  private open(id: string): { cookie: string; csrf: string } {
    const [cookie, csrf] = [randomBytes(32).toString('base64url'), randomBytes(16).toString('base64url')];
    this.sessions.set(cookie, { id, csrf });
    return { cookie, csrf };
  }

  private loginStart(body: Body): object {
    const id = text(body, 'id').trim().toLowerCase().normalize('NFC');
    const { loginResponse, serverLoginState } = opaque.startLogin({
      serverSetup: this.setup,
      userIdentifier: id,
      registrationRecord: this.accounts.get(id)?.upload,
      startLoginRequest: text(body, 'request'),
    });
    const login = randomBytes(16).toString('base64url');
    this.logins.set(login, { id, state: serverLoginState });
    return { login, response: loginResponse };
  }

  private loginFinish(body: Body): Answer {
    const login = this.logins.get(text(body, 'login'));
    const account = login && this.accounts.get(login.id);
    if (!login || !account) throw new Refusal(401, 'wrong_credentials');
    opaque.finishLogin({ finishLoginRequest: text(body, 'finish'), serverLoginState: login.state });
    const { cookie, csrf } = this.open(account.id);
    return { status: 200, body: { csrf, account: shown(account), backup: { version: account.version, data: account.backup } }, session: cookie };
  }

  private recover(body: Body): Answer {
    const signed = text(body, 'signed');
    const identity = decode(open(fromBase64Url(signed)).payload, (r) => field(r.map(), 1, (inner) => inner.fixed(32)));
    const account = [...this.accounts.values()].find((one) => one.identity === bytesToHex(identity));
    if (!account) throw new Refusal(404, 'not_found');
    this.check(account, signed, 'offhook/directory-request/1');
    const { cookie, csrf } = this.open(account.id);
    return { status: 200, body: { csrf, account: shown(account), backup: { version: account.version, data: account.backup } }, session: cookie };
  }

  private backup(account: Account, body: Body): object {
    this.check(account, text(body, 'signed'), 'offhook/directory-request/1');
    if (body['version'] !== account.version + 1) throw new Refusal(409, 'version', { stored: account.version });
    account.version += 1;
    account.backup = text(body, 'data');
    return {};
  }

  private credentials(account: Account, session: Session, body: Body, cookie: string): object {
    this.check(account, text(body, 'signed'), 'offhook/directory-request/1');
    this.accounts.delete(account.id);
    Object.assign(account, { id: text(body, 'new_id'), upload: text(body, 'upload'), backup: text(body, 'backup'), version: account.version + 1 });
    this.accounts.set(account.id, account);
    session.id = account.id;
    for (const key of this.sessions.keys()) if (key !== cookie) this.sessions.delete(key);
    return {};
  }

  private claim(account: Account, body: Body): object {
    this.check(account, text(body, 'signed'), 'offhook/directory-request/1');
    const number = text(body, 'number');
    const [issued, expires] = [Date.now(), Date.now() + 180 * DAY];
    const payload = new Map<number, Cbor>([[0, number], [1, hexToBytes(account.identity)], [2, identityId(this.seed)], [3, issued], [4, expires]]);
    const certificate = toBase64Url(sign(this.seed, 'offhook/chosen-cert/1', payload));
    account.chosen.push({ number, issued, expires, certificate });
    return { certificate };
  }

  private record(account: Account, bytes: string): object {
    this.check(account, bytes, 'offhook/account-record/1');
    const record = AccountRecord.read(fromBase64Url(bytes));
    account.records.set(record.number, bytes);
    const revoked = new Set(record.revoked.map(bytesToHex));
    account.terminals = account.terminals.filter(({ terminal }) => !revoked.has(terminal));
    return {};
  }

  private check(account: Account, signed: string, domain: string): void {
    const envelope = open(fromBase64Url(signed));
    if (!verify(envelope, hexToBytes(account.identity), domain)) throw new Refusal(403, 'bad_signature');
    decode(envelope.payload, (r) => field(r.map(), 0, (inner) => encode(inner.raw())));
  }
}

function text(body: Body, key: string): string {
  const value = body[key];
  if (typeof value !== 'string') throw new Refusal(400, 'bad_request');
  return value;
}

function shown({ id, identity, number, chosen, version, created }: Account): object {
  return { id, identity, number, chosen, backup_version: version, created };
}
