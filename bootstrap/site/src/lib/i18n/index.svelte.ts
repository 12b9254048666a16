// The visitor's language: as chosen, or as the browser says.

import { en, type Catalogue } from './en';
import { ko } from './ko';
import { remember, remembered } from '../remember';

/** The languages of the site. */
export type Language = 'en' | 'ko';

const CATALOGUES: Readonly<Record<Language, Catalogue>> = { en, ko };

/** All languages, each with its own name for itself. */
export const LANGUAGES = (Object.keys(CATALOGUES) as Language[]).map((code) => ({ code, name: CATALOGUES[code].name }));

/** The first of the browser's languages that we have. */
export function preferred(languages: readonly string[]): Language {
  for (const language of languages) {
    const code = language.toLowerCase().split('-')[0];
    if (code === 'en' || code === 'ko') return code;
  }
  return 'en';
}

function initial(): Language {
  const chosen = remembered('language');
  return chosen === 'en' || chosen === 'ko' ? chosen : preferred(navigator.languages);
}

class I18n {
  language: Language = $state(initial());

  choose(language: Language): void {
    this.language = language;
    remember('language', language);
  }

  get catalogue(): Catalogue {
    return CATALOGUES[this.language];
  }
}

export const i18n = new I18n();

/** The catalogue in use; reactive where it is called in a component. */
export function t(): Catalogue {
  return i18n.catalogue;
}

/** A day in the visitor's language. */
export function day(millis: number): string {
  return new Intl.DateTimeFormat(i18n.language, { dateStyle: 'medium' }).format(millis);
}

/** A day and time in the visitor's language. */
export function moment(millis: number): string {
  return new Intl.DateTimeFormat(i18n.language, { dateStyle: 'medium', timeStyle: 'short' }).format(millis);
}

/** A count in the visitor's language. */
export function count(value: number): string {
  return new Intl.NumberFormat(i18n.language).format(value);
}

/** A file's size in the visitor's language. */
export function size(bytes: number): string {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte'];
  let unit = 0;
  let value = bytes;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  const format = { style: 'unit', unit: units[unit] ?? 'byte', maximumFractionDigits: unit === 0 ? 0 : 1 } as const;
  return new Intl.NumberFormat(i18n.language, format).format(value);
}
