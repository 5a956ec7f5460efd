// The webcam: delivers one frame per request.

const video = document.getElementById('video');
let stream;

const REASONS = {
  NotAllowedError: 'permission denied; allow access in the site settings next to the address bar',
  NotFoundError: 'no camera found',
  NotReadableError: 'in use by another program',
};

// Opens the camera. `ended` is called when it is disconnected.
export async function open(ended) {
  if (!navigator.mediaDevices) throw new Error('Webcam: requires https or localhost');
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

// Waits for the next frame. Returns the video element and its size.
export function frame() {
  return new Promise(resolve => {
    const done = () => resolve({ source: video, width: video.videoWidth, height: video.videoHeight });
    video.requestVideoFrameCallback ? video.requestVideoFrameCallback(done) : requestAnimationFrame(done);
  });
}
