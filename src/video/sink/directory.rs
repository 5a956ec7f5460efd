//! Writing frames as PNG files in a directory.

use super::{Content, FrameSink, check};
use crate::error::{Error, Result, error};
use crate::image::ClassTable;
use crate::video::VideoInfo;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Minimum number of digits of a frame number.
const DIGITS: usize = 6;

/// Writes `000001.png` and so on, each atomically. Frames already written are kept if a later one
/// fails.
pub(super) struct DirectorySink {
    directory: PathBuf,
    /// Whether the directory was created by this sink.
    created: bool,
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
        let created = !directory.exists();
        std::fs::create_dir_all(directory)
            .map_err(|e| Error::io(directory, "could not create the directory", e))?;
        // Existing frames would mix with the new ones, and may be the input of this video.
        if let Some(frame) = frame_in(directory)? {
            return Err(error!(
                Usage,
                "the directory already contains frames, such as {}",
                frame.display()
            )
            .file(directory)
            .advice("empty it, or use another directory"));
        }
        Ok(Self {
            directory: directory.to_owned(),
            created,
            info: info.clone(),
            classes: classes.cloned(),
            written: 0,
        })
    }
}

/// Returns the name of the first frame (`000001.png` and the like) in a directory. `None` if there
/// is none or the directory does not exist.
/// # Errors
/// Returns an error if the directory cannot be read.
pub(crate) fn frame_in(directory: &Path) -> Result<Option<PathBuf>> {
    let failed = |e| Error::io(directory, "could not read the directory", e);
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

/// Returns whether a name is that of a frame, ignoring case, since some file systems do.
fn is_frame_name(name: &Path) -> bool {
    let is_png = name.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
    let digits = name.file_stem().unwrap_or_default().as_encoded_bytes();
    is_png && digits.len() >= DIGITS && digits.iter().all(u8::is_ascii_digit)
}

impl Drop for DirectorySink {
    fn drop(&mut self) {
        // A video without frames leaves no directory. `remove_dir` only removes empty directories.
        if self.created && self.written == 0 {
            let _ = std::fs::remove_dir(&self.directory);
        }
    }
}

impl FrameSink for DirectorySink {
    fn write(&mut self, content: &Content, _: Option<Duration>) -> Result<()> {
        check(content, &self.info, self.classes.is_some()).map_err(|e| e.file(&self.directory))?;
        let file = self.directory.join(format!("{:0DIGITS$}.png", self.written + 1));
        // It did not exist when the sink was created, so another process is writing here.
        if file.symlink_metadata().is_ok() {
            return Err(error!(
                Io,
                "the file was created by another process while frames were written"
            )
            .file(file)
            .advice("write to a directory that no other process uses"));
        }
        match (content, &self.classes) {
            (Content::Mask(labels), Some(classes)) => labels.write(file, classes)?,
            (Content::Image(image), _) => image.save(file)?,
            (Content::Mask(_), None) => {
                unreachable!("invariant: checked above")
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
