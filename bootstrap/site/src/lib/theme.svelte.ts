// Light and dark: as the system says, or as chosen. `public/boot.js` applies the choice before the first paint.

import { remember, remembered } from './remember';

/** What can be chosen. */
export type Theme = 'auto' | 'light' | 'dark';

export const THEMES: readonly Theme[] = ['auto', 'light', 'dark'];

function initial(): Theme {
  const chosen = remembered('theme');
  return chosen === 'light' || chosen === 'dark' ? chosen : 'auto';
}

class ThemeChoice {
  current: Theme = $state(initial());

  choose(theme: Theme): void {
    this.current = theme;
    remember('theme', theme === 'auto' ? null : theme);
    if (theme === 'auto') delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = theme;
  }
}

export const theme = new ThemeChoice();
