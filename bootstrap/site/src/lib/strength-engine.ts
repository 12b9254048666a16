// zxcvbn with its English dictionaries: a chunk of its own, because it is larger than the rest of the site.

import { zxcvbn, zxcvbnOptions } from '@zxcvbn-ts/core';
import * as common from '@zxcvbn-ts/language-common';
import * as english from '@zxcvbn-ts/language-en';
import type { Strength } from './strength';

/** Judges a password. */
export type Judge = (password: string, own: string[]) => Strength;

zxcvbnOptions.setOptions({
  // Without translations the warnings are keys, which the site's own catalogues translate.
  graphs: common.adjacencyGraphs,
  dictionary: { ...common.dictionary, ...english.dictionary },
});

export const judge: Judge = (password, own) => {
  const { score, feedback } = zxcvbn(password, own);
  return { score, warning: feedback.warning ?? undefined };
};
