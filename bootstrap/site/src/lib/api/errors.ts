// From failures to sentences in the visitor's language.

import { FormatError } from '../formats/bytes';
import type { Catalogue } from '../i18n/en';
import { WrongPassword } from '../keys/errors';
import { ApiError } from './client';

/** The sentence for a failure, whatever it is. Never shows text that a stranger could have chosen. */
export function messageOf(error: unknown, t: Catalogue): string {
  if (error instanceof ApiError) return apiMessage(error, t);
  if (error instanceof WrongPassword) return t.errors.wrong_credentials;
  if (error instanceof FormatError) return t.errors.bad_answer;
  return t.errors.unexpected;
}

function apiMessage(error: ApiError, t: Catalogue): string {
  if (error.code === 'too_many') return t.errors.too_many(error.number('retry_after_s'));
  if (error.code === 'too_many_numbers') return t.errors.too_many_numbers(error.number('max'));
  const reason = error.text('reason');
  if (error.code === 'number_invalid' && reason !== undefined && Object.hasOwn(t.availability.reasons, reason)) {
    return t.availability.reasons[reason as keyof typeof t.availability.reasons];
  }
  const text: unknown = Object.hasOwn(t.errors, error.code) ? t.errors[error.code as keyof typeof t.errors] : undefined;
  if (typeof text === 'string') return text;
  return error.status >= 500 ? t.errors.unavailable : t.errors.unknown(safeCode(error.code));
}

/** The code as far as it is one: a word of a few letters. */
function safeCode(code: string): string {
  return /^[a-z_]{1,40}$/.test(code) ? code : '?';
}
