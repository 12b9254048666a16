import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  plugins: [svelte()],
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
  server: { proxy: { '/api': 'http://127.0.0.1:4180', '/files': 'http://127.0.0.1:4180' } },
  resolve: process.env['VITEST'] ? { conditions: ['browser'] } : {},
  test: { environment: 'jsdom', include: ['tests/**/*.test.ts'], testTimeout: 30_000 },
});
