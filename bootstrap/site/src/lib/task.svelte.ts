// One thing that a form does: whether it is busy, what went wrong, what is to be said when it went well.

import { Cancelled, withKeys } from './password-request.svelte';

export class Task {
  busy = $state(false);
  failure: unknown = $state.raw();
  said = $state('');

  /** Runs `action` with the keys open, and says `done` at its end. Whether it got there. */
  async run(action: () => Promise<unknown>, done: string): Promise<boolean> {
    if (this.busy) return false;
    this.busy = true;
    this.failure = undefined;
    this.said = '';
    try {
      await withKeys(action);
      this.said = done;
      return true;
    } catch (error) {
      if (!(error instanceof Cancelled)) this.failure = error;
      return false;
    } finally {
      this.busy = false;
    }
  }
}
