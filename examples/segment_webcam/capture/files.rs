//! Pictures as a source: one again and again, the frames of a GIF, or a folder's pictures in turn.

use super::Source;
use atrous::image::{DecodeOptions, cover};
use atrous::live::Live;
use atrous::{Error, ErrorKind, Result};
use image::AnimationDecoder;
use image::codecs::gif::GifDecoder;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// More pictures than these are read anew each time they come round.
const KEPT: usize = 300;

const ENDINGS: [&str; 9] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm"];

pub struct Pictures {
    files: Vec<PathBuf>,
    /// Of each picture the pixels, where they are kept.
    ready: Vec<Option<Vec<u32>>>,
    size: (usize, usize),
    at: usize,
    name: String,
}

impl Pictures {
    /// Opens a file or a folder. All are made as large as the first, which is made to fit into `most`.
    pub fn open(path: &Path, most: (usize, usize)) -> Result<Self> {
        let name = path.display().to_string();
        let is_gif = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gif"));
        if is_gif && path.is_file() {
            return Self::animation(path, most, name);
        }
        let files = if path.is_dir() { listed(path)? } else { vec![path.to_owned()] };
        let first = files.first().ok_or_else(|| Error::new(ErrorKind::Data, "holds no pictures").file(path))?;
        let picture = DecodeOptions { first_frame: true, ..DecodeOptions::default() }.decode(first)?;
        let size = fit((picture.width, picture.height), most);
        Ok(Self { ready: vec![None; files.len()], files, size, at: 0, name })
    }

    fn animation(path: &Path, most: (usize, usize), name: String) -> Result<Self> {
        let damaged = |e: image::ImageError| Error::new(ErrorKind::Picture, "is no readable GIF").source(e).file(path);
        let file = File::open(path).map_err(|e| Error::io(path, "could not be opened", e))?;
        let frames = GifDecoder::new(BufReader::new(file)).map_err(damaged)?.into_frames();
        let (mut ready, mut size) = (Vec::new(), None);
        for frame in frames {
            let picture = image::DynamicImage::from(frame.map_err(damaged)?.into_buffer()).into_rgb8();
            let own = (picture.width() as usize, picture.height() as usize);
            let size = *size.get_or_insert_with(|| fit(own, most));
            ready.push(Some(Live::packed(&cover(picture.as_raw(), own, size)?)));
        }
        let size = size.ok_or_else(|| Error::new(ErrorKind::Picture, "has no frame").file(path))?;
        Ok(Self { files: vec![path.to_owned(); ready.len()], ready, size, at: 0, name })
    }
}

/// The size that a picture gets: its own, or the largest of its shape that fits.
fn fit((w, h): (usize, usize), most: (usize, usize)) -> (usize, usize) {
    let scale = (most.0 as f64 / w as f64).min(most.1 as f64 / h as f64).min(1.0);
    let side = |n: usize| ((n as f64 * scale).round() as usize).max(1);
    (side(w), side(h))
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io(folder, "could not be listed", e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if ending.is_some_and(|e| ENDINGS.contains(&e.as_str())) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

impl Source for Pictures {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn next(&mut self) -> Result<Option<Vec<u32>>> {
        let at = self.at;
        self.at = (at + 1) % self.files.len();
        if let Some(pixels) = &self.ready[at] {
            return Ok(Some(pixels.clone()));
        }
        let picture = DecodeOptions { first_frame: true, ..DecodeOptions::default() }.decode(&self.files[at])?;
        let pixels = Live::packed(&cover(&picture.rgb, (picture.width, picture.height), self.size)?);
        if self.files.len() <= KEPT {
            self.ready[at] = Some(pixels.clone());
        }
        Ok(Some(pixels))
    }

    fn name(&self) -> String {
        self.name.clone()
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
}
