import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

/** Writes `.br` and `.gz` beside every file that they make shorter: the directory compresses nothing while it serves. */
function compressed(): Plugin {
  let folder = '';
  return {
    name: 'compressed',
    apply: 'build',
    configResolved(config) {
      folder = join(config.root, config.build.outDir);
    },
    closeBundle() {
      const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => /\.(html|js|css|svg|txt)$/.test(file));
      // The page comes last: `cargo xtask site` sees by it that the build has come to its end.
      for (const entry of files.sort((a, b) => Number(a === 'index.html') - Number(b === 'index.html'))) {
        const file = join(folder, entry);
        const plain = readFileSync(file);
        const forms = {
          br: brotliCompressSync(plain, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: plain.length } }),
          gz: gzipSync(plain, { level: 9 }),
        };
        for (const [end, bytes] of Object.entries(forms)) {
          if (bytes.length < plain.length) writeFileSync(`${file}.${end}`, bytes);
        }
      }
    },
  };
}

export default defineConfig({
  plugins: [svelte(), compressed()],
  build: {
    target: 'es2022',
    // Nothing as a data: URI: the site's Content-Security-Policy permits files of its own origin only.
    assetsInlineLimit: 0,
    // The browsers that run the rest know modulepreload.
    modulePreload: { polyfill: false },
    // The word lists of the password meter are one chunk, fetched when somebody makes a password.
    chunkSizeWarningLimit: 700,
  },
  worker: { format: 'es' },
  server: { proxy: { '/api': 'http://127.0.0.1:4180', '/downloads': 'http://127.0.0.1:4180' } },
  resolve: process.env['VITEST'] ? { conditions: ['browser'] } : {},
  test: { environment: 'jsdom', include: ['tests/**/*.test.ts'], testTimeout: 30_000 },
});
