// The network's own thread: the page stays quick while shaders are made and images wait for the GPU.
//
// Each message is { id, call, args }, each answer { id, value } or { id, error }. Calls run one after the other. { fatal } says that there will be
// no more answers.

import init, { Adapter, Network } from './pkg/atrous.js';

let adapter, network, found;

const calls = {
  async start() {
    await init({ module_or_path: new URL('./pkg/atrous_bg.wasm', import.meta.url) });
    adapter = await Adapter.open();
    // Its own words, as far as the browser tells them: wgpu has but one of them.
    const info = (await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' }))?.info ?? {};
    const words = [info.vendor, info.architecture, info.device, info.description].filter(Boolean);
    return { name: [...new Set(words)].join(' '), ...JSON.parse(adapter.summary).caps };
  },

  load(bytes, name) {
    const next = new Network(adapter, bytes, name);
    network?.free();
    network = next;
    return JSON.parse(network.description);
  },

  async segment(rgba, width, height, size) {
    const next = await network.segment(rgba, width, height, size);
    found?.free();
    found = next;
    const { legend, milliseconds, networkSize } = found;
    return { legend: JSON.parse(legend), milliseconds, networkSize: [...networkSize] };
  },

  tint: hidden => result().tint(Uint16Array.from(hidden)),
  labels: () => result().labels,
  mask: () => result().mask(),
};

function result() {
  if (!found) throw new Error('no image was segmented yet');
  return found;
}

// A panic writes its words to the console (src/web) and traps; the trap itself says `unreachable` alone.
let panic;
const log = console.error;
console.error = (...parts) => {
  const text = parts.join(' ');
  if (text.startsWith('panicked at')) panic = text;
  log.apply(console, parts);
};

// Nothing may call into WebAssembly that has trapped: its memory is in no known state.
const trapped = error => panic !== undefined || error instanceof WebAssembly.RuntimeError;
const stop = error => self.postMessage({ fatal: panic ?? error?.message ?? String(error) });

// A panic in a task that wasm-bindgen polls is nobody's exception: its call would wait for ever.
self.addEventListener('error', event => stop(event.error ?? event.message));
self.addEventListener('unhandledrejection', event => stop(event.reason));

let last = Promise.resolve();

self.onmessage = ({ data: { id, call, args } }) => {
  last = last.then(async () => {
    try {
      const value = await calls[call](...args);
      self.postMessage({ id, value }, value?.buffer ? [value.buffer] : []);
    } catch (error) {
      if (trapped(error)) return stop(error);
      self.postMessage({ id, error: error?.message ?? String(error) });
    }
  });
};
