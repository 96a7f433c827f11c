/** Entry of the worker: loads the runtime and the model from the page's folder. */

import type { Port } from '../engine/protocol.ts';
import { EngineError } from '../engine/types.ts';
import { Model } from './model.ts';
import { serve, Service } from './service.ts';

const RUNTIME = 'ort-wasm-simd-threaded';

serve(self as unknown as Port, async (base, wanted) => {
  // Threads share memory, which browsers allow only to pages that are isolated from others.
  const threads = self.crossOriginIsolated ? wanted : 1;
  const glue = new URL(`${RUNTIME}.mjs`, base).href;
  // All that the first recording needs: it may be opened when the network is gone.
  const [model, wasm] = await Promise.all([
    fetched(base, 'model.onnx'),
    fetched(base, `${RUNTIME}.wasm`),
    import(glue).catch(() => missing(`${RUNTIME}.mjs`)),
    import('mediabunny').catch(() => missing('mediabunny.min.mjs')),
  ]);
  return new Service(await Model.load(new Uint8Array(model), threads, { glue, wasm }));
});

async function fetched(base: string, name: string): Promise<ArrayBuffer> {
  const response = await fetch(new URL(name, base)).catch(() => null);
  if (response?.ok) return response.arrayBuffer();
  return missing(name, response ? `answer ${response.status}` : undefined);
}

function missing(name: string, reason = 'no answer'): never {
  throw new EngineError(`${name} could not be loaded (${reason}); check the connection, then try again`);
}
