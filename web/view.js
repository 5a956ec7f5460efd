// The image with the class colors over it, and downloads of both.

// The background of transparent pixels, mid-gray as in the command line.
const BACKDROP = 'rgb(127, 127, 127)';

const view = document.getElementById('view');
const image = document.createElement('canvas');
const tint = document.createElement('canvas');
let tinted = false;

const context = canvas => canvas.getContext('2d', { willReadFrequently: canvas === image });

// Sets the image from an ImageBitmap or video frame, and returns its pixels.
export function setImage(source, width, height) {
  for (const canvas of [view, image, tint]) {
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  }
  const draw = context(image);
  draw.fillStyle = BACKDROP;
  draw.fillRect(0, 0, width, height);
  draw.drawImage(source, 0, 0, width, height);
  return draw.getImageData(0, 0, width, height);
}

// Sets the class colors, four bytes per pixel, or none before there is a result.
export function setTint(rgba) {
  tinted = rgba !== undefined;
  if (tinted) context(tint).putImageData(new ImageData(new Uint8ClampedArray(rgba), tint.width, tint.height), 0, 0);
}

export function draw(opacity) {
  view.hidden = false;
  const draw = context(view);
  draw.globalAlpha = 1;
  draw.drawImage(image, 0, 0);
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
