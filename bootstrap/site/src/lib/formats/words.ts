// Recovery words (`core/proto/src/backup/words.rs`): the identity seed as 24 words of BIP-39's English list.

import { entropyToMnemonic, mnemonicToEntropy, validateMnemonic } from '@scure/bip39';
import { wordlist } from '@scure/bip39/wordlists/english';

/** How many words there are. */
const WORD_COUNT = 24;
/** Letters that tell every word of the list from the others. */
const TELLING_LETTERS = 4;

/** What is wrong with words: how many there are, which one (counted from 1) is no word, or that they do not fit together. */
export type WordsFault = { count: number } | { unknown: number } | 'check';

/** The words of an identity seed. */
export function wordsOf(seed: Uint8Array): string[] {
  return entropyToMnemonic(seed, wordlist).split(' ');
}

/** The word of the list that was meant: whole, or by its first four letters. */
export function wordMeant(typed: string): string | undefined {
  const text = typed.trim().toLowerCase();
  if (wordlist.includes(text)) return text;
  return text.length === TELLING_LETTERS ? wordlist.find((word) => word.startsWith(text)) : undefined;
}

/** The identity seed of words as people write them: case, and whatever stands between them, do not matter. */
export function seedOf(typed: string): { seed: Uint8Array } | { fault: WordsFault } {
  const words = typed.toLowerCase().match(/\p{L}+/gu) ?? [];
  if (words.length !== WORD_COUNT) return { fault: { count: words.length } };
  const meant = words.map(wordMeant);
  const unknown = meant.indexOf(undefined);
  if (unknown >= 0) return { fault: { unknown: unknown + 1 } };
  const phrase = meant.join(' ');
  return validateMnemonic(phrase, wordlist) ? { seed: mnemonicToEntropy(phrase, wordlist) } : { fault: 'check' };
}
