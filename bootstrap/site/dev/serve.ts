// Serves the built site as a directory does (same headers, same fallback), with the mock behind its API.
// `npm run build && npm run mock`, then http://127.0.0.1:4180/

import { existsSync, readFileSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pageOf } from '../src/lib/router';
import { Mock } from './mock';

const DIST = fileURLToPath(new URL('../dist', import.meta.url));
const CSP =
  "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; worker-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'";
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
  '.txt': 'text/plain; charset=utf-8',
};

/** Starts the server on a port of the loopback. */
export async function serve(port: number): Promise<Server> {
  const mock = await Mock.start();
  const server = createServer((request, response) => {
    const { pathname, search } = new URL(request.url ?? '/', 'http://localhost');
    if (pathname.startsWith('/api/v1')) void api(mock, request, response, pathname.slice('/api/v1'.length) + search);
    else file(response, pathname);
  });
  return new Promise((resolve) => server.listen(port, '127.0.0.1', () => resolve(server)));
}

async function api(mock: Mock, request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const cookie = /offhook_session=([^;]+)/.exec(request.headers.cookie ?? '')?.[1];
  const csrf = request.headers['x-offhook-csrf'];
  const body = parts.length > 0 ? (JSON.parse(Buffer.concat(parts).toString()) as Record<string, unknown>) : {};
  const answer = mock.handle(request.method ?? 'GET', path, body, cookie, typeof csrf === 'string' ? csrf : undefined);
  const headers: Record<string, string> = { 'Content-Type': 'application/json' };
  if (answer.session !== undefined) {
    headers['Set-Cookie'] = `offhook_session=${answer.session ?? ''}; HttpOnly; SameSite=Strict; Path=/${answer.session === null ? '; Max-Age=0' : ''}`;
  }
  response.writeHead(answer.status, headers).end(JSON.stringify(answer.body));
}

function file(response: ServerResponse, pathname: string): void {
  const path = join(DIST, normalize(pathname));
  const found = path.startsWith(DIST) && existsSync(path) && statSync(path).isFile();
  const shown = found ? path : join(DIST, 'index.html');
  const status = found || pageOf(pathname) !== 'missing' ? 200 : 404;
  const headers = { 'Content-Type': TYPES[extname(shown)] ?? 'application/octet-stream', 'Content-Security-Policy': CSP, 'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer' };
  response.writeHead(status, headers).end(readFileSync(shown));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const port = Number(process.argv[2] ?? 4180);
  await serve(port);
  console.log(`http://127.0.0.1:${port}/`);
}
