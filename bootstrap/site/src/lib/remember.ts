// Small choices that this browser remembers. Where it may not, they hold until the page is left.

const PREFIX = 'offhook.';

/** What was remembered under `key`. */
export function remembered(key: string): string | null {
  try {
    return localStorage.getItem(PREFIX + key);
  } catch {
    return null;
  }
}

/** Remembers `value`; null forgets. */
export function remember(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(PREFIX + key);
    else localStorage.setItem(PREFIX + key, value);
  } catch {
    // Storage is switched off or full: the choice holds for this visit.
  }
}
