// OPAQUE's client steps, each run in a worker that lives for one registration or log-in.

import { normalPassword } from '../password';
import { WrongPassword } from './errors';
import type { Begun, Finished, OpaqueAnswer, OpaqueRequest } from './protocol';

/** One registration or log-in under way. `close` it in any case: that ends the worker, and its memory with it. */
export class Opaque {
  private readonly worker = new Worker(new URL('./opaque.worker.ts', import.meta.url), { type: 'module' });
  private readonly password: string;

  constructor(password: string) {
    this.password = normalPassword(password);
  }

  /** Begins a registration. */
  register(): Promise<Begun> {
    return this.ask<Begun>({ op: 'register', password: this.password });
  }

  /** Ends a registration with the directory's answer. */
  registered(state: string, response: string): Promise<Finished> {
    return this.ask<Finished>({ op: 'registered', password: this.password, state, response });
  }

  /** Begins a log-in. */
  login(): Promise<Begun> {
    return this.ask<Begun>({ op: 'login', password: this.password });
  }

  /** Ends a log-in with the directory's answer; rejects with [WrongPassword]. */
  loggedIn(state: string, response: string): Promise<Finished> {
    return this.ask<Finished>({ op: 'loggedIn', password: this.password, state, response });
  }

  close(): void {
    this.worker.terminate();
  }

  private ask<T extends Begun | Finished>(request: OpaqueRequest): Promise<T> {
    return new Promise((resolve, reject) => {
      this.worker.onerror = (event) => reject(new Error(event.message || 'the worker could not be started'));
      this.worker.onmessage = ({ data }: MessageEvent<OpaqueAnswer>) => {
        if ('failed' in data) reject(new Error(data.failed));
        else if (data.ok === null) reject(new WrongPassword());
        else resolve(data.ok as T);
      };
      this.worker.postMessage(request);
    });
  }
}
