// Passwords as the client takes them (`core/src/storage/seal.rs`): OpaqueString of RFC 8265 section 4.2.

/** Longest password, bytes of UTF-8. */
export const MAX_PASSWORD_BYTES = 1024;
/** Shortest password that the site takes, in characters. */
export const MIN_PASSWORD_CHARS = 10;

/** Why a password is not taken. */
export type PasswordFault = 'empty' | 'short' | 'long' | 'control';

/** The password in its normal form, the same on every keyboard: any blank is U+0020, the rest NFC. */
export function normalPassword(typed: string): string {
  return typed.replaceAll(/\p{Zs}/gu, ' ').normalize('NFC');
}

/** What is wrong with a password, if anything is. `chosen`: it is a new one, so it must be long enough. */
export function passwordFault(typed: string, chosen: boolean): PasswordFault | undefined {
  if (typed === '') return 'empty';
  if (/\p{Cc}/u.test(typed)) return 'control';
  if (new TextEncoder().encode(typed).length > MAX_PASSWORD_BYTES) return 'long';
  if (chosen && Array.from(typed).length < MIN_PASSWORD_CHARS) return 'short';
  return undefined;
}
