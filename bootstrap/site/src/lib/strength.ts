// How hard a password is to guess: zxcvbn, loaded when the first password is typed.

import type { Judge } from './strength-engine';

/** 0 (guessed at once) to 4 (hard). */
export type Score = 0 | 1 | 2 | 3 | 4;

/** What is known of a password. */
export interface Strength {
  score: Score;
  /** What makes it weak, as zxcvbn names it; undefined if nothing stands out. */
  warning: string | undefined;
}

/** Longest prefix that is judged: the cost grows with the length. */
const JUDGED_CHARS = 100;

let engine: Promise<Judge> | undefined;

/** Judges a password. `own`: words that its owner has typed elsewhere, such as the ID. */
export async function strengthOf(password: string, own: string[]): Promise<Strength> {
  engine ??= import('./strength-engine').then((module) => module.judge);
  const judge = await engine;
  return judge(password.slice(0, JUDGED_CHARS), own);
}
