//! Cameras on Linux: V4L2 through the crate `linuxvideo`.

use super::{Source, convert};
use atrous::Size;
use atrous::{Error, ErrorKind, Result};
use linuxvideo::format::{PixFormat, PixelFormat};
use linuxvideo::stream::ReadStream;
use linuxvideo::{BufType, CapabilityFlags, Device};
use std::io;
use std::path::{Path, PathBuf};

/// Two 8-bit planes: luma, then chroma at half the size.
const NV12: PixelFormat = PixelFormat::from_fourcc(*b"NV12");

/// Supported formats. Uncompressed ones come first: they need no decoding and are lossless.
const FORMATS: [PixelFormat; 4] = [PixelFormat::YUYV, NV12, PixelFormat::MJPG, PixelFormat::JPEG];

/// Larger frames are requested as JPEG, because USB 2 cannot transfer them uncompressed at full
/// frame rate.
const LARGE: usize = 640 * 480;

/// Maximum number of consecutive corrupt frames before a camera is considered broken.
const MAX_CORRUPT: usize = 30;

fn cameras() -> Result<Vec<(PathBuf, String)>> {
    let failed = |e| Error::new(ErrorKind::Io, "could not list the devices").source(e);
    let mut cameras = Vec::new();
    for device in linuxvideo::list().map_err(failed)? {
        // Devices without permission are reported when they are opened by index.
        let Ok(device) = device else { continue };
        let Ok(capabilities) = device.capabilities() else { continue };
        if capabilities.device_capabilities().contains(CapabilityFlags::VIDEO_CAPTURE) {
            cameras.push((device.path().map_err(failed)?, capabilities.card().to_owned()));
        }
    }
    cameras.sort();
    Ok(cameras)
}

/// Lists the cameras for display.
pub fn list() -> Result<Vec<String>> {
    Ok(cameras()?.into_iter().map(|(path, card)| format!("{card} ({})", path.display())).collect())
}

/// Explains a system error on a camera.
fn explain(path: &Path, e: io::Error) -> Error {
    // errno values of Linux, the same on all architectures.
    let (text, advice) = match e.raw_os_error() {
        Some(16) => {
            ("in use by another program", "close it, or use another camera (--list-cameras)")
        }
        Some(13) => ("permission denied", "on most systems the user must be in the group `video`"),
        Some(19 | 5) => ("disconnected", "plug it in and restart"),
        Some(2) => ("not found", "--list-cameras lists the cameras"),
        _ => ("failed", "--list-cameras lists the cameras"),
    };
    Error::new(ErrorKind::Io, text)
        .source(e)
        .at(format!("camera {}", path.display()))
        .advice(advice)
}

pub fn open(index: usize, Size { width: w, height: h }: Size) -> Result<Box<dyn Source>> {
    let all = cameras()?;
    let Some((path, card)) = all.get(index).cloned() else {
        let error = super::no_camera(index, all.len());
        // A device without permission is not in the list.
        let denied = Path::new("/dev/video0").exists() && all.is_empty();
        return Err(if denied {
            error.advice("check the permissions of /dev/video0")
        } else {
            error
        });
    };
    let failed = |e| explain(&path, e);
    let device = Device::open(&path).map_err(failed)?;
    let supported: Vec<PixelFormat> = device
        .formats(BufType::VIDEO_CAPTURE)
        .map(|f| Ok(f?.pixel_format()))
        .collect::<io::Result<_>>()
        .map_err(failed)?;
    let mut preferred = FORMATS.to_vec();
    if w * h > LARGE {
        preferred.rotate_left(2);
    }
    let format = preferred.into_iter().find(|f| supported.contains(f)).ok_or_else(|| {
        let text = format!("supports none of YUYV, NV12 and MJPEG, only {supported:?}");
        Error::new(ErrorKind::Data, text).at(format!("camera {}", path.display()))
    })?;
    let capture =
        device.video_capture(PixFormat::new(w as u32, h as u32, format)).map_err(failed)?;
    let negotiated = capture.format();
    let (format, stride) = (negotiated.pixel_format(), negotiated.bytes_per_line() as usize);
    let size = Size::new(negotiated.width() as usize, negotiated.height() as usize);
    if !FORMATS.contains(&format) {
        return Err(Error::new(
            ErrorKind::Data,
            format!("only sends the unsupported format {format:?}"),
        )
        .at(format!("camera {}", path.display())));
    }
    let stream = capture.into_stream().map_err(failed)?;
    Ok(Box::new(Camera { stream, path, card, format, size, stride }))
}

struct Camera {
    stream: ReadStream,
    path: PathBuf,
    card: String,
    format: PixelFormat,
    size: Size,
    stride: usize,
}

impl Camera {
    fn convert(&self, bytes: &[u8]) -> Result<Vec<u32>> {
        // Drivers may report a stride of 0 if rows are contiguous.
        let stride = |min: usize| self.stride.max(min);
        match self.format {
            PixelFormat::YUYV => convert::yuyv(bytes, self.size, stride(2 * self.size.width)),
            NV12 => convert::nv12(bytes, self.size, stride(self.size.width)),
            _ => match convert::jpeg(bytes)? {
                (size, pixels) if size == self.size => Ok(pixels),
                (size, _) => Err(Error::new(
                    ErrorKind::Data,
                    format!("the camera sent an image of unexpected size {size}"),
                )),
            },
        }
    }
}

impl Source for Camera {
    fn size(&self) -> Size {
        self.size
    }

    fn next(&mut self) -> Result<Option<Vec<u32>>> {
        let mut last = None;
        // Some cameras truncate the first frames of a stream.
        for _ in 0..MAX_CORRUPT {
            let bytes = self
                .stream
                .dequeue(|view| Ok(if view.is_error() { Vec::new() } else { view.to_vec() }));
            let bytes = bytes.map_err(|e| explain(&self.path, e))?;
            match self.convert(&bytes) {
                Ok(pixels) => return Ok(Some(pixels)),
                Err(e) => last = Some(e),
            }
        }
        Err(last
            .expect("invariant: at least one frame failed")
            .at(format!("camera {}", self.path.display())))
    }

    fn is_live(&self) -> bool {
        true
    }

    fn name(&self) -> String {
        self.card.clone()
    }
}
