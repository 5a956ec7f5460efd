//! Cameras of Linux: V4L2 through `linuxvideo`.

use super::{Source, convert};
use atrous::{Error, ErrorKind, Result};
use linuxvideo::format::{PixFormat, PixelFormat};
use linuxvideo::stream::ReadStream;
use linuxvideo::{BufType, CapabilityFlags, Device};
use std::io;
use std::path::{Path, PathBuf};

/// Two planes of 8 bits: luma, then chroma at half the size.
const NV12: PixelFormat = PixelFormat::from_fourcc(*b"NV12");

/// Uncompressed first: nothing is to be decoded, and nothing was lost.
const FORMATS: [PixelFormat; 4] = [PixelFormat::YUYV, NV12, PixelFormat::MJPG, PixelFormat::JPEG];

/// Frames larger than this are asked for as JPEG: uncompressed they do not come at full rate over
/// USB 2.
const LARGE: usize = 640 * 480;

/// Damaged JPEGs in a row after which a camera is given up.
const DAMAGED: usize = 30;

fn cameras() -> Result<Vec<(PathBuf, String)>> {
    let failed = |e| Error::new(ErrorKind::Io, "the devices could not be listed").source(e);
    let mut found = Vec::new();
    for device in linuxvideo::list().map_err(failed)? {
        // What may not be opened is told when it is asked for by its number.
        let Ok(device) = device else { continue };
        let Ok(capabilities) = device.capabilities() else { continue };
        if capabilities.device_capabilities().contains(CapabilityFlags::VIDEO_CAPTURE) {
            found.push((device.path().map_err(failed)?, capabilities.card().to_owned()));
        }
    }
    found.sort();
    Ok(found)
}

/// The cameras, for people.
pub fn list() -> Result<Vec<String>> {
    Ok(cameras()?.into_iter().map(|(path, card)| format!("{card} ({})", path.display())).collect())
}

/// What a refusal of the system means.
fn explain(path: &Path, e: io::Error) -> Error {
    // Numbers of Linux, the same on all its platforms.
    let (text, advice) = match e.raw_os_error() {
        Some(16) => {
            ("is used by another program", "close it, or take another camera (--list-cameras)")
        }
        Some(13) => ("may not be opened", "on most systems the user must be in the group `video`"),
        Some(19 | 5) => ("is gone: was it pulled out?", "plug it in and start again"),
        Some(2) => ("is not there", "--list-cameras lists what is"),
        _ => ("failed", "--list-cameras lists the cameras"),
    };
    Error::new(ErrorKind::Io, text)
        .source(e)
        .at(format!("camera {}", path.display()))
        .advice(advice)
}

pub fn open(index: usize, (w, h): (usize, usize)) -> Result<Box<dyn Source>> {
    let all = cameras()?;
    let Some((path, card)) = all.get(index).cloned() else {
        let error = super::no_camera(index, all.len());
        // A device that may not be opened does not show up in the list.
        let denied = Path::new("/dev/video0").exists() && all.is_empty();
        return Err(if denied {
            error.advice("there is /dev/video0: may you open it?")
        } else {
            error
        });
    };
    let failed = |e| explain(&path, e);
    let device = Device::open(&path).map_err(failed)?;
    let offered: Vec<PixelFormat> = device
        .formats(BufType::VIDEO_CAPTURE)
        .map(|f| Ok(f?.pixel_format()))
        .collect::<io::Result<_>>()
        .map_err(failed)?;
    let mut wanted = FORMATS.to_vec();
    if w * h > LARGE {
        wanted.rotate_left(2);
    }
    let format = wanted.into_iter().find(|f| offered.contains(f)).ok_or_else(|| {
        let text = format!("sends none of YUYV, NV12 and MJPEG, but {offered:?}");
        Error::new(ErrorKind::Data, text).at(format!("camera {}", path.display()))
    })?;
    let capture =
        device.video_capture(PixFormat::new(w as u32, h as u32, format)).map_err(failed)?;
    let agreed = capture.format();
    let (format, stride) = (agreed.pixel_format(), agreed.bytes_per_line() as usize);
    let size = (agreed.width() as usize, agreed.height() as usize);
    if !FORMATS.contains(&format) {
        return Err(Error::new(ErrorKind::Data, format!("insists on sending {format:?}"))
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
    size: (usize, usize),
    stride: usize,
}

impl Camera {
    fn convert(&self, bytes: &[u8]) -> Result<Vec<u32>> {
        // Drivers may leave the stride at 0 where rows have no gaps.
        let stride = |least: usize| self.stride.max(least);
        match self.format {
            PixelFormat::YUYV => convert::yuyv(bytes, self.size, stride(2 * self.size.0)),
            NV12 => convert::nv12(bytes, self.size, stride(self.size.0)),
            _ => match convert::jpeg(bytes)? {
                (size, pixels) if size == self.size => Ok(pixels),
                ((w, h), _) => Err(Error::new(
                    ErrorKind::Data,
                    format!("the camera sent an image of {w} x {h}"),
                )),
            },
        }
    }
}

impl Source for Camera {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn next(&mut self) -> Result<Option<Vec<u32>>> {
        let mut last = None;
        // The first images of a stream are cut short by some cameras.
        for _ in 0..DAMAGED {
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
            .expect("invariant: a frame was damaged")
            .at(format!("camera {}", self.path.display())))
    }

    fn is_live(&self) -> bool {
        true
    }

    fn name(&self) -> String {
        self.card.clone()
    }
}
