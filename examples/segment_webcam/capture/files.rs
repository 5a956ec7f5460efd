//! Files as a source, repeated endlessly: an image, the images of a directory, or a video.

use super::Source;
use atrous::Size;
use atrous::image::{DecodeOptions, Image, cover};
use atrous::live::Live;
use atrous::video::{self, VideoKind};
use atrous::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Directories with more images are not cached; the images are decoded each time.
const MAX_CACHED: usize = 300;

const EXTENSIONS: [&str; 10] =
    ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm", "qoi"];

/// Opens a file, a directory, or a pattern of names. Frames are scaled to fit into `max_size`.
pub fn open(path: &Path, max_size: Size) -> Result<Box<dyn Source>> {
    match video::kind(path) {
        VideoKind::Still => Ok(Box::new(Images::open(vec![path.to_owned()], path, max_size)?)),
        VideoKind::Sequence if path.is_dir() => {
            Ok(Box::new(Images::open(list(path)?, path, max_size)?))
        }
        _ => Ok(Box::new(Video::open(path, max_size)?)),
    }
}

/// Returns the frame size of an image: its own, or the largest that fits with the same aspect
/// ratio.
fn fit(size: Size, max_size: Size) -> Size {
    let scale = |side: usize, max: usize| max as f64 / side as f64;
    let scale = scale(size.width, max_size.width).min(scale(size.height, max_size.height)).min(1.0);
    size.map(|side| ((side as f64 * scale).round() as usize).max(1))
}

fn pixels(image: &Image, size: Size) -> Result<Vec<u32>> {
    Live::pack(&cover(&image.rgb, image.size(), size)?)
}

fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io(directory, "could not be listed", e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str())) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Images of any size, all scaled to the size of the first.
struct Images {
    files: Vec<PathBuf>,
    /// Cached pixels of each image.
    cache: Vec<Option<Vec<u32>>>,
    size: Size,
    at: usize,
    name: String,
}

fn decode(path: &Path) -> Result<Image> {
    DecodeOptions { first_frame: true, ..DecodeOptions::default() }.decode(path)
}

impl Images {
    fn open(files: Vec<PathBuf>, path: &Path, max_size: Size) -> Result<Self> {
        let first = files
            .first()
            .ok_or_else(|| Error::new(ErrorKind::Data, "no images in the directory").file(path))?;
        let image = decode(first)?;
        let size = fit(image.size(), max_size);
        Ok(Self {
            cache: vec![None; files.len()],
            files,
            size,
            at: 0,
            name: path.display().to_string(),
        })
    }
}

impl Source for Images {
    fn size(&self) -> Size {
        self.size
    }

    fn next(&mut self) -> Result<Option<Vec<u32>>> {
        let at = self.at;
        self.at = (at + 1) % self.files.len();
        if let Some(pixels) = &self.cache[at] {
            return Ok(Some(pixels.clone()));
        }
        let pixels = pixels(&decode(&self.files[at])?, self.size)?;
        if self.files.len() <= MAX_CACHED {
            self.cache[at] = Some(pixels.clone());
        }
        Ok(Some(pixels))
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// A video that restarts when it ends.
struct Video {
    path: PathBuf,
    frames: Box<dyn video::FrameSource>,
    size: Size,
    /// Whether a frame was read since the last start. Otherwise an empty video would restart
    /// forever.
    has_frames: bool,
}

impl Video {
    fn open(path: &Path, max_size: Size) -> Result<Self> {
        let frames = video::open(path, &video::VideoOptions::default())?;
        let size = fit(frames.info().size(), max_size);
        Ok(Self { path: path.to_owned(), frames, size, has_frames: false })
    }
}

impl Source for Video {
    fn size(&self) -> Size {
        self.size
    }

    fn next(&mut self) -> Result<Option<Vec<u32>>> {
        let mut next = self.frames.next();
        if next.is_none() && std::mem::take(&mut self.has_frames) {
            self.frames = video::open(&self.path, &video::VideoOptions::default())?;
            next = self.frames.next();
        }
        let Some(frame) = next.transpose()? else { return Ok(None) };
        self.has_frames = true;
        Ok(Some(pixels(&frame.image, self.size)?))
    }

    fn fps(&self) -> Option<f64> {
        Some(self.frames.info().frame_rate.fps())
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_their_shape_and_never_grow() {
        assert_eq!(fit(Size::new(4000, 3000), Size::new(640, 480)), Size::new(640, 480));
        assert_eq!(fit(Size::new(3000, 4000), Size::new(640, 480)), Size::new(360, 480));
        assert_eq!(fit(Size::new(100, 50), Size::new(640, 480)), Size::new(100, 50));
    }

    #[test]
    fn directories_and_videos_begin_again_when_they_end() {
        let directory = tempfile::tempdir().unwrap();
        let gray =
            |v: u8, side: usize| Image::new(Size::square(side), vec![v; 3 * side * side]).unwrap();
        for (name, value, side) in [("a.png", 10, 16), ("b.png", 20, 30)] {
            gray(value, side).save(directory.path().join(name)).unwrap();
        }
        let mut images = open(directory.path(), Size::new(640, 480)).unwrap();
        let values: Vec<u32> = (0..4).map(|_| images.next().unwrap().unwrap()[5] & 255).collect();
        assert_eq!((values, images.size()), (vec![10, 20, 10, 20], Size::square(16)));

        // Y4M: a plane of luma for each frame, gray.
        let video = directory.path().join("video.y4m");
        let mut bytes = b"YUV4MPEG2 W4 H4 F12:1 Cmono\n".to_vec();
        for luma in [50u8, 200] {
            bytes.extend(b"FRAME\n");
            bytes.extend([luma; 16]);
        }
        std::fs::write(&video, bytes).unwrap();
        let mut video = open(&video, Size::new(640, 480)).unwrap();
        let values: Vec<u32> = (0..5).map(|_| video.next().unwrap().unwrap()[3] & 255).collect();
        assert_eq!((video.size(), video.fps()), (Size::square(4), Some(12.0)));
        assert!(
            values[0] == values[2] && values[1] == values[3] && values[0] < values[1],
            "{values:?}"
        );
        assert!(open(Path::new("none.png"), Size::square(9)).is_err());
    }
}
