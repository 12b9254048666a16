// Which page an address shows. Known paths are pages; everything else is the page for wrong numbers.

/** The pages of the site. */
export type Page = 'home' | 'signup' | 'login' | 'recover' | 'account' | 'download' | 'status' | 'about' | 'missing';

/** Where each page lies. The directory serves `index.html` at all of them. */
export const PATHS: Readonly<Record<Exclude<Page, 'missing'>, string>> = {
  home: '/',
  signup: '/signup',
  login: '/login',
  recover: '/recover',
  account: '/account',
  download: '/download',
  status: '/status',
  about: '/about',
};

/** The page of a path; a slash at its end makes no difference. */
export function pageOf(path: string): Page {
  const bare = path.length > 1 ? path.replace(/\/+$/, '') || '/' : path;
  const found = Object.entries(PATHS).find(([, known]) => known === bare);
  return found ? (found[0] as Page) : 'missing';
}

/** The page that a click leads to, if it is a plain click on a link to one of ours; undefined leaves it to the browser. */
export function pageOfClick(event: MouseEvent, origin: string): URL | undefined {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return undefined;
  const link = event.target instanceof Element ? event.target.closest('a') : null;
  if (!link || link.target || link.hasAttribute('download') || !link.href) return undefined;
  const url = new URL(link.href);
  return url.origin === origin && pageOf(url.pathname) !== 'missing' ? url : undefined;
}
