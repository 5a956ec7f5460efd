//! Cameras on macOS and Windows, through the crate `cameras`. Other systems are not supported.

use super::Source;
use atrous::Size;
use atrous::{Error, ErrorKind, Result};

#[cfg(any(target_os = "macos", windows))]
mod platform {
    use super::*;
    use cameras::{Camera, PixelFormat, Resolution, StreamConfig};
    use std::time::Duration;

    /// Timeout after which a camera counts as disconnected.
    const TIMEOUT: Duration = Duration::from_secs(5);

    fn failed(e: cameras::Error) -> Error {
        let advice = match e {
            cameras::Error::PermissionDenied => {
                "allow this program to use the camera in the system settings"
            }
            cameras::Error::DeviceInUse => {
                "close the program that uses it, or use another camera (--list-cameras)"
            }
            cameras::Error::Timeout | cameras::Error::StreamEnded => {
                "check that it is plugged in, and restart"
            }
            _ => "--list-cameras lists the cameras",
        };
        Error::new(ErrorKind::Io, format!("the camera failed: {e}")).advice(advice)
    }

    pub fn list() -> Result<Vec<String>> {
        Ok(cameras::devices().map_err(failed)?.into_iter().map(|d| d.name).collect())
    }

    pub fn open(index: usize, Size { width: w, height: h }: Size) -> Result<Box<dyn Source>> {
        let all = cameras::devices().map_err(failed)?;
        let device = all.get(index).ok_or_else(|| super::super::no_camera(index, all.len()))?;
        let resolution = Resolution { width: w as u32, height: h as u32 };
        let requested =
            StreamConfig { resolution, framerate: 30, pixel_format: PixelFormat::Bgra8 };
        let supported = cameras::probe(device).map_err(failed)?;
        let config = cameras::best_format(&supported, &requested).map_or(requested, |f| {
            StreamConfig { resolution: f.resolution, pixel_format: f.pixel_format, ..requested }
        });
        let camera = cameras::open(device, config).map_err(failed)?;
        let first = cameras::next_frame(&camera, TIMEOUT).map_err(failed)?;
        Ok(Box::new(Stream {
            camera,
            name: device.name.clone(),
            size: (first.width as usize, first.height as usize),
        }))
    }

    struct Stream {
        camera: Camera,
        name: String,
        size: Size,
    }

    impl Source for Stream {
        fn size(&self) -> Size {
            self.size
        }

        fn next(&mut self) -> Result<Option<Vec<u32>>> {
            let frame = cameras::next_frame(&self.camera, TIMEOUT).map_err(failed)?;
            if (frame.width as usize, frame.height as usize) != self.size {
                return Err(Error::new(
                    ErrorKind::Data,
                    "the camera changed the size of its frames",
                )
                .advice("restart the program"));
            }
            let bytes = cameras::to_rgba8(&frame).map_err(failed)?;
            Ok(Some(
                bytes
                    .chunks_exact(4)
                    .map(|p| u32::from_le_bytes([p[0], p[1], p[2], 255]))
                    .collect(),
            ))
        }

        fn is_live(&self) -> bool {
            true
        }

        fn name(&self) -> String {
            self.name.clone()
        }
    }
}

#[cfg(not(any(target_os = "macos", windows)))]
mod platform {
    use super::*;

    pub fn list() -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    pub fn open(_: usize, _: Size) -> Result<Box<dyn Source>> {
        Err(Error::new(ErrorKind::Usage, "cameras are not supported on this system")
            .advice("--source synthetic shows a generated scene"))
    }
}

pub use platform::{list, open};
