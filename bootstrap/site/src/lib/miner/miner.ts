// The search for a plain number, shared among Web Workers.

import type { Task, Tried } from './miner.worker';

/** Nonces that have to be tried for one number, on average: one in 256 gives one. */
const EXPECTED_TRIES = 256;
/** Most workers: more would not leave the visitor's machine to the visitor. Each takes 8 MiB. */
const MAX_WORKERS = 4;

/** A number that was found. */
export interface Found {
  nonce: number;
  number: string;
}

/** How far a search is. */
export interface Progress {
  tries: number;
  /** Chance that a search of this many tries would have ended, 0 to 1. It never gets to 1, and jumps there at the end. */
  chance: number;
}

/** The chance that so many tries find a number. */
export function chanceOf(tries: number): number {
  return 1 - (1 - 1 / EXPECTED_TRIES) ** tries;
}

/** How many workers a machine of so many threads gets. */
export function workerCount(threads: number | undefined): number {
  return Math.max(1, Math.min(threads ?? 1, MAX_WORKERS));
}

/** Searches from the nonce `from` on until a number is found. Rejects with an `AbortError` when `signal` says so. */
export function mine(
  identity: Uint8Array,
  from: number,
  signal: AbortSignal,
  onProgress: (progress: Progress) => void,
  newWorker: () => Worker = () => new Worker(new URL('./miner.worker.ts', import.meta.url), { type: 'module' }),
): Promise<Found> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    const count = workerCount(navigator.hardwareConcurrency);
    const workers = Array.from({ length: count }, newWorker);
    let tries = 0;
    const stop = () => workers.forEach((worker) => worker.terminate());
    signal.addEventListener('abort', () => {
      stop();
      reject(signal.reason as Error);
    });
    workers.forEach((worker, i) => {
      worker.onerror = (event) => {
        stop();
        reject(new Error(event.message || 'the worker could not be started'));
      };
      worker.onmessage = ({ data }: MessageEvent<Tried>) => {
        tries += 1;
        onProgress({ tries, chance: chanceOf(tries) });
        if (data.number === undefined) return;
        stop();
        resolve({ nonce: data.nonce, number: data.number });
      };
      worker.postMessage({ identity, from: from + i, step: count } satisfies Task);
    });
  });
}
