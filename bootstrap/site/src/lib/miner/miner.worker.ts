// One thread of the search for a plain number: tries every `step`-th nonce from `from` on, for ever.

import { tryNonce } from '../formats/proof';

/** What the worker is told once. */
export interface Task {
  identity: Uint8Array;
  from: number;
  step: number;
}

/** What it tells after each nonce. */
export interface Tried {
  nonce: number;
  number: string | undefined;
}

addEventListener('message', async ({ data: task }: MessageEvent<Task>) => {
  for (let nonce = task.from; ; nonce += task.step) {
    const number = await tryNonce(task.identity, nonce);
    postMessage({ nonce, number } satisfies Tried);
    if (number !== undefined) return;
  }
});
