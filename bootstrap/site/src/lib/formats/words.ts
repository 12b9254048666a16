// Recovery words: 24 words of BIP-39's English list for 256 random bits.

import { entropyToMnemonic, mnemonicToEntropy, validateMnemonic } from '@scure/bip39';
import { wordlist } from '@scure/bip39/wordlists/english';

/** How many words there are. */
export const WORD_COUNT = 24;

/** The words of 32 bytes. */
export function wordsOf(entropy: Uint8Array): string[] {
  return entropyToMnemonic(entropy, wordlist).split(' ');
}

/** The bytes of words as typed: case, blanks and numbering do not matter. Undefined if they are no recovery words. */
export function entropyOf(typed: string): Uint8Array | undefined {
  const words = typed.normalize('NFKD').toLowerCase().match(/[a-z]+/g) ?? [];
  const phrase = words.join(' ');
  if (words.length !== WORD_COUNT || !validateMnemonic(phrase, wordlist)) return undefined;
  return mnemonicToEntropy(phrase, wordlist);
}
