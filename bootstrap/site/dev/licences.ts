// Writes `public/licenses.txt`: the licences of everything that is shipped to visitors. `npm run licences` after a change of
// dependencies; a test says when it was forgotten.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = new URL('..', import.meta.url);
const { dependencies } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { dependencies: Record<string, string> };
// Svelte's runtime is compiled in, and scure's word list and the curves bring these along.
const names = [...Object.keys(dependencies), 'svelte', '@scure/base'].sort();
const texts = names.map((name) => {
  const folder = new URL(`node_modules/${name}/`, root);
  const { version } = JSON.parse(readFileSync(new URL('package.json', folder), 'utf8')) as { version: string };
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (file === undefined) throw new Error(`${name} brings no licence along`);
  return `${name} ${version}\n\n${readFileSync(new URL(file, folder), 'utf8').trim()}\n`;
});
const head = 'Offhook is free software under the MIT or the Apache-2.0 licence. This site also contains:\n';
writeFileSync(fileURLToPath(new URL('public/licenses.txt', root)), [head, ...texts].join(`\n${'-'.repeat(72)}\n\n`));
