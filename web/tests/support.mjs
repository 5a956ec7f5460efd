// A browser with WebGPU on the CPU, a static file server, a fake webcam, and the native program.

import { execFileSync } from 'node:child_process';
import { createReadStream, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const OUT = join(ROOT, 'target/web-tests');
mkdirSync(OUT, { recursive: true });

const TYPES = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.wasm': 'application/wasm' };

// Serves web/ on a free port, and records the requested paths.
export async function serve() {
  const requested = [];
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://x').pathname));
    requested.push(path);
    const file = join(ROOT, 'web', path === '/' ? 'index.html' : path);
    if (!existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' });
    createReadStream(file).pipe(response);
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}/`, requested, close: () => server.close() };
}

// WebGPU through SwiftShader: no GPU is needed or used, so that results are the same everywhere.
const WEBGPU = [
  '--enable-unsafe-webgpu',
  '--use-angle=swiftshader',
  '--use-vulkan=swiftshader',
  '--use-webgpu-adapter=swiftshader',
  '--enable-features=Vulkan',
  '--ignore-gpu-blocklist',
];

export function browser({ webgpu = true, camera } = {}) {
  const fake = camera
    ? ['--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', `--use-file-for-fake-video-capture=${camera}`]
    : [];
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-background-networking', '--disable-quic', '--no-first-run', '--disable-component-update',
      '--disable-sync', ...(webgpu ? WEBGPU : ['--disable-gpu', '--disable-features=WebGPU']), ...fake],
  });
}

// Writes the video of the fake webcam: a bright square moving over a dark background, `frames`
// frames of 160x120 in Y4M.
export function film(frames = 30) {
  const [w, h] = [160, 120];
  const parts = [Buffer.from(`YUV4MPEG2 W${w} H${h} F15:1 Ip A1:1 C420jpeg\n`)];
  for (let i = 0; i < frames; i++) {
    const y = Buffer.alloc(w * h, 40);
    for (let row = 30; row < 80; row++) y.fill(200, row * w + 3 * i, row * w + 3 * i + 40);
    parts.push(Buffer.from('FRAME\n'), y, Buffer.alloc((w * h) / 4, 100), Buffer.alloc((w * h) / 4, 150));
  }
  const path = join(OUT, 'film.y4m');
  writeFileSync(path, Buffer.concat(parts));
  return path;
}

// Returns a weight file for tests: the bundled one, otherwise one from the data directory.
export function weights() {
  const data = process.env.ATROUS_DATA ?? join(ROOT, '../shared');
  const shipped = join(ROOT, 'weights');
  const own = existsSync(shipped) ? readdirSync(shipped).filter(name => name.endsWith('.safetensors')) : [];
  return [...own.map(name => join(shipped, name)), join(data, 'weights/deeplabv3_mnv2_dm05_voc21.safetensors')].find(existsSync);
}

// Runs the native program.
function native(...arguments_) {
  if (process.env.ATROUS) execFileSync(process.env.ATROUS, arguments_);
  else execFileSync('cargo', ['run', '--quiet', '--', ...arguments_], { cwd: ROOT, stdio: 'inherit' });
}

// Returns the native program's mask of an image.
export function nativeMask(weights, image) {
  const out = join(OUT, 'native.png');
  native('segment', image, '--weights', weights, '--style', 'mask', '--device', 'cpu', '--quiet', '-o', out);
  return out;
}

// Converts a weight file to PyTorch's format.
export function nativePth(weights) {
  const out = join(OUT, 'network.pth');
  native('export', weights, out, '--dialect', 'atrous');
  return out;
}
