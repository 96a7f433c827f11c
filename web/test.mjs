/** Bundles the tests and runs them with node. `node test.mjs NAME` runs those whose file name contains NAME. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const CACHE = `${HERE}node_modules/.cache/`; // below the packages that the tests import
const wanted = process.argv[2] ?? '';

const tests = readdirSync(`${HERE}tests`).filter((name) => name.endsWith('.test.ts') && name.includes(wanted));
mkdirSync(CACHE, { recursive: true });
const OUT = mkdtempSync(`${CACHE}tests-`);
await build({
  absWorkingDir: HERE,
  entryPoints: tests.map((name) => `tests/${name}`),
  outdir: OUT,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  format: 'esm',
  platform: 'node',
  packages: 'external',
  alias: { 'onnxruntime-web/wasm': 'onnxruntime-web' }, // the one for node
  define: { WEB: JSON.stringify(HERE) },
  sourcemap: 'inline',
});
const files = tests.map((file) => `${OUT}/${file.replace(/\.ts$/, '.mjs')}`);
const { status } = spawnSync(process.execPath, ['--enable-source-maps', '--test', ...files], { stdio: 'inherit' });
rmSync(OUT, { recursive: true });
process.exit(status ?? 1);
