//! Frames as PNG files in a directory.

use super::VideoInfo;
use super::sink::{Content, FrameSink, check};
use crate::error::{Error, Result, error};
use crate::image::ClassTable;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Digits of a frame's number in its name, at least.
const DIGITS: usize = 6;

/// Writes `000001.png` and so on. Each file appears whole; what was written stays also where the
/// rest fails.
pub(super) struct DirectorySink {
    directory: PathBuf,
    /// Whether the directory was made for this video.
    made: bool,
    info: VideoInfo,
    classes: Option<ClassTable>,
    written: u64,
}

impl DirectorySink {
    pub(super) fn create(
        directory: &Path,
        info: &VideoInfo,
        classes: Option<&ClassTable>,
    ) -> Result<Self> {
        let made = !directory.exists();
        std::fs::create_dir_all(directory)
            .map_err(|e| Error::io(directory, "the directory cannot be created", e))?;
        // The frames of another video would look like this one's, and may be what this one is read
        // from.
        if let Some(held) = frame_in(directory)? {
            let held = held.display();
            return Err(error!(Usage, "holds frames already, such as {held}")
                .file(directory)
                .advice("empty it, or name another"));
        }
        Ok(Self {
            directory: directory.to_owned(),
            made,
            info: info.clone(),
            classes: classes.cloned(),
            written: 0,
        })
    }
}

/// The name of a frame (`000001.png` and the like) that a directory holds. `None` where it holds
/// none or does not exist.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn frame_in(directory: &Path) -> Result<Option<PathBuf>> {
    let failed = |e| Error::io(directory, "the directory cannot be read", e);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let mut first: Option<PathBuf> = None;
    for entry in entries {
        let name = PathBuf::from(entry.map_err(failed)?.file_name());
        if is_frame_name(&name) && first.as_ref().is_none_or(|first| name < *first) {
            first = Some(name);
        }
    }
    Ok(first)
}

/// Also in capitals: some file systems make no difference.
fn is_frame_name(name: &Path) -> bool {
    let ending = name.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
    let digits = name.file_stem().unwrap_or_default().as_encoded_bytes();
    ending && digits.len() >= DIGITS && digits.iter().all(u8::is_ascii_digit)
}

impl Drop for DirectorySink {
    fn drop(&mut self) {
        // A video without frames leaves nothing. A directory that somebody has put something into
        // stays, since only empty ones can be removed.
        if self.made && self.written == 0 {
            let _ = std::fs::remove_dir(&self.directory);
        }
    }
}

impl FrameSink for DirectorySink {
    fn write(&mut self, content: &Content, _: Option<Duration>) -> Result<()> {
        check(content, &self.info, self.classes.is_some()).map_err(|e| e.file(&self.directory))?;
        let file = self.directory.join(format!("{:0DIGITS$}.png", self.written + 1));
        // It was not there at the beginning, so somebody else has put it there since.
        if file.symlink_metadata().is_ok() {
            return Err(error!(Io, "appeared while the frames were written")
                .file(file)
                .advice("write to a directory of its own"));
        }
        match (content, &self.classes) {
            (Content::Mask(labels), Some(classes)) => labels.write(file, classes)?,
            (Content::Image(image), _) => image.save(file)?,
            (Content::Mask(_), None) => {
                unreachable!("invariant: masks without classes were refused above")
            }
        }
        self.written += 1;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_frames_are_known_in_every_form() {
        for name in ["000001.png", "000000.png", "1234567.png", "000042.PNG"] {
            assert!(is_frame_name(Path::new(name)), "{name}");
        }
        for name in [
            "00001.png",
            "a00001.png",
            "000001.jpg",
            "000001",
            ".png",
            "000001.png.txt",
            "shot-000001.png",
        ] {
            assert!(!is_frame_name(Path::new(name)), "{name}");
        }
    }
}
