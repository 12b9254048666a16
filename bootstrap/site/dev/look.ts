// Looks at every page as a visitor would: signs up and logs in for real, in the system's Chromium, takes screenshots (two widths,
// light and dark, English and Korean), runs axe-core on every page, and fails on anything that axe finds, on a page wider than its
// window, on console errors, CSP violations and requests to other hosts.
//
//   npm run look -- [--directory URL] [--front URL] [--out FOLDER] [--looks PART] [--walk LOOK] [--wait] [PART_OF_A_NAME]
//
// Without `--directory` the stand-in is looked at. `--front` is the same site by TLS. `--looks` is part of the names of the looks that
// are tried (`320`), `--walk` the one with which somebody signs up and uses the account (`320-dark-ko`; without it all of them do); the
// others see the pages that are for everybody. With `--wait` it says on standard
// output, in JSON, who has signed up, and goes on when it gets a line: until then somebody else can log in, too.

import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { createInterface } from 'node:readline/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import puppeteer, { type Browser, type Page } from 'puppeteer-core';
import { serve } from './serve';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    directory: { type: 'string' },
    front: { type: 'string' },
    out: { type: 'string', default: fileURLToPath(new URL('../screenshots', import.meta.url)) },
    looks: { type: 'string', default: '' },
    walk: { type: 'string' },
    wait: { type: 'boolean', default: false },
  },
});
const OUT = options.out;
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const CHROMIUM = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
const PASSWORD = 'bakelite sings under seven lamps';
const ONLY = positionals[0] ?? '';
/** What somebody might type who wants to see what becomes of it. */
const HOSTILE = `'+alert(1)+'&amp;`;

interface Look {
  width: 1280 | 320;
  scheme: 'light' | 'dark';
  language: 'en' | 'ko';
}

const LOOKS: Look[] = ([1280, 320] as const).flatMap((width) =>
  (['light', 'dark'] as const).flatMap((scheme) => (['en', 'ko'] as const).map((language) => ({ width, scheme, language }))),
);

function nameOf({ width, scheme, language }: Look): string {
  return `${width}-${scheme}-${language}`;
}

const problems: string[] = [];
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function newPage(browser: Browser, look: Look, base: string): Promise<Page> {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  await page.setViewport({ width: look.width, height: look.width === 320 ? 640 : 900 });
  await page.emulateMediaFeatures([
    { name: 'prefers-color-scheme', value: look.scheme },
    { name: 'prefers-reduced-motion', value: 'reduce' },
  ]);
  await page.setBypassCSP(false);
  await page.evaluateOnNewDocument((language) => localStorage.setItem('offhook.language', language), look.language);
  page.on('console', (message) => {
    // A browser's own note of an answer that is not 200: what is expected of /session and wrong numbers.
    if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) problems.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => problems.push(`page: ${String(error)}`));
  page.on('dialog', (dialog) => {
    if (dialog.type() !== 'beforeunload') problems.push(`a script of somebody's has run: ${dialog.message()}`);
    void dialog.accept();
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(base) && !request.url().startsWith('blob:')) problems.push(`remote: ${request.url()}`);
  });
  return page;
}

async function shot(page: Page, look: Look, name: string): Promise<void> {
  const label = `${name}-${nameOf(look)}`;
  if (!label.includes(ONLY)) return;
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (wide > 0) problems.push(`${label}: ${wide} px wider than the window`);
  await page.screenshot({ path: `${OUT}/${label}.png`, fullPage: true });
  // Through the debugger, which no CSP concerns.
  const session = await page.createCDPSession();
  await session.send('Runtime.evaluate', { expression: AXE });
  const { result } = await session.send('Runtime.evaluate', {
    expression: "axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations.map(v => v.id + ': ' + v.help + ' @ ' + v.nodes.map(n => n.target.join(' ') + ' ' + (n.any[0]?.message ?? '')).join(' | '))))",
    awaitPromise: true,
    returnByValue: true,
  });
  for (const violation of JSON.parse(String(result.value)) as string[]) problems.push(`${label}: axe ${violation}`);
  await session.detach();
}

async function go(page: Page, url: string): Promise<void> {
  await page.goto(url, { waitUntil: 'networkidle0' });
  await page.waitForSelector('h1');
}

async function click(page: Page, selector: string): Promise<void> {
  await page.waitForSelector(selector);
  await page.$eval(selector, (element) => (element as HTMLElement).click());
}

async function signUp(page: Page, look: Look, base: string, id: string): Promise<string[]> {
  await go(page, `${base}/signup`);
  await shot(page, look, 'signup-1');
  await page.type('#signup-id', 'a b');
  await page.type('#signup-password', 'password');
  await page.waitForFunction(() => document.querySelector('[role=meter]') !== null);
  await click(page, 'form button[type=submit]');
  await page.waitForSelector('[role=alert] a');
  await shot(page, look, 'signup-2-faults');
  await fill(page, '#signup-id', id);
  await fill(page, '#signup-password', PASSWORD);
  await fill(page, '#signup-wish', '<img src=x onerror=alert(1)>');
  await page.waitForSelector('.verdict.not');
  await fill(page, '#signup-wish', 'admin');
  await page.waitForFunction(() => document.querySelector('.verdict.not') !== null);
  await page.waitForSelector('.verdict.not');
  await shot(page, look, 'signup-3-reserved');
  await fill(page, '#signup-wish', `홍길동${id}`);
  await page.waitForSelector('.verdict.free');
  await page.waitForFunction(() => !/…/.test(document.querySelector('.strength p')?.textContent ?? '…'));
  await shot(page, look, 'signup-4-filled');
  await click(page, 'form button[type=submit]');
  await page.waitForSelector('progress');
  await page.waitForFunction(() => (document.querySelector('progress')?.value ?? 1) > 0.1);
  await shot(page, look, 'signup-5-mining');
  await page.waitForSelector('.plate', { timeout: 120_000 });
  await shot(page, look, 'signup-6-number');
  await click(page, '.row .button');
  await page.waitForSelector('.words li');
  await shot(page, look, 'signup-7-words');
  const words = await page.$$eval('.words li', (items) => items.map((item) => (item.textContent ?? '').replace(/^\d+/, '')));
  await click(page, '.row .button');
  await page.waitForSelector('#word-0');
  const labels = await page.$$eval('label', (all) => all.map((label) => Number(/\d+/.exec(label.textContent ?? '')?.[0])));
  await page.type('#word-0', 'wrong');
  await click(page, 'form button[type=submit]');
  await page.waitForSelector('.fault');
  await shot(page, look, 'signup-8-confirm');
  for (const [i, place] of labels.entries()) await fill(page, `#word-${i}`, words[place - 1] ?? '');
  await click(page, 'form button[type=submit]');
  await page.waitForSelector('.plate', { timeout: 60_000 });
  if (!(await page.$eval('.code', (code) => code.textContent ?? '')).includes(` ${id}@`)) problems.push('the ID is not the one that was typed');
  await shot(page, look, 'signup-9-done');
  return words;
}

async function fill(page: Page, selector: string, value: string): Promise<void> {
  await page.$eval(selector, (input) => {
    (input as HTMLInputElement | HTMLTextAreaElement).value = '';
    input.dispatchEvent(new Event('input', { bubbles: true }));
  });
  await page.type(selector, value);
}

async function account(page: Page, look: Look, base: string, id: string, words: string[]): Promise<void> {
  await go(page, `${base}/account`);
  await page.waitForSelector('#terminals');
  await shot(page, look, 'account-1-locked');
  await click(page, '.locked .button');
  await page.waitForSelector('#again-password');
  await page.type('#again-password', 'not the password');
  await click(page, 'dialog[open] button[type=submit]');
  await page.waitForSelector('dialog[open] .alert', { timeout: 60_000 });
  await shot(page, look, 'account-2-password');
  await fill(page, '#again-password', PASSWORD);
  await click(page, 'dialog[open] button[type=submit]');
  await page.waitForSelector('dialog:not([open])');
  await page.waitForFunction(() => document.querySelector('.locked') === null, { timeout: 60_000 });
  await page.type('#claim', `☎7${id}`);
  await page.waitForSelector('.verdict.free');
  await click(page, '.claim button[type=submit]');
  await page.waitForSelector('.alert.good');
  await shot(page, look, 'account-3-claimed');
  await click(page, 'li .button.quiet');
  await page.waitForSelector('#transfer-to');
  await page.type('#transfer-to', 'ab'.repeat(32));
  await shot(page, look, 'account-4-transfer');
  await click(page, 'dialog[open] button[type=submit]');
  await page.waitForFunction(() => document.querySelector('dialog[open]') === null && document.querySelector('.alert.note .code') !== null);
  await shot(page, look, 'account-5-transferred');
  await click(page, '[aria-labelledby=numbers] li .danger');
  await click(page, 'dialog[open] .danger');
  await page.waitForFunction(() => document.querySelector('[aria-labelledby=numbers] li') === null);
  await page.waitForSelector('[aria-labelledby=terminals] .lamp.on');
  const others = (await page.$$('[aria-labelledby=terminals] li')).length - 1;
  await click(page, '[aria-labelledby=terminals] .danger');
  await page.waitForSelector('dialog[open] .danger');
  await shot(page, look, 'account-6-revoke');
  await click(page, 'dialog[open] .danger');
  await page.waitForSelector('[aria-labelledby=terminals] .alert.good');
  await page.waitForFunction((left) => document.querySelectorAll('[aria-labelledby=terminals] li').length === left, {}, others);
  await fill(page, '#change-id', `${id}${HOSTILE}`);
  await page.type('#change-password', `${PASSWORD} again`);
  await page.waitForFunction(() => !/…/.test(document.querySelector('.strength p')?.textContent ?? '…'));
  await click(page, '[aria-labelledby=change] button[type=submit]');
  await page.waitForSelector('[aria-labelledby=change] .alert.good', { timeout: 60_000 });
  const shown = await page.$eval('.head p', (line) => line.textContent);
  if (shown !== `${id}${HOSTILE}`) problems.push(`the ID is shown as ${shown}`);
  await shot(page, look, 'account-7-changed');
  await click(page, '[aria-labelledby=backup] .stack > div > .button, [aria-labelledby=backup] > div > .button');
  await page.waitForSelector('.words li');
  const again = await page.$$eval('.words li', (items) => items.map((item) => (item.textContent ?? '').replace(/^\d+/, '')));
  if (again.join() !== words.join()) problems.push('the recovery words differ');
  await shot(page, look, 'account-8-words');
  await page.type('#remove-id', id);
  await click(page, '[aria-labelledby=remove] button[type=submit]');
  await page.waitForSelector('[aria-labelledby=remove] .fault');
  await click(page, '.head .button');
  await page.waitForSelector('#login-id');
  await shot(page, look, 'login-1');
  await page.type('#login-id', `${id}${HOSTILE}`);
  await page.type('#login-password', `${PASSWORD}`);
  await click(page, 'form button[type=submit]');
  await page.waitForSelector('[role=alert]', { timeout: 60_000 });
  await shot(page, look, 'login-2-wrong');
  await fill(page, '#login-id', '');
  await fill(page, '#login-password', '');
  await go(page, `${base}/login`);
  await keys(page, 'login-id', `${id}${HOSTILE}`);
  await keys(page, 'login-password', `${PASSWORD} again`);
  await page.keyboard.press('Enter');
  await page.waitForSelector('#remove-id', { timeout: 60_000 });
  await click(page, '.head .button');
  await page.waitForSelector('#login-id');
  await go(page, `${base}/recover`);
  await page.type('#recover-words', words.slice(1).join(' '));
  await page.type('#recover-password', `${PASSWORD} for the third time`);
  await page.waitForFunction(() => !/…/.test(document.querySelector('.strength p')?.textContent ?? '…'));
  await click(page, 'form button[type=submit]');
  await page.waitForSelector('[role=alert] a');
  await shot(page, look, 'recover');
  await fill(page, '#recover-words', words.join(' '));
  await click(page, 'form button[type=submit]');
  await page.waitForSelector('#remove-id', { timeout: 60_000 });
  await page.type('#remove-id', `${id}${HOSTILE}`);
  await click(page, '[aria-labelledby=remove] button[type=submit]');
  await page.waitForSelector('svg[role=img]');
}

/** Types into a field that is reached by the keyboard alone. */
async function keys(page: Page, id: string, text: string): Promise<void> {
  for (let tabs = 0; tabs < 30; tabs += 1) {
    await page.keyboard.press('Tab');
    if ((await page.evaluate(() => document.activeElement?.id)) === id) return page.keyboard.type(text);
  }
  throw new Error(`${id} is not reached by the keyboard`);
}

/** The switches at the top: each language, each theme. */
async function switches(page: Page, base: string): Promise<void> {
  await go(page, base);
  const language = () => page.evaluate(() => document.documentElement.lang);
  const [before, title] = [await language(), await page.$eval('h1', (heading) => heading.textContent)];
  await click(page, '.switch[lang]');
  await page.waitForFunction((was) => document.querySelector('h1')?.textContent !== was, {}, title);
  if ((await language()) === before) problems.push('the page does not say which language it is in');
  await click(page, '.switch[lang]');
  await page.waitForFunction((was) => document.querySelector('h1')?.textContent === was, {}, title);
  const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const colours = new Set([await colour()]);
  for (let i = 0; i < 3; i += 1) {
    await click(page, '.switch.icon');
    colours.add(await colour());
  }
  if (colours.size !== 2) problems.push(`light and dark are ${[...colours].join(', ')}`);
}

/** What is offered for download is what its hash says. */
async function downloads(page: Page, base: string): Promise<void> {
  await go(page, `${base}/download`);
  const files = await page.$$eval('.files li', (items) => items.map((item) => ({ href: item.querySelector('a')?.href ?? '', sum: item.querySelector('code')?.textContent })));
  for (const { href, sum } of files) {
    const got = await page.evaluate(async (url) => {
      const digest = await crypto.subtle.digest('SHA-256', await (await fetch(url)).arrayBuffer());
      return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    }, href);
    if (got !== sum) problems.push(`${href} has another hash than is shown`);
  }
  if (options.directory !== undefined && files.length === 0) problems.push('nothing is offered for download');
}

/** The skip link comes first, is seen, and leads past the navigation; a page that was gone to has the focus on its heading. */
async function keyboard(page: Page, base: string): Promise<void> {
  await go(page, base);
  await page.keyboard.press('Tab');
  const skip = await page.evaluate(() => ({ href: document.activeElement?.getAttribute('href'), top: document.activeElement?.getBoundingClientRect().top ?? -1 }));
  if (skip.href !== '#main' || skip.top < 0) problems.push('the skip link is not the first thing to be reached');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  const within = await page.evaluate(() => document.querySelector('main')?.contains(document.activeElement));
  if (within !== true) problems.push('the skip link does not lead to the content');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#signup-id');
  await page.waitForFunction(() => document.activeElement?.tagName === 'H1');
  await page.goBack();
  await page.waitForSelector('svg[role=img]');
}

async function look(browser: Browser, base: string, how: Look, index: number): Promise<void> {
  const page = await newPage(browser, how, base);
  const started = Date.now();
  const name = nameOf(how);
  for (const path of ['', 'download', 'status', 'about', 'nobody', 'login', 'recover', 'signup']) {
    await go(page, `${base}/${path}`);
    await shot(page, how, path === '' ? 'home' : path);
  }
  await keyboard(page, base);
  await switches(page, base);
  if ((options.walk ?? name) === name) {
    if (options.directory !== undefined) await downloads(page, base);
    const id = `ada${index}`;
    const words = await signUp(page, how, base, id);
    if (options.wait) {
      console.log(JSON.stringify({ id, password: PASSWORD, words: words.join(' ') }));
      await answers.next();
    }
    await account(page, how, base, id, words);
  }
  await page.browserContext().close();
  console.error(`${name}: ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

/** The same site by TLS: pages, workers and API come from there as well. */
async function front(browser: Browser, url: string): Promise<void> {
  const page = await newPage(browser, { width: 1280, scheme: 'light', language: 'en' }, url);
  await go(page, `${url}/status`);
  await page.waitForSelector('.lamp.up');
  await go(page, `${url}/login`);
  await page.type('#login-id', 'nobody at all');
  await page.type('#login-password', PASSWORD);
  await click(page, 'form button[type=submit]');
  await page.waitForSelector('[role=alert]', { timeout: 60_000 });
  await page.browserContext().close();
}

mkdirSync(OUT, { recursive: true });
const server = options.directory === undefined ? await serve(0) : undefined;
const base = options.directory ?? `http://127.0.0.1:${(server?.address() as AddressInfo).port}`;
const browser = await puppeteer.launch({ executablePath: CHROMIUM, headless: true, acceptInsecureCerts: true, args: ['--no-sandbox'] });
try {
  for (const [index, how] of LOOKS.entries()) {
    const name = nameOf(how);
    if (!name.includes(options.looks)) continue;
    await look(browser, base, how, index).catch((error: unknown) => problems.push(`${name}: ${error instanceof Error ? error.stack : String(error)}`));
  }
  const { front: url } = options;
  if (url !== undefined) await front(browser, url).catch((error: unknown) => problems.push(`by TLS: ${String(error)}`));
} finally {
  await browser.close();
  server?.close();
}
for (const problem of problems) console.error(problem);
// Somebody may keep standard input open.
process.exit(problems.length > 0 ? 1 : 0);
