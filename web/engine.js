// The worker's calls as functions that return promises.
//
// A panic stops the engine: WebAssembly must not be called after a trap, and a dead worker does not
// respond. From then on pending and later calls fail immediately with `Stopped`, until `restart`
// creates a new worker.

export class Stopped extends Error {
  constructor(why) {
    super(`the engine stopped: ${why}; restart it or reload the page`);
    this.name = 'Stopped';
  }
}

let worker, stopped, network;
let waiting = new Map();
let next = 0;

function launch() {
  const own = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
  worker = own;
  stopped = undefined;
  own.onmessage = ({ data: { id, value, error, fatal } }) => {
    // Ignore messages of a worker that was replaced.
    if (own !== worker) return;
    if (fatal !== undefined) return stop(fatal);
    const call = waiting.get(id);
    waiting.delete(id);
    error === undefined ? call?.resolve(value) : call?.reject(new Error(error));
  };
  // The worker could not be loaded, or died.
  own.onerror = event => own === worker && stop(event.message || 'pkg/ could not be loaded: build it with scripts/web');
  own.onmessageerror = () => own === worker && stop('a response of its worker could not be decoded');
}

function stop(why) {
  // Keep the first reason; later ones are consequences.
  stopped ??= new Stopped(why);
  worker.terminate();
  for (const { reject } of waiting.values()) reject(stopped);
  waiting.clear();
}

function call(name, args, transfer = []) {
  if (stopped) return Promise.reject(stopped);
  return new Promise((resolve, reject) => {
    const id = next++;
    waiting.set(id, { resolve, reject });
    try {
      worker.postMessage({ id, call: name, args }, transfer);
    } catch (error) {
      waiting.delete(id);
      reject(error);
    }
  });
}

export const start = () => call('start', []);

// Loads a network from a Blob. The Blob is kept for `restart`, because it stays on disk, while its
// bytes would need memory twice.
// `stated` is what the file cannot state: { config, preprocessor, options }, see src/web.
export async function load(blob, name, stated = {}) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const description = await call('load', [bytes, name, stated], [bytes.buffer]);
  network = { blob, name, stated };
  return description;
}

export const segment = (image, size) => call('segment', [new Uint8Array(image.data.buffer), image.width, image.height, size], [image.data.buffer]);
// Sets the threshold of sigmoid outputs, in 0 to 1, for the next image.
export const threshold = probability => call('threshold', [probability]);
export const tint = hidden => call('tint', [hidden]);
export const labels = () => call('labels', []);
export const mask = () => call('mask', []);

// Restarts with a new worker and the last loaded network. Returns the adapter and, if a network was
// loaded, its name and description.
export async function restart() {
  stop('it was restarted');
  launch();
  const adapter = await start();
  if (!network) return { adapter };
  const { blob, name, stated } = network;
  return { adapter, name, network: await load(blob, name, stated) };
}

launch();
