// The picture, the classes' colours over it, and files of both.

// What lies behind transparent pixels, as in the command line: mid-grey.
const BACKDROP = 'rgb(127, 127, 127)';

const view = document.getElementById('view');
const picture = document.createElement('canvas');
const tint = document.createElement('canvas');
let tinted = false;

const context = canvas => canvas.getContext('2d', { willReadFrequently: canvas === picture });

// Takes an ImageBitmap or a video's frame as the picture, and returns its pixels.
export function take(source, width, height) {
  for (const canvas of [view, picture, tint]) {
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  }
  const draw = context(picture);
  draw.fillStyle = BACKDROP;
  draw.fillRect(0, 0, width, height);
  draw.drawImage(source, 0, 0, width, height);
  return draw.getImageData(0, 0, width, height);
}

// Takes the classes' colours, four bytes a pixel; none while there is no result yet.
export function cover(rgba) {
  tinted = rgba !== undefined;
  if (tinted) context(tint).putImageData(new ImageData(new Uint8ClampedArray(rgba), tint.width, tint.height), 0, 0);
}

export function draw(opacity) {
  view.hidden = false;
  const draw = context(view);
  draw.globalAlpha = 1;
  draw.drawImage(picture, 0, 0);
  if (tinted) {
    draw.globalAlpha = opacity;
    draw.drawImage(tint, 0, 0);
  }
}

export const describe = text => view.setAttribute('aria-label', text);

export const overlay = () => new Promise(resolve => view.toBlob(resolve, 'image/png'));

export function save(blob, name) {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
