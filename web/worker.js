// The worker that runs the network, so that the page stays responsive during shader compilation and
// GPU work.
//
// Requests are { id, call, args }, responses { id, value } or { id, error }. Calls run one after
// the other. After { fatal } there are no more responses.

import init, { Adapter, Network } from './pkg/atrous.js';

let adapter, network, segmentation;

const calls = {
  async start() {
    await init({ module_or_path: new URL('./pkg/atrous_bg.wasm', import.meta.url) });
    adapter = await Adapter.open();
    // The full adapter info, as far as the browser reports it: wgpu has only one of the fields.
    const info = (await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' }))?.info ?? {};
    const words = [info.vendor, info.architecture, info.device, info.description].filter(Boolean);
    return { name: [...new Set(words)].join(' '), ...JSON.parse(adapter.summary).caps };
  },

  load(bytes, name, stated) {
    const next = new Network(adapter, bytes, name, JSON.stringify(stated));
    network?.free();
    network = next;
    return JSON.parse(network.description);
  },

  async segment(rgba, width, height, size) {
    const next = await network.segment(rgba, width, height, size);
    segmentation?.free();
    segmentation = next;
    const { legend, milliseconds, networkSize } = segmentation;
    return { legend: JSON.parse(legend), milliseconds, networkSize: [...networkSize] };
  },

  threshold: probability => network.setThreshold(probability),
  tint: hidden => result().tint(Uint16Array.from(hidden)),
  labels: () => result().labels,
  mask: () => result().mask(),
};

function result() {
  if (!segmentation) throw new Error('no image has been segmented yet');
  return segmentation;
}

// A panic logs its message to the console (src/web) and traps; the trap itself only says
// `unreachable`.
let panic;
const log = console.error;
console.error = (...parts) => {
  const text = parts.join(' ');
  if (text.startsWith('panicked at')) panic = text;
  log.apply(console, parts);
};

// WebAssembly must not be called after a trap, because its memory may be inconsistent.
const trapped = error => panic !== undefined || error instanceof WebAssembly.RuntimeError;
const stop = error => self.postMessage({ fatal: panic ?? error?.message ?? String(error) });

// A panic in a task polled by wasm-bindgen rejects no promise: its call would wait forever.
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
