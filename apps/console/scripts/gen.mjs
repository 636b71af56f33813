// Generates what the console knows of the API from api/openapi.json, into src/api/generated (not checked in):
// schema.d.ts, the types of every path; validators.mjs, checks of the shapes that live data is read from. The checks
// are plain functions (ajv's standalone code), since a strict Content-Security-Policy forbids making code at run time.
import Ajv from 'ajv/dist/2020.js';
import standalone from 'ajv/dist/standalone/index.js';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import openapiTS, { astToString } from 'openapi-typescript';

const source = new URL('../../../api/openapi.json', import.meta.url);
const target = new URL('../src/api/generated/', import.meta.url);
/** What is checked when it arrives: all that comes by the watch, and who we are. */
const CHECKED = [
  'WatchEvent',
  'NodeView',
  'AllocationView',
  'WorkloadView',
  'StackView',
  'VolumeView',
  'EventView',
  'Whoami',
  'Status',
];

const document = JSON.parse(readFileSync(source, 'utf8'));
mkdirSync(target, { recursive: true });
writeFileSync(new URL('schema.d.ts', target), astToString(await openapiTS(document)));

/** Shapes alone: no formats and bounds, which need run-time helpers, and no words for people. */
function shape(value) {
  if (Array.isArray(value)) return value.map(shape);
  if (value === null || typeof value !== 'object') return value;
  const kept = {};
  for (const [key, part] of Object.entries(value)) {
    if (
      ['description', 'example', 'examples', 'format', 'minimum', 'maximum', 'default', 'title'].includes(
        key,
      ) &&
      typeof part !== 'object'
    )
      continue;
    if (key === 'additionalProperties' && part === false) continue;
    kept[key] = key === '$ref' ? part.replace('#/components/schemas/', '') : shape(part);
  }
  return kept;
}

const ajv = new Ajv({
  strict: false,
  validateFormats: false,
  messages: false,
  code: { source: true, esm: true, lines: true },
});
const schemas = document.components.schemas;
const wanted = new Set();
const visit = (name) => {
  if (wanted.has(name) || schemas[name] === undefined) return;
  wanted.add(name);
  for (const [, ref] of JSON.stringify(schemas[name]).matchAll(/"#\/components\/schemas\/([A-Za-z]+)"/g))
    visit(ref);
};
CHECKED.forEach(visit);
for (const name of wanted) {
  const kept = shape(schemas[name]);
  // A workload's declared document is shown, never acted on: it is not worth its checks' size.
  ajv.addSchema(name === 'WorkloadSpec' ? { type: 'object' } : kept, name);
}
// Deep equality, which `enum` asks for, is needed for plain values alone.
const code = standalone(ajv, Object.fromEntries(CHECKED.map((name) => [name, name]))).replace(
  /const (func\d+) = require\("ajv\/dist\/runtime\/equal"\)\.default;/g,
  'const $1 = Object.is;',
);
if (code.includes('require('))
  throw new Error('the validators need helpers at run time: keep bounds out of shape()');
writeFileSync(new URL('validators.js', target), code);
writeFileSync(
  new URL('validators.d.ts', target),
  CHECKED.map((name) => `export function ${name}(value: unknown): boolean;\n`).join(''),
);
