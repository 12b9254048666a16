// zxcvbn with lists of used passwords, English words and first names: a chunk of its own, because it is larger than the rest
// of the site. Its lists of last names and of Wikipedia's words would make it three times as large and find little more.

import { zxcvbn, zxcvbnOptions } from '@zxcvbn-ts/core';
import { adjacencyGraphs, dictionary as common } from '@zxcvbn-ts/language-common';
import { dictionary as english } from '@zxcvbn-ts/language-en';
import type { Strength } from './strength';

/** Judges a password. */
export type Judge = (password: string, own: string[]) => Strength;

zxcvbnOptions.setOptions({
  // Without translations the warnings are keys, which the site's own catalogues translate.
  graphs: adjacencyGraphs,
  dictionary: { passwords: common['passwords'], commonWords: english['commonWords'], firstnames: english['firstnames'] },
});

export const judge: Judge = (password, own) => {
  const { score, feedback } = zxcvbn(password, own);
  return { score, warning: feedback.warning ?? undefined };
};
