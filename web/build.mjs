/** Bundles the page into basic_transcribe/page/, which is committed: installing the package needs no node. */

import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';
import { gzipSync } from 'fflate';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const PAGE = fileURLToPath(new URL('../basic_transcribe/page/', import.meta.url));
const RUNTIME = `${HERE}node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded`;
const MEDIA = `${HERE}node_modules/mediabunny`;

/** The library that reads containers stays the file that its authors publish, beside the worker. */
const mediabunny = {
  name: 'mediabunny',
  setup({ onResolve }) {
    onResolve({ filter: /^mediabunny$/ }, () => ({ path: './mediabunny.min.mjs', external: true }));
  },
};

rmSync(PAGE, { recursive: true, force: true });
mkdirSync(PAGE, { recursive: true });
await build({
  absWorkingDir: HERE,
  entryPoints: { main: 'src/main.ts', worker: 'src/worker/worker.ts', capture: 'src/ui/capture-worklet.ts', style: 'styles/style.css' },
  outdir: PAGE,
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  charset: 'utf8',
  legalComments: 'none', // LICENSES.txt has them
  conditions: ['onnxruntime-web-use-extern-wasm'],
  plugins: [mediabunny],
});
copyFileSync(`${HERE}index.html`, `${PAGE}index.html`);
copyFileSync(`${RUNTIME}.mjs`, `${PAGE}ort-wasm-simd-threaded.mjs`);
copyFileSync(`${MEDIA}/dist/bundles/mediabunny.min.mjs`, `${PAGE}mediabunny.min.mjs`);
// Packed by a library in JavaScript: what node's own zlib writes depends on node's version.
writeFileSync(`${PAGE}ort-wasm-simd-threaded.wasm.gz`, gzipSync(readFileSync(`${RUNTIME}.wasm`), { level: 9, mem: 12, mtime: 0 }));
writeFileSync(`${PAGE}LICENSES.txt`, licences());

function licences() {
  const version = (name) => JSON.parse(readFileSync(`${HERE}node_modules/${name}/package.json`, 'utf8')).version;
  const parts = [
    ['basic_transcribe (main.js, worker.js, style.css, index.html): Apache-2.0, see LICENSE of the package'],
    [
      `ONNX Runtime Web ${version('onnxruntime-web')} (in worker.js, ort-wasm-simd-threaded.*): MIT`,
      'https://github.com/microsoft/onnxruntime; notices of what it contains: ThirdPartyNotices.txt there',
      readFileSync(`${HERE}licences/onnxruntime.txt`, 'utf8').trim(),
    ],
    [
      `Mediabunny ${version('mediabunny')} (mediabunny.min.mjs, unmodified): MPL-2.0`,
      'https://github.com/Vanilagy/mediabunny has the source',
      readFileSync(`${MEDIA}/LICENSE`, 'utf8').trim(),
    ],
  ];
  return `${parts.map((part) => part.join('\n\n')).join(`\n\n${'-'.repeat(80)}\n\n`)}\n`;
}
