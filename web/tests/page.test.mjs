// Tests of the page in a real browser. Needs web/pkg (scripts/web builds it), Chromium, and
// playwright-core: `npm install && npm test` in this directory.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { OUT, ROOT, browser, film, nativeMask, nativePth, serve, weights } from './support.mjs';

const IMAGE = join(ROOT, 'docs/images/street.png');
const file = weights();
// Without a network the tests are skipped with a message.
const skip = file ? false : 'skipped: no data (no network ships, and ATROUS_DATA has none)';

let server;
before(async () => { server = await serve(); });
after(() => server.close());

// Opens the page and collects its errors.
async function open(chromium, options = {}, prepare = () => {}) {
  const page = await chromium.newPage(options);
  await page.addInitScript(prepare);
  page.errors = [];
  page.on('pageerror', e => page.errors.push(e.message));
  page.on('console', m => m.type() === 'error' && !/404/.test(m.text()) && page.errors.push(m.text()));
  page.external = [];
  page.on('request', r => !/^(blob|data):/.test(r.url()) && !r.url().startsWith(server.url) && page.external.push(r.url()));
  await page.goto(server.url);
  return page;
}

// Waits for a text in the status line. Uses a locator, because the page's content security policy
// blocks injected functions.
async function status(page, text, timeout = 240_000) {
  try {
    await page.locator('#status').filter({ hasText: text }).waitFor({ timeout });
  } catch (error) {
    throw new Error(`the status stayed "${await page.textContent('#status')}"; ${page.errors.join('; ')}; ${error.message}`);
  }
}

async function withNetwork(page) {
  await status(page, /Choose a model|Ready/, 60_000);
  await page.setInputFiles('#weights', file);
  await status(page, 'Ready');
}

async function saved(page, button) {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click(button)]);
  const path = join(OUT, download.suggestedFilename());
  await download.saveAs(path);
  return path;
}

test('an image has the labels of the native program, and nothing leaves the machine', { skip, timeout: 600_000 }, async () => {
  const chromium = await browser();
  try {
    const page = await open(chromium, { viewport: { width: 1280, height: 800 } });
    await withNetwork(page);
    await page.setInputFiles('#image', IMAGE);
    await status(page, 'street.png, ');
    await page.screenshot({ path: join(OUT, 'desk.png') });
    const masks = [await saved(page, '#save-mask'), nativeMask(file, IMAGE)].map(path => readFileSync(path).toString('base64'));
    // Each class has a unique color, so equal colors mean equal labels.
    const equal = await page.evaluate(async masks => {
      const pixels = async mask => {
        const bytes = Uint8Array.from(atob(mask), c => c.charCodeAt(0));
        const bitmap = await createImageBitmap(new Blob([bytes], { type: 'image/png' }), { colorSpaceConversion: 'none' });
        const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
        canvas.getContext('2d').drawImage(bitmap, 0, 0);
        return new Uint32Array(canvas.getContext('2d').getImageData(0, 0, bitmap.width, bitmap.height).data.buffer);
      };
      const [ours, native] = await Promise.all(masks.map(pixels));
      if (ours.length !== native.length) return 0;
      return ours.reduce((n, p, i) => n + (p === native[i]), 0) / ours.length;
    }, masks);
    console.log(`equal labels: ${(100 * equal).toFixed(4)} %`);
    assert.ok(equal >= 0.999, `${equal} of the labels are equal`);

    // Hide and show a class and change the overlay's opacity with the keyboard only.
    const first = page.locator('#legend button').first();
    const before = await first.getAttribute('aria-pressed');
    await first.focus();
    await page.keyboard.press('Space');
    await page.locator(`#legend button[aria-pressed=${before === 'true' ? 'false' : 'true'}]`).first().waitFor();
    await page.focus('#opacity');
    await page.keyboard.press('End');
    assert.equal(await page.textContent('#percent'), '100 %');
    await saved(page, '#save-overlay');

    assert.deepEqual(page.external, [], 'every request goes to the page\'s own server');
    assert.deepEqual(page.errors, []);
  } finally {
    await chromium.close();
  }
});

test('a dropped image, and one that is none, on a phone in the dark', { skip, timeout: 600_000 }, async () => {
  const chromium = await browser();
  try {
    const page = await open(chromium, { viewport: { width: 390, height: 844 }, colorScheme: 'dark' });
    await withNetwork(page);
    await page.selectOption('#size', '257');
    const drop = (bytes, name, type) => page.evaluate(([bytes, name, type]) => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], name, { type }));
      document.getElementById('stage').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
    }, [bytes, name, type]);
    await drop(readFileSync(IMAGE).toString('base64'), 'street.png', 'image/png');
    await status(page, 'street.png, ');
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 390, `nothing sticks out to the right: ${wide}`);
    await page.screenshot({ path: join(OUT, 'phone.png'), fullPage: true });
    // The same image from the clipboard, without a file name.
    await page.evaluate(bytes => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], '', { type: 'image/png' }));
      document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }));
    }, readFileSync(IMAGE).toString('base64'));
    await status(page, 'the pasted image, ');
    // And with the network in PyTorch's format.
    const shares = await page.textContent('#legend');
    await page.setInputFiles('#weights', nativePth(file));
    await page.locator('#network').filter({ hasText: 'network.pth' }).waitFor({ timeout: 60_000 });
    await status(page, 'the pasted image, ');
    assert.equal(await page.textContent('#legend'), shares, 'the same network');
    await drop(Buffer.from('no image').toString('base64'), 'notes.txt', 'text/plain');
    await status(page, 'This browser cannot read notes.txt as an image');
    await drop(Buffer.from('no weights').toString('base64'), 'a.safetensors', '');
    await status(page, 'a.safetensors: ');
    assert.deepEqual(page.errors, []);
  } finally {
    await chromium.close();
  }
});

test('ten frames of a webcam', { skip, timeout: 600_000 }, async () => {
  const chromium = await browser({ camera: film() });
  try {
    const page = await open(chromium, { viewport: { width: 1280, height: 800 } });
    await withNetwork(page);
    await page.selectOption('#size', 'native');
    await page.click('#camera');
    await status(page, /frame \d{2}/, 400_000);
    await page.screenshot({ path: join(OUT, 'webcam.png') });
    console.log(await page.textContent('#status'));
    await page.click('#camera');
    await status(page, 'Webcam off');
    assert.deepEqual(page.errors, []);
  } finally {
    await chromium.close();
  }
});

test('an engine that stopped says so at once, and is restarted with its network', { skip, timeout: 600_000 }, async () => {
  const chromium = await browser();
  try {
    const page = await open(chromium);
    await withNetwork(page);
    await page.selectOption('#size', '257');
    // Like a panic: an exception that the worker does not catch.
    await page.workers()[0].evaluate(() => { setTimeout(() => { throw new WebAssembly.RuntimeError('unreachable'); }); });
    await page.setInputFiles('#image', IMAGE);
    await status(page, 'the engine stopped: ', 30_000);
    await page.click('#restart');
    await status(page, 'Restarted. Choose an image', 60_000);
    assert.ok(await page.locator('#restart').isHidden());
    await page.setInputFiles('#image', IMAGE);
    await status(page, 'street.png, ');
  } finally {
    await chromium.close();
  }
});

test('a browser without WebGPU is told so, and one without an adapter', { timeout: 120_000 }, async () => {
  const chromium = await browser({ webgpu: false });
  try {
    for (const [prepare, words] of [
      [() => { delete Navigator.prototype.gpu; }, 'This browser does not support WebGPU'],
      [() => {}, 'the browser gives no WebGPU adapter'],
    ]) {
      const page = await open(chromium, {}, prepare);
      await status(page, words, 30_000);
      assert.ok(await page.locator('#status.alert').count(), 'as an alert');
      assert.ok(await page.isDisabled('#camera'));
    }
  } finally {
    await chromium.close();
  }
});
