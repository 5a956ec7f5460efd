// The webcam: frames one at a time, as fast as they are asked for.

const video = document.getElementById('video');
let stream;

const REASONS = {
  NotAllowedError: 'the browser was not allowed to use it; the padlock beside the address changes that',
  NotFoundError: 'there is none',
  NotReadableError: 'another program uses it',
};

// Opens the camera. `ended` is called when it is pulled out.
export async function open(ended) {
  if (!navigator.mediaDevices) throw new Error('Webcam: pages get none over plain http; use https or localhost');
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment', width: { ideal: 640 } } });
  } catch (error) {
    throw new Error(`Webcam: ${REASONS[error.name] ?? error.message}`);
  }
  for (const track of stream.getTracks()) track.onended = ended;
  video.srcObject = stream;
  await video.play();
}

export function close() {
  for (const track of stream?.getTracks() ?? []) {
    track.onended = null;
    track.stop();
  }
  video.srcObject = null;
  stream = undefined;
}

// The next new frame: the video element with its size.
export function frame() {
  return new Promise(resolve => {
    const done = () => resolve({ source: video, width: video.videoWidth, height: video.videoHeight });
    video.requestVideoFrameCallback ? video.requestVideoFrameCallback(done) : requestAnimationFrame(done);
  });
}
