/** Entry of the worker: loads the runtime and the model from the page's folder. */

import type { Port } from '../engine/protocol.ts';
import { EngineError } from '../engine/types.ts';
import { Model } from './model.ts';
import { serve, Service } from './service.ts';

const RUNTIME = 'ort-wasm-simd-threaded';

serve(self as unknown as Port, async (base, wanted) => {
  // Threads share memory, which browsers allow only to pages that are isolated from others.
  const threads = self.crossOriginIsolated ? wanted : 1;
  const [model, wasm] = await Promise.all([fetched(base, 'model.onnx'), fetched(base, `${RUNTIME}.wasm`)]);
  const glue = new URL(`${RUNTIME}.mjs`, base).href;
  // For the first recording, which may be opened when the network is gone.
  void import('mediabunny').catch(() => undefined);
  return [new Service(await Model.load(new Uint8Array(model), threads, { glue, wasm })), threads];
});

async function fetched(base: string, name: string): Promise<ArrayBuffer> {
  const response = await fetch(new URL(name, base)).catch(() => null);
  if (response?.ok) return response.arrayBuffer();
  const reason = response ? `answer ${response.status}` : 'no answer';
  throw new EngineError(`${name} could not be loaded (${reason}); check the connection, then load the page again`);
}
