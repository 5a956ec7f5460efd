// The page: what happens when something is pressed, dropped or pasted.

import * as camera from './camera.js';
import * as engine from './engine.js';
import * as view from './view.js';

// The network that comes with the page, where scripts/web found one.
const SHIPPED = './pkg/network.safetensors';

const $ = id => document.getElementById(id);

// What the page knows. `image`: { source, width, height, name } of a still image.
// `seen`: the sizes that the network has its shaders for.
const state = { ready: false, loaded: false, image: undefined, live: false, frames: 0, hidden: new Set(), seen: new Set() };

function say(text, alert = false) {
  $('status').textContent = text;
  $('status').classList.toggle('alert', alert);
}

const opacity = () => $('opacity').value / 100;

// ---------------------------------------------------------------- network

async function useNetwork(blob, name) {
  say(`Reading ${name}…`);
  describe(await engine.load(blob, name), name);
  say('Ready: choose an image.');
  if (state.image && !state.live) await still();
}

function describe(network, name) {
  state.loaded = true;
  // As the command line has it: what is no thing keeps its own colors.
  state.hidden = new Set(network.background === null ? [] : [network.background]);
  state.seen.clear();
  const millions = (network.parameters / 1e6).toFixed(1);
  $('network').textContent = `${name}: ${network.classes.length} classes, ${millions} M parameters, ${network.dialect}`;
  $('camera').disabled = false;
}

async function shippedNetwork() {
  const answer = await fetch(SHIPPED);
  if (!answer.ok) return say('Choose a network: a .safetensors or .pth file of any DeepLab.');
  await useNetwork(await answer.blob(), 'the network that ships');
}

// ---------------------------------------------------------------- one image

async function segment({ source, width, height }) {
  const pixels = view.take(source, width, height);
  const found = await engine.segment(pixels, $('size').value);
  await paint();
  legend(found.legend);
  const [w, h] = found.networkSize;
  const first = state.seen.has(`${w}x${h}`) ? '' : '; its shaders were made, the next one is faster';
  state.seen.add(`${w}x${h}`);
  $('time').textContent = `${found.milliseconds.toFixed(0)} ms, seen at ${w}x${h}${first}`;
  $('save-mask').disabled = $('save-overlay').disabled = false;
  return found;
}

async function paint() {
  view.cover(await engine.tint([...state.hidden]));
  view.draw(opacity());
}

async function still() {
  const { source, width, height, name } = state.image;
  view.take(source, width, height);
  view.cover();
  view.draw(0);
  $('drop').hidden = true;
  if (!state.loaded) return say('Choose a network: a .safetensors or .pth file of any DeepLab.');
  say(`Looking at ${name}…`);
  await segment(state.image);
  say(`${name}, ${width}x${height}.`);
}

async function useImage(file) {
  stop();
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none' });
  } catch {
    throw new Error(`${file.name || 'That'} is no image that this browser reads.`);
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
    say('The webcam is gone.', true);
  });
  state.live = true;
  state.frames = 0;
  $('camera').setAttribute('aria-pressed', true);
  $('drop').hidden = true;
  say('The first frame takes longest: shaders are made for its size.');
  let before = performance.now();
  let pace = 0;
  while (state.live) {
    const frame = await camera.frame();
    if (!state.live) break;
    await segment(frame);
    // It may have been switched off meanwhile.
    if (!state.live) break;
    state.frames += 1;
    const now = performance.now();
    // Of the frames just past, not of the first one.
    pace = state.frames < 3 ? 1000 / (now - before) : 0.8 * pace + 200 / (now - before);
    before = now;
    say(`Webcam, ${frame.width}x${frame.height}: frame ${state.frames}, ${pace.toFixed(1)} a second.`);
  }
}

function stop() {
  if (!state.live) return;
  state.live = false;
  camera.close();
  $('camera').setAttribute('aria-pressed', false);
  say('Webcam off.');
}

// ---------------------------------------------------------------- wiring

// Whatever goes wrong is told where people look.
const guarded = act => async (...args) => {
  try {
    await act(...args);
  } catch (error) {
    stop();
    say(error.message, true);
    if (error instanceof engine.Stopped) $('restart').hidden = false;
  }
};

const isWeights = file => /\.(safetensors|pth|pt)$/i.test(file.name);

const takeNow = guarded(async file => {
  if (!file) return;
  if (!state.ready) throw new Error('There is no WebGPU adapter to work with.');
  await (isWeights(file) ? useNetwork(file, file.name) : useImage(file));
});

// One file after the other, so that what is told is of the last one.
let taken = Promise.resolve();
const take = file => (taken = taken.then(() => takeNow(file)));

for (const id of ['image', 'weights']) {
  $(id).onchange = async () => {
    await take($(id).files[0]);
    // The same file can be chosen again.
    $(id).value = '';
  };
}

$('camera').onclick = guarded(async () => (state.live ? stop() : live()));
$('opacity').oninput = () => {
  $('percent').textContent = `${$('opacity').value} %`;
  if (!$('view').hidden) view.draw(opacity());
};
$('size').onchange = guarded(async () => {
  if (state.image && !state.live) await still();
});
$('save-mask').onclick = guarded(async () => view.save(new Blob([await engine.mask()], { type: 'image/png' }), 'mask.png'));
$('save-overlay').onclick = guarded(async () => view.save(await view.overlay(), 'overlay.png'));

// With another worker and the same network. What was segmented is gone with the old one, and is not segmented again by itself: it may be what
// stopped the engine.
$('restart').onclick = async () => {
  $('restart').disabled = true;
  say('Restarting…');
  try {
    const { adapter, name, network } = await engine.restart();
    started(adapter);
    $('legend').replaceChildren();
    $('save-mask').disabled = $('save-overlay').disabled = true;
    $('restart').hidden = true;
    if (network) describe(network, name);
    say(network ? 'Restarted: choose an image.' : 'Restarted: choose a network.');
  } catch {
    // Whatever is wrong is not wrong with this page's state alone.
    location.reload();
  } finally {
    $('restart').disabled = false;
  }
};

addEventListener('paste', event => take([...event.clipboardData.files][0]));
addEventListener('dragover', event => {
  event.preventDefault();
  $('stage').classList.add('over');
});
addEventListener('dragleave', () => $('stage').classList.remove('over'));
addEventListener('drop', event => {
  event.preventDefault();
  $('stage').classList.remove('over');
  take(event.dataTransfer.files[0]);
});

function started(adapter) {
  $('adapter').textContent = adapter.name || 'the browser does not tell its name';
  state.ready = true;
}

guarded(async () => {
  if (!navigator.gpu) {
    const plain = globalThis.isSecureContext ? '' : ' It is off for pages over plain http: use https or localhost.';
    throw new Error(`This browser has no WebGPU.${plain} Newer ones have it; in some it must be turned on in the settings.`);
  }
  started(await engine.start());
  await shippedNetwork();
})();
