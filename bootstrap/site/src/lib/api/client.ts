// Requests to the directory. Every failure is an [ApiError] with a code that the catalogues have a sentence for.

/** Codes of failures that no directory sends: they arise here. */
export type LocalCode = 'offline' | 'slow' | 'bad_answer';

/** A request that failed. */
export class ApiError extends Error {
  override name = 'ApiError';

  constructor(
    readonly code: string,
    readonly status: number,
    readonly details: Readonly<Record<string, unknown>> = {},
  ) {
    super(code);
  }

  /** A number among the details. */
  number(key: string): number | undefined {
    const value = this.details[key];
    return typeof value === 'number' ? value : undefined;
  }

  /** A text among the details. */
  text(key: string): string | undefined {
    const value = this.details[key];
    return typeof value === 'string' ? value : undefined;
  }
}

const BASE = '/api/v1';
/** How long an answer may take. */
const TIMEOUT_MS = 20_000;

/** Sends requests, with the CSRF token once there is a session. */
export class Api {
  csrf: string | undefined;

  constructor(private readonly send: typeof fetch = (input, init) => fetch(input, init)) {}

  get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return this.request<T>('GET', path, undefined, signal);
  }

  post<T>(path: string, body: object = {}): Promise<T> {
    return this.request<T>('POST', path, body);
  }

  put<T>(path: string, body: object): Promise<T> {
    return this.request<T>('PUT', path, body);
  }

  delete<T>(path: string, body: object = {}): Promise<T> {
    return this.request<T>('DELETE', path, body);
  }

  private async request<T>(method: string, path: string, body?: object, signal?: AbortSignal): Promise<T> {
    const response = await this.exchange(method, path, body, signal);
    const answer = await readJson(response);
    if (response.ok) return answer as T;
    if (!isObject(answer) || typeof answer['error'] !== 'string') {
      // A proxy before the directory answers in its own words.
      throw new ApiError(response.status >= 500 ? 'unavailable' : 'bad_answer', response.status);
    }
    const { error, ...details } = answer;
    throw new ApiError(error as string, response.status, details);
  }

  private async exchange(method: string, path: string, body?: object, signal?: AbortSignal): Promise<Response> {
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    const headers: Record<string, string> = { Accept: 'application/json' };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    if (this.csrf !== undefined && method !== 'GET') headers['X-Offhook-CSRF'] = this.csrf;
    try {
      return await this.send(BASE + path, {
        method,
        headers,
        credentials: 'same-origin',
        cache: 'no-store',
        signal: signal === undefined ? timeout : any(signal, timeout),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(timeout.aborted ? 'slow' : 'offline', 0);
    }
  }
}

/** Aborted when either is. `AbortSignal.any` is younger than some browsers in use. */
function any(a: AbortSignal, b: AbortSignal): AbortSignal {
  const controller = new AbortController();
  for (const signal of [a, b]) {
    if (signal.aborted) controller.abort(signal.reason);
    signal.addEventListener('abort', () => controller.abort(signal.reason), { once: true });
  }
  return controller.signal;
}

async function readJson(response: Response): Promise<unknown> {
  try {
    const text = await response.text();
    return text === '' ? {} : JSON.parse(text);
  } catch {
    if (response.ok) throw new ApiError('bad_answer', response.status);
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
