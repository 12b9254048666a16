// Catalogues, router, passwords, strength, failures and the search: everything between the formats and the pages.

import { dependencies } from '../package.json';
import licences from '../public/licenses.txt?raw';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { Api, ApiError } from '../src/lib/api/client';
import { messageOf } from '../src/lib/api/errors';
import { faultOf, idFault, newPasswordFault, presentPasswordFault } from '../src/lib/form';
import { FormatError } from '../src/lib/formats/bytes';
import { en, type Catalogue } from '../src/lib/i18n/en';
import { i18n, preferred, t } from '../src/lib/i18n/index.svelte';
import { ko } from '../src/lib/i18n/ko';
import { WrongPassword } from '../src/lib/keys/errors';
import { chanceOf, mine, workerCount, type Progress } from '../src/lib/miner/miner';
import type { Task, Tried } from '../src/lib/miner/miner.worker';
import { normalPassword, passwordFault } from '../src/lib/password';
import { pageOf, pageOfClick, PATHS } from '../src/lib/router';
import { strengthOf } from '../src/lib/strength';

describe('catalogues', () => {
  /** Every sentence of a catalogue with its path; functions are called with plausible arguments. */
  function sentences(part: object, path = ''): [string, string][] {
    return Object.entries(part).flatMap(([key, value]: [string, unknown]) => {
      const at = `${path}.${key}`;
      if (typeof value === 'string') return [[at, value] as [string, string]];
      if (typeof value === 'function') return [[at, String((value as (...args: unknown[]) => string)(3, 4))] as [string, string]];
      return sentences(value as object, at);
    });
  }

  test('both catalogues say everything', () => {
    const [english, korean] = [sentences(en), sentences(ko)];
    expect(korean.map(([path]) => path)).toEqual(english.map(([path]) => path));
    for (const [path, text] of [...english, ...korean]) {
      expect(text.trim(), path).not.toBe('');
      expect(text, path).not.toMatch(/undefined|\[object|NaN/);
    }
  });

  test('Korean is Korean but for names and codes', () => {
    const same = sentences(ko).filter(([path, text]) => text === sentences(en).find(([other]) => other === path)?.[1]);
    expect(same.map(([path]) => path)).toEqual(['.site.title', '.signup.id.label', '.login.id', '.account.change.id', '.account.backup.id', '.download.sum']);
  });

  test('the language is the first of the browser’s that we have, else English', () => {
    expect(preferred(['ko-KR', 'en'])).toBe('ko');
    expect(preferred(['fr', 'EN-gb', 'ko'])).toBe('en');
    expect(preferred(['fr'])).toBe('en');
    expect(preferred([])).toBe('en');
  });

  test('a chosen language holds and is remembered', () => {
    i18n.choose('ko');
    expect(t().pages.signup).toBe('가입');
    expect(localStorage.getItem('offhook.language')).toBe('ko');
    i18n.choose('en');
    expect(t().pages.signup).toBe('Sign up');
  });
});

describe('router', () => {
  test('every path has its page, and everything else the page for wrong numbers', () => {
    for (const [page, path] of Object.entries(PATHS)) expect(pageOf(path)).toBe(page);
    expect(pageOf('/signup/')).toBe('signup');
    expect(pageOf('//')).toBe('home');
    for (const path of ['/signup/x', '/Signup', '/api/v1/info', '/constructor']) expect(pageOf(path)).toBe('missing');
  });

  function click(html: string, init: MouseEventInit = {}): URL | undefined {
    document.body.innerHTML = html;
    let seen: URL | undefined;
    const listener = (event: Event) => {
      seen = pageOfClick(event as MouseEvent, location.origin);
      event.preventDefault();
    };
    addEventListener('click', listener);
    document.querySelector('b')?.dispatchEvent(new MouseEvent('click', { bubbles: true, cancelable: true, ...init }));
    removeEventListener('click', listener);
    return seen;
  }

  test('plain clicks on own pages are ours, all others the browser’s', () => {
    expect(click('<a href="/login"><b>x</b></a>')?.pathname).toBe('/login');
    expect(click('<a href="/download#client"><b>x</b></a>')?.hash).toBe('#client');
    expect(click('<b>x</b>')).toBeUndefined();
    expect(click('<a href="/login"><b>x</b></a>', { ctrlKey: true })).toBeUndefined();
    expect(click('<a href="/login"><b>x</b></a>', { button: 1 })).toBeUndefined();
    expect(click('<a href="/login" target="_blank"><b>x</b></a>')).toBeUndefined();
    expect(click('<a href="/files/x" download><b>x</b></a>')).toBeUndefined();
    expect(click('<a href="/files/x"><b>x</b></a>')).toBeUndefined();
    expect(click('<a href="https://example.org/login"><b>x</b></a>')).toBeUndefined();
  });
});

describe('passwords', () => {
  test('a password is the same on every keyboard', () => {
    expect(normalPassword('caf\u0065\u0301\u00a0\u3000x')).toBe('caf\u00e9  x');
    expect(normalPassword(' Trailing ')).toBe(' Trailing ');
  });

  test('what no password can be is told', () => {
    expect(passwordFault('', false)).toBe('empty');
    expect(passwordFault('a\u0007b', false)).toBe('control');
    expect(passwordFault('홍'.repeat(342), false)).toBe('long');
    expect(passwordFault('short', true)).toBe('short');
    expect(passwordFault('short', false)).toBeUndefined();
    expect(passwordFault('😀'.repeat(10), true)).toBeUndefined();
  });

  test('strength tells used passwords and the own ID from good ones', async () => {
    const used = await strengthOf('password', []);
    expect(used.score).toBe(0);
    expect(used.warning !== undefined && used.warning in en.password.warnings).toBe(true);
    expect((await strengthOf('bakelite sings under seven lamps', [])).score).toBe(4);
    const own = await strengthOf('hongkildong7', ['hongkildong']);
    expect(own.score).toBeLessThan((await strengthOf('hongkildong7', [])).score);
  });

  test('every warning that the engine can give has its sentence', async () => {
    for (const weak of ['qwerty', 'aaaaaaa', 'abcabcabc', 'abcdefgh', '2024', '1987-12-24', '123456', 'letmein', 'dragonfly', 'jennifer', 'p4ssw0rd']) {
      const { warning } = await strengthOf(weak, []);
      if (warning !== undefined) expect(Object.keys(en.password.warnings)).toContain(warning);
    }
  });

  test('a judgement is for the longest of passwords, too, and quick', async () => {
    expect((await strengthOf('correct horse '.repeat(70), [])).score).toBe(4);
  });

  test('fields say what is wrong with them', () => {
    expect(idFault('id', '  ', en)).toEqual([{ id: 'id', text: en.form.idEmpty }]);
    expect(idFault('id', '홍'.repeat(65), en)).toEqual([{ id: 'id', text: en.form.idLong }]);
    expect(idFault('id', '홍길동', en)).toEqual([]);
    expect(faultOf(presentPasswordFault('p', '', en), 'p')).toBe(en.password.faults.empty);
    expect(presentPasswordFault('p', 'x', en)).toEqual([]);
    const weak = { score: 1, warning: undefined } as const;
    expect(faultOf(newPasswordFault('p', 'long enough', weak, en), 'p')).toBe(en.password.faults.weak);
    expect(newPasswordFault('p', 'long enough', { ...weak, score: 2 }, en)).toEqual([]);
    expect(newPasswordFault('p', 'long enough', undefined, en)).toEqual([]);
  });
});

describe('failures', () => {
  const catalogues: Catalogue[] = [en, ko];

  function answering(status: number, body: string): Api {
    return new Api(() => Promise.resolve(new Response(body, { status })));
  }

  async function failure(api: Api): Promise<ApiError> {
    const error: unknown = await api.get('/x').then(() => undefined, (caught: unknown) => caught);
    expect(error).toBeInstanceOf(ApiError);
    return error as ApiError;
  }

  test('a code becomes a sentence of the visitor’s language', async () => {
    const error = await failure(answering(409, '{"error":"id_taken","message":"That ID is taken."}'));
    expect(catalogues.map((catalogue) => messageOf(error, catalogue))).toEqual([en.errors.id_taken, ko.errors.id_taken]);
  });

  test('a closed account and a full directory are said in the visitor’s language', () => {
    for (const code of ['account_closed', 'directory_full'] as const) {
      const said = catalogues.map((catalogue) => messageOf(new ApiError(code, 403), catalogue));
      expect(said).toEqual([en.errors[code], ko.errors[code]]);
      expect(said[0]).not.toContain(code);
    }
  });

  test('details are part of the sentence', async () => {
    const error = await failure(answering(429, '{"error":"too_many","retry_after_s":120}'));
    expect(messageOf(error, en)).toContain('2 minutes');
    expect(messageOf(new ApiError('too_many', 429, { retry_after_s: 1 }), en)).toContain('1 second.');
    expect(messageOf(new ApiError('too_many', 429, { retry_after_s: 'soon' }), en)).toContain('Wait a while');
    expect(messageOf(new ApiError('number_invalid', 422, { reason: 'blank' }), en)).toBe(en.availability.reasons.blank);
    expect(messageOf(new ApiError('number_invalid', 422, { reason: 'toString' }), en)).toBe(en.errors.number_invalid);
    expect(messageOf(new ApiError('too_many_numbers', 403, { max: 8 }), en)).toContain('8');
  });

  test('an unknown code is shown, but no text that a stranger could have chosen', () => {
    expect(messageOf(new ApiError('brand_new', 400), en)).toContain('brand_new');
    for (const code of ['<b>call 4821</b>', 'toString', '__proto__', 'x'.repeat(100)]) {
      expect(messageOf(new ApiError(code, 400), en)).toBe(en.errors.unknown(/^[a-z_]{1,40}$/.test(code) ? code : '?'));
    }
    expect(messageOf(new ApiError('unknown', 400), en)).toBe(en.errors.unknown('unknown'));
  });

  test('answers that are no answers are told from refusals', async () => {
    expect((await failure(answering(200, '<html>'))).code).toBe('bad_answer');
    expect((await failure(answering(404, '<html>'))).code).toBe('bad_answer');
    expect((await failure(answering(502, '<html>'))).code).toBe('unavailable');
    expect((await failure(answering(400, '[]'))).code).toBe('bad_answer');
    expect((await failure(new Api(() => Promise.reject(new TypeError('failed'))))).code).toBe('offline');
    await expect(answering(200, '').get('/x')).resolves.toEqual({});
  });

  test('other failures have sentences, too', () => {
    expect(messageOf(new WrongPassword(), en)).toBe(en.errors.wrong_credentials);
    expect(messageOf(new FormatError('x'), en)).toBe(en.errors.bad_answer);
    expect(messageOf(new Error('x'), en)).toBe(en.errors.unexpected);
    expect(messageOf('x', en)).toBe(en.errors.unexpected);
  });

  test('the CSRF token goes along with changes only', async () => {
    const seen: [string, string | null][] = [];
    const api = new Api((_, init) => {
      seen.push([init?.method ?? '', new Headers(init?.headers).get('X-Offhook-CSRF')]);
      return Promise.resolve(new Response('{}'));
    });
    await api.post('/login/start');
    api.csrf = 'token';
    await api.get('/account');
    await api.put('/account/backup', {});
    await api.delete('/account');
    expect(seen).toEqual([['POST', null], ['GET', null], ['PUT', 'token'], ['DELETE', 'token']]);
  });

  test('a request that its caller gives up is not a failure of the directory', async () => {
    const controller = new AbortController();
    const api = new Api((_, init) => new Promise((_resolve, reject) => init?.signal?.addEventListener('abort', () => reject(new DOMException('', 'AbortError')))));
    const pending = api.get('/x', controller.signal);
    controller.abort();
    await expect(pending).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('the search for a number', () => {
  /** A worker that tries nothing until it is told to. */
  class FakeWorker {
    static all: FakeWorker[] = [];
    onmessage: ((event: MessageEvent<Tried>) => void) | null = null;
    onerror: ((event: ErrorEvent) => void) | null = null;
    task: Task | undefined;
    ended = false;

    constructor() {
      FakeWorker.all.push(this);
    }

    postMessage(task: Task): void {
      this.task = task;
    }

    terminate(): void {
      this.ended = true;
    }

    tries(nonce: number, number?: string): void {
      this.onmessage?.(new MessageEvent('message', { data: { nonce, number } }));
    }
  }

  function search(threads: number, signal = new AbortController().signal) {
    vi.stubGlobal('navigator', { hardwareConcurrency: threads });
    FakeWorker.all = [];
    const progress: Progress[] = [];
    const found = mine(new Uint8Array(32), 5, signal, (now) => progress.push(now), () => new FakeWorker() as unknown as Worker);
    return { found, progress, workers: FakeWorker.all };
  }

  afterEach(() => void vi.unstubAllGlobals());

  test('workers share the nonces, and all end when one has found a number', async () => {
    const { found, progress, workers } = search(3);
    expect(workers.map(({ task }) => [task?.from, task?.step])).toEqual([[5, 3], [6, 3], [7, 3]]);
    workers[0]?.tries(5);
    workers[2]?.tries(7);
    workers[1]?.tries(6, '387245519274');
    await expect(found).resolves.toEqual({ nonce: 6, number: '387245519274' });
    expect(progress.map(({ tries }) => tries)).toEqual([1, 2, 3]);
    expect(workers.every(({ ended }) => ended)).toBe(true);
  });

  test('a search can be cancelled', async () => {
    const controller = new AbortController();
    const { found, workers } = search(2, controller.signal);
    controller.abort();
    await expect(found).rejects.toMatchObject({ name: 'AbortError' });
    expect(workers.every(({ ended }) => ended)).toBe(true);
    await expect(search(2, controller.signal).found).rejects.toMatchObject({ name: 'AbortError' });
  });

  test('a worker that cannot start ends the search', async () => {
    const { found, workers } = search(2);
    workers[1]?.onerror?.(new ErrorEvent('error', { message: 'refused' }));
    await expect(found).rejects.toThrow('refused');
    expect(workers.every(({ ended }) => ended)).toBe(true);
  });

  test('there are one to four workers, and progress never says too much', () => {
    expect([undefined, 0, 1, 3, 64].map(workerCount)).toEqual([1, 1, 1, 3, 4]);
    expect(chanceOf(0)).toBe(0);
    expect(chanceOf(256)).toBeCloseTo(0.632, 2);
    expect(chanceOf(5000)).toBeLessThan(1);
  });
});

test('the licence of everything that is shipped is shipped', () => {
  for (const name of [...Object.keys(dependencies), 'svelte']) expect(licences).toContain(`\n${name} `);
});
