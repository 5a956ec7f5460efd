// The worker's calls as functions that return promises.

const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
const waiting = new Map();
let next = 0;

worker.onmessage = ({ data: { id, value, error } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  error === undefined ? resolve(value) : reject(new Error(error));
};

// The worker itself could not be loaded, or died: nothing will answer any more.
worker.onerror = event => {
  for (const { reject } of waiting.values()) reject(new Error(event.message || 'pkg/ could not be loaded: build it with scripts/web'));
  waiting.clear();
};

function call(name, args, transfer = []) {
  return new Promise((resolve, reject) => {
    waiting.set(next, { resolve, reject });
    worker.postMessage({ id: next, call: name, args }, transfer);
    next += 1;
  });
}

export const start = () => call('start', []);
export const load = (bytes, name) => call('load', [bytes, name], [bytes.buffer]);
export const segment = (image, size) => call('segment', [new Uint8Array(image.data.buffer), image.width, image.height, size], [image.data.buffer]);
export const tint = hidden => call('tint', [hidden]);
export const labels = () => call('labels', []);
export const mask = () => call('mask', []);
