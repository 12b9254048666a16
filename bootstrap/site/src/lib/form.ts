// What a form's fields must be.

import type { Catalogue } from './i18n/en';
import { passwordFault } from './password';
import type { Strength } from './strength';

/** Longest ID in characters. */
const MAX_ID_CHARS = 64;
/** A new password must be at least this hard to guess. */
const MIN_SCORE = 2;

/** What is wrong with a field. */
export interface Fault {
  id: string;
  text: string;
}

/** The ID's fault; the rest of its rules are the directory's to judge. */
export function idFault(id: string, typed: string, t: Catalogue): Fault[] {
  const text = typed.trim();
  if (text === '') return [{ id, text: t.form.idEmpty }];
  return Array.from(text).length > MAX_ID_CHARS ? [{ id, text: t.form.idLong }] : [];
}

/** The fault of a present password. */
export function presentPasswordFault(id: string, typed: string, t: Catalogue): Fault[] {
  const fault = passwordFault(typed, false);
  return fault === undefined ? [] : [{ id, text: t.password.faults[fault] }];
}

/** The fault of a new password. Without a judgement (its program could not be loaded) the length alone counts. */
export function newPasswordFault(id: string, typed: string, strength: Strength | undefined, t: Catalogue): Fault[] {
  const fault = passwordFault(typed, true);
  if (fault !== undefined) return [{ id, text: t.password.faults[fault] }];
  return strength !== undefined && strength.score < MIN_SCORE ? [{ id, text: t.password.faults.weak }] : [];
}

/** The sentence for a field among faults. */
export function faultOf(faults: readonly Fault[], id: string): string | undefined {
  return faults.find((fault) => fault.id === id)?.text;
}
