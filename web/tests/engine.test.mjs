// Tests of engine.js with a fake worker, and of worker.js with a fake engine that panics. Needs
// only node.

import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

// Each test imports its own copy of the page's files. The package.json marks them as ES modules.
const directory = mkdtempSync(join(tmpdir(), 'atrous-engine-'));
after(() => rmSync(directory, { recursive: true }));
let copies = 0;
function copy(file) {
  const own = join(directory, String(copies++));
  mkdirSync(join(own, 'pkg'), { recursive: true });
  writeFileSync(join(own, 'package.json'), '{ "type": "module" }');
  copyFileSync(fileURLToPath(new URL(`../${file}`, import.meta.url)), join(own, file));
  return own;
}

// A worker that records its messages. `answers` maps calls to values; other calls get no response.
class FakeWorker {
  static made = [];
  answers = { start: { name: 'adapter' }, load: { classes: [] } };
  messages = [];
  terminated = false;

  constructor() {
    FakeWorker.made.push(this);
  }

  postMessage(message) {
    this.messages.push(message);
    if (message.call in this.answers) queueMicrotask(() => this.onmessage({ data: { id: message.id, value: this.answers[message.call] } }));
  }

  terminate() {
    this.terminated = true;
  }
}

async function engine() {
  globalThis.Worker = FakeWorker;
  const module = await import(pathToFileURL(join(copy('engine.js'), 'engine.js')));
  return { module, worker: () => FakeWorker.made.at(-1) };
}

const image = () => ({ data: new Uint8ClampedArray(4), width: 1, height: 1 });
const blob = new Blob([new Uint8Array([1, 2, 3])]);

for (const [what, die, words] of [
  ['a panic', worker => worker.onmessage({ data: { fatal: 'panicked at src/x.rs:1' } }), /the engine stopped: panicked at src\/x.rs:1; restart it or reload the page/],
  ['a dead worker', worker => worker.onerror({ message: 'out of memory' }), /the engine stopped: out of memory; /],
  ['a worker that cannot be loaded', worker => worker.onerror({}), /the engine stopped: pkg\/ could not be loaded/],
]) {
  test(`${what} fails the calls that wait and all later ones at once`, async () => {
    const { module, worker } = await engine();
    await module.start();
    const waits = [module.segment(image(), ''), module.labels()];
    const dead = worker();
    die(dead);
    for (const call of waits) await assert.rejects(call, words);
    const sent = dead.messages.length;
    for (const later of [() => module.mask(), () => module.tint([]), () => module.load(blob, 'n'), () => module.start()]) {
      await assert.rejects(later(), error => error instanceof module.Stopped && words.test(error.message));
    }
    assert.equal(dead.messages.length, sent, 'no more messages to a dead worker');
    assert.ok(dead.terminated);
  });
}

test('a restart makes another worker with the network that was loaded last, and the old one is not heard any more', async () => {
  const { module, worker } = await engine();
  await module.start();
  await module.load(blob, 'first');
  await module.load(blob, 'second', { options: { rates: '12,24,36' } });
  const old = worker();
  old.onmessage({ data: { fatal: 'x' } });
  const restarted = await module.restart();
  assert.deepEqual(restarted, { adapter: { name: 'adapter' }, name: 'second', network: { classes: [] } });
  assert.notEqual(worker(), old);
  assert.deepEqual(worker().messages.map(m => m.call), ['start', 'load']);
  const [bytes, name, stated] = worker().messages[1].args;
  assert.deepEqual([[...bytes], name, stated], [[1, 2, 3], 'second', { options: { rates: '12,24,36' } }]);
  old.onerror({ message: 'late' });
  await module.start();
});

test('a network that could not be loaded does not take the place of the one that was', async () => {
  const { module, worker } = await engine();
  await module.load(blob, 'good');
  const before = worker();
  delete before.answers.load;
  const bad = module.load(blob, 'bad');
  await new Promise(setImmediate);
  before.onmessage({ data: { id: before.messages.at(-1).id, error: 'no weights' } });
  await assert.rejects(bad, /^Error: no weights$/);
  before.onmessage({ data: { fatal: 'x' } });
  assert.equal((await module.restart()).name, 'good');
});

test('a message that cannot be sent fails its own call alone', async () => {
  const { module, worker } = await engine();
  const post = worker().postMessage;
  worker().postMessage = () => { throw new Error('detached'); };
  await assert.rejects(module.labels(), /detached/);
  worker().postMessage = post;
  await module.start();
});

// Imitates the wasm-bindgen output of src/web: panics in a call and in a task that is not awaited.
const PACKAGE = `
  export default async () => {};
  export const Adapter = { open: async () => ({ summary: '{"caps":{}}' }) };
  export class Network {
    get description() { return '{}'; }
    free() {}
    segment(rgba, width) {
      if (width === 1) throw new Error('no such size');
      console.error('panicked at src/exec/gpu.rs:1: index out of bounds');
      const trap = new WebAssembly.RuntimeError('unreachable');
      if (width === 2) throw trap;
      globalThis.reject(trap);
      return new Promise(() => {});
    }
  }`;

async function worker() {
  const own = copy('worker.js');
  writeFileSync(join(own, 'pkg/atrous.js'), PACKAGE);
  const heard = [], listeners = {};
  globalThis.self = {
    postMessage: message => heard.push(message),
    addEventListener: (name, listener) => { listeners[name] = listener; },
  };
  globalThis.reject = reason => listeners.unhandledrejection({ reason });
  const log = console.error;
  console.error = () => {};
  await import(pathToFileURL(join(own, 'worker.js')));
  const ask = async (call, ...args) => {
    self.onmessage({ data: { id: heard.length, call, args } });
    await new Promise(resolve => setTimeout(resolve, 5));
    return heard.at(-1);
  };
  await ask('load', [], 'n');
  return { ask, heard, listeners, done: () => { console.error = log; } };
}

for (const [what, width] of [['in a call', 2], ['in a task that nobody awaits', 3]]) {
  test(`a panic ${what} is reported as fatal with its message`, async () => {
    const { ask, done } = await worker();
    const { error } = await ask('segment', [], 1);
    const { fatal } = await ask('segment', [], width);
    done();
    assert.equal(error, 'no such size', 'an ordinary error is not fatal');
    assert.equal(fatal, 'panicked at src/exec/gpu.rs:1: index out of bounds');
  });
}

test('an exception that nothing catches is the end of the engine too, and no result is an ordinary error', async () => {
  const { ask, heard, listeners, done } = await worker();
  const { error } = await ask('mask');
  listeners.error({ error: new RangeError('out of memory') });
  done();
  assert.equal(error, 'no image has been segmented yet');
  assert.deepEqual(heard.at(-1), { fatal: 'out of memory' });
});
