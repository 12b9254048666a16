// The page that is shown, in step with the browser's history.

import { tick } from 'svelte';
import { pageOf, pageOfClick, type Page } from './router';

class Router {
  page: Page = $state(pageOf(location.pathname));
  /** Asked before a page is left; false keeps it. */
  guard: (() => boolean) | undefined;
  private moved = false;

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

  /** Leads on to one of our paths in the place of this one. */
  async replace(path: string): Promise<void> {
    history.replaceState(null, '', path);
    await this.show();
  }

  /** A page is there: tells screen readers so by moving the focus to its heading. Not at the first one. */
  async arrived(): Promise<void> {
    await tick();
    if (!this.moved) return;
    const target = location.hash === '' ? null : document.getElementById(location.hash.slice(1));
    if (target) target.scrollIntoView();
    else scrollTo(0, 0);
    document.querySelector<HTMLElement>('main h1')?.focus({ preventScroll: true });
  }

  private async show(): Promise<void> {
    this.moved = true;
    this.page = pageOf(location.pathname);
    await this.arrived();
  }
}

export const router = new Router();
