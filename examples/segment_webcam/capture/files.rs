//! Files as a source: an image again and again, a directory's images in turn, or a video from its
//! beginning each time it ends.

use super::Source;
use atrous::image::{DecodeOptions, Image, cover};
use atrous::live::Live;
use atrous::video::{self, VideoKind};
use atrous::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// More images than these are read anew each time they come round.
const KEPT: usize = 300;

const ENDINGS: [&str; 10] =
    ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm", "qoi"];

/// Opens a file, a directory, or a pattern of names. Frames are made to fit into `most`.
pub fn open(path: &Path, most: (usize, usize)) -> Result<Box<dyn Source>> {
    match video::kind(path) {
        VideoKind::Still => Ok(Box::new(Images::open(vec![path.to_owned()], path, most)?)),
        VideoKind::Sequence if path.is_dir() => {
            Ok(Box::new(Images::open(listed(path)?, path, most)?))
        }
        _ => Ok(Box::new(Video::open(path, most)?)),
    }
}

/// The size that an image gets: its own, or the largest of its shape that fits.
fn fit((w, h): (usize, usize), most: (usize, usize)) -> (usize, usize) {
    let scale = (most.0 as f64 / w as f64).min(most.1 as f64 / h as f64).min(1.0);
    let side = |n: usize| ((n as f64 * scale).round() as usize).max(1);
    (side(w), side(h))
}

fn pixels(image: &Image, size: (usize, usize)) -> Result<Vec<u32>> {
    Ok(Live::packed(&cover(&image.rgb, (image.width, image.height), size)?))
}

fn listed(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io(directory, "could not be listed", e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if ending.is_some_and(|e| ENDINGS.contains(&e.as_str())) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Images of any sizes; all are made as large as the first.
struct Images {
    files: Vec<PathBuf>,
    /// Of each image the pixels, where they are kept.
    ready: Vec<Option<Vec<u32>>>,
    size: (usize, usize),
    at: usize,
    name: String,
}

fn decode(path: &Path) -> Result<Image> {
    DecodeOptions { first_frame: true, ..DecodeOptions::default() }.decode(path)
}

impl Images {
    fn open(files: Vec<PathBuf>, path: &Path, most: (usize, usize)) -> Result<Self> {
        let first = files
            .first()
            .ok_or_else(|| Error::new(ErrorKind::Data, "holds no images").file(path))?;
        let image = decode(first)?;
        let size = fit((image.width, image.height), most);
        Ok(Self {
            ready: vec![None; files.len()],
            files,
            size,
            at: 0,
            name: path.display().to_string(),
        })
    }
}

impl Source for Images {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn next(&mut self) -> Result<Option<Vec<u32>>> {
        let at = self.at;
        self.at = (at + 1) % self.files.len();
        if let Some(pixels) = &self.ready[at] {
            return Ok(Some(pixels.clone()));
        }
        let pixels = pixels(&decode(&self.files[at])?, self.size)?;
        if self.files.len() <= KEPT {
            self.ready[at] = Some(pixels.clone());
        }
        Ok(Some(pixels))
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

/// A video that begins again when it ends.
struct Video {
    path: PathBuf,
    frames: Box<dyn video::FrameSource>,
    size: (usize, usize),
    /// Whether a frame came since the beginning: else it would begin again for ever.
    begun: bool,
}

impl Video {
    fn open(path: &Path, most: (usize, usize)) -> Result<Self> {
        let frames = video::open(path, &video::VideoOptions::default())?;
        let size = fit((frames.info().width, frames.info().height), most);
        Ok(Self { path: path.to_owned(), frames, size, begun: false })
    }
}

impl Source for Video {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn next(&mut self) -> Result<Option<Vec<u32>>> {
        let mut next = self.frames.next();
        if next.is_none() && std::mem::take(&mut self.begun) {
            self.frames = video::open(&self.path, &video::VideoOptions::default())?;
            next = self.frames.next();
        }
        let Some(frame) = next.transpose()? else { return Ok(None) };
        self.begun = true;
        Ok(Some(pixels(&frame.image, self.size)?))
    }

    fn rate(&self) -> Option<f64> {
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
        assert_eq!(fit((4000, 3000), (640, 480)), (640, 480));
        assert_eq!(fit((3000, 4000), (640, 480)), (360, 480));
        assert_eq!(fit((100, 50), (640, 480)), (100, 50));
    }

    #[test]
    fn directories_and_videos_begin_again_when_they_end() {
        let directory = tempfile::tempdir().unwrap();
        let gray = |v: u8, side: usize| Image::new(side, side, vec![v; 3 * side * side]).unwrap();
        for (name, value, side) in [("a.png", 10, 16), ("b.png", 20, 30)] {
            gray(value, side).save(directory.path().join(name)).unwrap();
        }
        let mut images = open(directory.path(), (640, 480)).unwrap();
        let values: Vec<u32> = (0..4).map(|_| images.next().unwrap().unwrap()[5] & 255).collect();
        assert_eq!((values, images.size()), (vec![10, 20, 10, 20], (16, 16)));

        // Y4M: a plane of luma for each frame, gray.
        let video = directory.path().join("video.y4m");
        let mut bytes = b"YUV4MPEG2 W4 H4 F12:1 Cmono\n".to_vec();
        for luma in [50u8, 200] {
            bytes.extend(b"FRAME\n");
            bytes.extend([luma; 16]);
        }
        std::fs::write(&video, bytes).unwrap();
        let mut video = open(&video, (640, 480)).unwrap();
        let values: Vec<u32> = (0..5).map(|_| video.next().unwrap().unwrap()[3] & 255).collect();
        assert_eq!((video.size(), video.rate()), ((4, 4), Some(12.0)));
        assert!(
            values[0] == values[2] && values[1] == values[3] && values[0] < values[1],
            "{values:?}"
        );
        assert!(open(Path::new("none.png"), (9, 9)).is_err());
    }
}
