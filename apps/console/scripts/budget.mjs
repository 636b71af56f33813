// What a first view costs: the entry of the bundle and all that it imports at once, compressed. Above the budget the
// build fails, so that nobody makes the console slow by an import.
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const BUDGET_KIB = 250;
const dist = new URL('../dist/', import.meta.url);
const manifest = JSON.parse(readFileSync(new URL('.vite/manifest.json', dist), 'utf8'));
const entries = Object.values(manifest);
const seen = new Map();
const add = (chunk) => {
  if (chunk === undefined || seen.has(chunk.file)) return;
  seen.set(chunk.file, gzipSync(readFileSync(new URL(chunk.file, dist))).length);
  for (const name of chunk.imports ?? []) add(manifest[name]);
};
add(entries.find((chunk) => chunk.isEntry));
// The view that people see first is loaded by itself, and counts.
add(entries.find((chunk) => chunk.src === 'src/views/overview/index.tsx'));
const kib = [...seen.values()].reduce((sum, bytes) => sum + bytes, 0) / 1024;
console.log(`first view: ${kib.toFixed(1)} KiB of JavaScript, compressed (budget ${BUDGET_KIB} KiB)`);
if (kib > BUDGET_KIB) {
  console.error('over the budget: load what is heavy where it is used (import())');
  process.exit(1);
}
