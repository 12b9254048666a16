// Whoever needs keys asks here; the dialog in `App` gets the password and logs in.

import { ApiError } from './api/client';
import { session } from './session.svelte';

/** The visitor has closed the dialog instead of giving the password. */
export class Cancelled extends Error {
  override name = 'Cancelled';
}

class PasswordRequest {
  open = $state(false);
  private settle: { resolve: () => void; reject: (error: Error) => void } | undefined;

  /** Resolves when the password has been given and the keys are there; rejects with [Cancelled]. */
  ask(): Promise<void> {
    this.open = true;
    return new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
  }

  given(): void {
    this.open = false;
    this.settle?.resolve();
  }

  cancelled(): void {
    this.open = false;
    this.settle?.reject(new Cancelled());
  }
}

export const passwordRequest = new PasswordRequest();

/** Runs what needs keys: asks for the password first if they are locked, and once more if the directory wants a fresh log-in. */
export async function withKeys<T>(action: () => Promise<T>): Promise<T> {
  if (session.keys === undefined) await passwordRequest.ask();
  try {
    return await action();
  } catch (error) {
    session.failed(error);
    if (!(error instanceof ApiError) || error.code !== 'login_again') throw error;
    await passwordRequest.ask();
    return action();
  }
}
