// The page that is shown, in step with the browser's history.

import { tick } from 'svelte';
import { pageOf, pageOfClick, type Page } from './router';

class Router {
  page: Page = $state(pageOf(location.pathname));
  /** Asked before a page is left; false keeps it. */
  guard: (() => boolean) | undefined;

  start(): void {
    window.addEventListener('popstate', () => void this.show());
    window.addEventListener('click', (event) => {
      const url = pageOfClick(event, location.origin);
      if (url === undefined) return;
      const within = url.pathname === location.pathname;
      if (within && url.hash !== '') return;
      event.preventDefault();
      void this.go(url.pathname + url.hash);
    });
  }

  /** Leads to one of our paths. */
  async go(path: string): Promise<void> {
    if (this.guard && !this.guard()) return;
    this.guard = undefined;
    if (path !== location.pathname) history.pushState(null, '', path);
    await this.show();
  }

  /** Shows the page of the address, and tells screen readers by moving the focus to its heading. */
  private async show(): Promise<void> {
    this.page = pageOf(location.pathname);
    await tick();
    const target = location.hash === '' ? null : document.getElementById(location.hash.slice(1));
    if (target) target.scrollIntoView();
    else scrollTo(0, 0);
    document.querySelector<HTMLElement>('main h1')?.focus({ preventScroll: true });
  }
}

export const router = new Router();
