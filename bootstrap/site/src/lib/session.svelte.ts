// Who is logged in, and the keys that a password has opened. Keys live in this page's memory and nowhere else.

import { Api, ApiError } from './api/client';
import type { Account, Info, SessionAnswer } from './api/types';
import type { Backup } from './formats/backup';

/** What a password has opened. */
export interface Keys {
  /** The backup's key. */
  key: Uint8Array;
  backup: Backup;
  /** The backup's version. */
  version: number;
}

export const api = new Api();

class Session {
  /** Undefined: not asked yet. Null: nobody is logged in. */
  account: Account | null | undefined = $state();
  keys: Keys | undefined = $state.raw();
  /** What the directory says of itself; undefined until it has answered. */
  info: Info | undefined = $state.raw();
  infoError: unknown = $state.raw();

  /** Asks the directory for itself and for this browser's session. */
  async start(): Promise<void> {
    await Promise.all([this.loadInfo(), this.resume()]);
  }

  async loadInfo(): Promise<void> {
    try {
      this.info = await api.get<Info>('/info');
      this.infoError = undefined;
    } catch (error) {
      this.infoError = error;
    }
  }

  private async resume(): Promise<void> {
    try {
      this.open(await api.get<SessionAnswer>('/session'));
    } catch {
      // No session, or nobody to ask: either way nobody is logged in here.
      this.account ??= null;
    }
  }

  /** Takes a session that the directory has given, with the keys if there are any. */
  open(answer: SessionAnswer, keys?: Keys): void {
    api.csrf = answer.csrf;
    this.account = answer.account;
    if (keys !== undefined) this.keys = keys;
  }

  /** Forgets everything. */
  close(): void {
    api.csrf = undefined;
    this.account = null;
    this.keys = undefined;
  }

  /** Ends the session here, also when the directory has ended it. */
  failed(error: unknown): void {
    if (error instanceof ApiError && error.code === 'no_session') this.close();
  }

  /** What the directory is called: by its name, or by the address of this site. */
  get title(): string | undefined {
    return this.info === undefined ? undefined : (this.info.name ?? location.host);
  }

  /** The directory's signing key and name; they are needed to sign anything for it. */
  async directory(): Promise<Info> {
    if (this.info === undefined) this.info = await api.get<Info>('/info');
    return this.info;
  }
}

export const session = new Session();
