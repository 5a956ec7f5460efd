// The page: handlers for buttons, dropped and pasted files.

import * as camera from './camera.js';
import * as engine from './engine.js';
import * as view from './view.js';

// The network bundled with the page, if scripts/web found one.
const SHIPPED = './pkg/network.safetensors';

const $ = id => document.getElementById(id);

// The page's state. `image`: { source, width, height, name } of a still image. `prepared`: input
// sizes for which the network's shaders are compiled. `model`: { blob, name, configs }.
const state = { ready: false, loaded: false, image: undefined, model: undefined, live: false, frames: 0, hidden: new Set(), prepared: new Set() };

function showStatus(text, alert = false) {
  $('status').textContent = text;
  $('status').classList.toggle('alert', alert);
}

const opacity = () => $('opacity').value / 100;

// ---------------------------------------------------------------- network

// What a model file cannot state: the ids of the fields, which are the names that src/web takes.
const STATED =
  ['trained_stride', 'rates', 'multi_grid', 'align_corners', 'padding', 'preprocess', 'activation'];

// The files that are chosen together with a model, and what src/web calls them.
const CONFIGS = { 'config.json': 'config', 'preprocessor_config.json': 'preprocessor' };

async function configsOf(files) {
  const configs = {};
  for (const file of files.filter(file => file.name in CONFIGS)) {
    if (file.size > 1 << 20) throw new Error(`${file.name} is larger than 1 MiB.`);
    configs[CONFIGS[file.name]] = await file.text();
  }
  return configs;
}

// Loads a network. `configs`: the texts of the files chosen with it.
async function useNetwork(blob, name, configs = {}) {
  showStatus(`Reading ${name}…`);
  const options = Object.fromEntries(STATED.map(id => [id, $(id).value.trim()]).filter(([, text]) => text));
  // Also if it fails, so that a corrected field tries again.
  state.model = { blob, name, configs };
  describe(await engine.load(blob, name, { ...configs, options }), name);
  showStatus('Ready. Choose an image.');
  if (state.image && !state.live) await still();
}

function describe(network, name) {
  state.loaded = true;
  // As on the command line, the background is not tinted.
  state.hidden = new Set(network.background === null ? [] : [network.background]);
  state.prepared.clear();
  const millions = (network.parameters / 1e6).toFixed(1);
  $('network').textContent = `${name}: ${network.classes.length} classes, ${millions} M parameters, ${network.dialect}`;
  $('notes').textContent = network.notes.join('; ') || '–';
  showThreshold(network.threshold);
  $('camera').disabled = false;
}

// The threshold of sigmoid outputs; `null` for a softmax, which has none.
function showThreshold(probability) {
  $('threshold-field').hidden = probability === null;
  if (probability === null) return;
  $('threshold').value = probability;
  $('threshold-value').textContent = Number(probability).toFixed(2);
}

async function shippedNetwork() {
  const answer = await fetch(SHIPPED);
  if (!answer.ok) return showStatus('Choose a model: a .safetensors or .pth file of a DeepLab network.');
  await useNetwork(await answer.blob(), 'the bundled model');
}

// ---------------------------------------------------------------- one image

async function segment({ source, width, height }) {
  const pixels = view.setImage(source, width, height);
  const result = await engine.segment(pixels, $('size').value);
  await paint();
  legend(result.legend);
  const [w, h] = result.networkSize;
  const first = state.prepared.has(`${w}x${h}`) ? '' : ' (including shader compilation; the next image is faster)';
  state.prepared.add(`${w}x${h}`);
  $('time').textContent = `${result.milliseconds.toFixed(0)} ms at ${w}x${h}${first}`;
  $('save-mask').disabled = $('save-overlay').disabled = false;
  return result;
}

async function paint() {
  view.setTint(await engine.tint([...state.hidden]));
  view.draw(opacity());
}

async function still() {
  const { source, width, height, name } = state.image;
  view.setImage(source, width, height);
  view.setTint();
  view.draw(0);
  $('drop').hidden = true;
  if (!state.loaded) return showStatus('Choose a model: a .safetensors or .pth file of a DeepLab network.');
  showStatus(`Segmenting ${name}…`);
  await segment(state.image);
  showStatus(`${name}, ${width}x${height}`);
}

async function useImage(file) {
  stop();
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none' });
  } catch {
    throw new Error(`This browser cannot read ${file.name || 'the pasted data'} as an image.`);
  }
  state.image = { source: bitmap, width: bitmap.width, height: bitmap.height, name: file.name || 'the pasted image' };
  await still();
}

function legend(entries) {
  const text = entries.map(e => `${e.name} ${(100 * e.share).toFixed(1)} %`);
  view.describe(`Image with ${text.join(', ')}`);
  $('legend').replaceChildren(...entries.map((entry, i) => {
    const part = (kind, content) => Object.assign(document.createElement('span'), { className: kind, textContent: content });
    const button = Object.assign(document.createElement('button'), { type: 'button', title: 'Show or hide this class' });
    button.setAttribute('aria-pressed', !state.hidden.has(entry.class));
    const swatch = part('swatch', '');
    swatch.style.background = `rgb(${entry.color})`;
    button.append(swatch, part('name', entry.name), part('share', text[i].slice(entry.name.length + 1)));
    button.onclick = guarded(async () => {
      state.hidden.delete(entry.class) || state.hidden.add(entry.class);
      button.setAttribute('aria-pressed', !state.hidden.has(entry.class));
      await paint();
    });
    const item = document.createElement('li');
    item.append(button);
    return item;
  }));
}

// ---------------------------------------------------------------- webcam

async function live() {
  await camera.open(() => {
    stop();
    showStatus('The webcam was disconnected.', true);
  });
  state.live = true;
  state.frames = 0;
  $('camera').setAttribute('aria-pressed', true);
  $('drop').hidden = true;
  showStatus('Compiling shaders for the first frame…');
  let before = performance.now();
  let fps = 0;
  while (state.live) {
    const frame = await camera.frame();
    if (!state.live) break;
    await segment(frame);
    // The webcam may have been switched off meanwhile.
    if (!state.live) break;
    state.frames += 1;
    const now = performance.now();
    // A moving average without the first frame.
    fps = state.frames < 3 ? 1000 / (now - before) : 0.8 * fps + 200 / (now - before);
    before = now;
    showStatus(`Webcam, ${frame.width}x${frame.height}: frame ${state.frames}, ${fps.toFixed(1)} fps`);
  }
}

function stop() {
  if (!state.live) return;
  state.live = false;
  camera.close();
  $('camera').setAttribute('aria-pressed', false);
  showStatus('Webcam off');
}

// ---------------------------------------------------------------- wiring

// Wraps a handler so that errors appear in the status line.
const guarded = action => async (...args) => {
  try {
    await action(...args);
  } catch (error) {
    stop();
    showStatus(error.message, true);
    if (error instanceof engine.Stopped) $('restart').hidden = false;
  }
};

const isWeights = file => /\.(safetensors|pth|pt)$/i.test(file.name);

const openNow = guarded(async files => {
  if (!files.length) return;
  if (!state.ready) throw new Error('No WebGPU adapter is available.');
  const configs = await configsOf(files);
  const weights = files.find(isWeights);
  if (weights) return useNetwork(weights, weights.name, configs);
  if (Object.keys(configs).length) {
    if (!state.model) throw new Error('Choose a model together with its config.json.');
    return useNetwork(state.model.blob, state.model.name, { ...state.model.configs, ...configs });
  }
  await useImage(files[0]);
});

// Files are handled one after the other, so that the status is about the last one.
let pending = Promise.resolve();
const open = files => (pending = pending.then(() => openNow(files)));

for (const id of ['image', 'weights']) {
  $(id).onchange = async () => {
    await open([...$(id).files]);
    // So that the same file can be chosen again.
    $(id).value = '';
  };
}

for (const id of STATED) {
  $(id).onchange = guarded(async () => {
    if (state.model) await useNetwork(state.model.blob, state.model.name, state.model.configs);
  });
}

$('camera').onclick = guarded(async () => (state.live ? stop() : live()));
$('opacity').oninput = () => {
  $('percent').textContent = `${$('opacity').value} %`;
  if (!$('view').hidden) view.draw(opacity());
};
$('threshold').oninput = () => showThreshold($('threshold').value);
$('threshold').onchange = guarded(async () => {
  await engine.threshold(Number($('threshold').value));
  if (state.image && !state.live) await still();
});
$('size').onchange = guarded(async () => {
  if (state.image && !state.live) await still();
});
$('save-mask').onclick = guarded(async () => view.save(new Blob([await engine.mask()], { type: 'image/png' }), 'mask.png'));
$('save-overlay').onclick = guarded(async () => view.save(await view.overlay(), 'overlay.png'));

// Restarts with a new worker and the same network. The previous image is not segmented again
// automatically, because it may have crashed the engine.
$('restart').onclick = async () => {
  $('restart').disabled = true;
  showStatus('Restarting…');
  try {
    const { adapter, name, network } = await engine.restart();
    started(adapter);
    $('legend').replaceChildren();
    $('save-mask').disabled = $('save-overlay').disabled = true;
    $('restart').hidden = true;
    if (network) describe(network, name);
    showStatus(network ? 'Restarted. Choose an image.' : 'Restarted. Choose a model.');
  } catch {
    // The problem is not limited to this page's state.
    location.reload();
  } finally {
    $('restart').disabled = false;
  }
};

addEventListener('paste', event => open([...event.clipboardData.files]));
addEventListener('dragover', event => {
  event.preventDefault();
  $('stage').classList.add('over');
});
addEventListener('dragleave', () => $('stage').classList.remove('over'));
addEventListener('drop', event => {
  event.preventDefault();
  $('stage').classList.remove('over');
  open([...event.dataTransfer.files]);
});

function started(adapter) {
  $('adapter').textContent = adapter.name || 'name not reported by the browser';
  state.ready = true;
}

guarded(async () => {
  if (!navigator.gpu) {
    const insecure = globalThis.isSecureContext ? '' : ' WebGPU requires https or localhost.';
    throw new Error(`This browser does not support WebGPU.${insecure} Try a newer browser, or enable WebGPU in its settings.`);
  }
  started(await engine.start());
  await shippedNetwork();
})();
