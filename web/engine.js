// The worker's calls as functions that return promises.
//
// A panic ends an engine for good: WebAssembly that trapped must not be entered again, and a worker that died answers nothing. From then on
// the calls that wait and all later ones fail at once with `Stopped`, until `restart` has made another worker.

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
    // What a worker sent before it was replaced.
    if (own !== worker) return;
    if (fatal !== undefined) return stop(fatal);
    const call = waiting.get(id);
    waiting.delete(id);
    error === undefined ? call?.resolve(value) : call?.reject(new Error(error));
  };
  // The worker could not be loaded, or died.
  own.onerror = event => own === worker && stop(event.message || 'pkg/ could not be loaded: build it with scripts/web');
  own.onmessageerror = () => own === worker && stop('an answer of its worker could not be read');
}

function stop(why) {
  // The first reason is the cause, the next ones follow from it.
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

// Loads a network from a Blob, which is kept for `restart`: it stays on the disk, where its bytes would take memory twice.
export async function load(blob, name) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const found = await call('load', [bytes, name], [bytes.buffer]);
  network = { blob, name };
  return found;
}

export const segment = (image, size) => call('segment', [new Uint8Array(image.data.buffer), image.width, image.height, size], [image.data.buffer]);
export const tint = hidden => call('tint', [hidden]);
export const labels = () => call('labels', []);
export const mask = () => call('mask', []);

// Begins again with another worker and the network that was loaded last: the adapter, and the network's name and description, if there was one.
export async function restart() {
  stop('it was restarted');
  launch();
  const adapter = await start();
  if (!network) return { adapter };
  const { blob, name } = network;
  return { adapter, name, network: await load(blob, name) };
}

launch();
