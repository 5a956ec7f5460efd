//! Frames as PNG files in a folder.

use super::Info;
use super::sink::{Content, Sink, check};
use crate::error::{Error, Result, error};
use crate::image::ClassTable;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Writes `000001.png` and so on. Each file appears whole; what was written stays also where the rest fails.
pub(super) struct FolderSink {
    folder: PathBuf,
    info: Info,
    classes: Option<ClassTable>,
    written: u64,
}

impl FolderSink {
    pub(super) fn create(folder: &Path, info: &Info, classes: Option<&ClassTable>) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "the folder cannot be made", e))?;
        let sink = Self { folder: folder.to_owned(), info: info.clone(), classes: classes.cloned(), written: 0 };
        // The end of a longer clip that was there before would look like this one's.
        if sink.file(1).exists() {
            return Err(error!(Usage, "the folder holds a clip already").file(folder).advice("empty it, or name another"));
        }
        Ok(sink)
    }

    fn file(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:06}.png"))
    }
}

impl Sink for FolderSink {
    fn write(&mut self, content: &Content, _: Option<Duration>) -> Result<()> {
        check(content, &self.info, self.classes.is_some()).map_err(|e| e.file(&self.folder))?;
        let file = self.file(self.written + 1);
        match (content, &self.classes) {
            (Content::Mask(labels), Some(classes)) => labels.write(file, classes)?,
            (Content::Picture(picture), _) => picture.save(file)?,
            (Content::Mask(_), None) => unreachable!("invariant: masks without classes were refused above"),
        }
        self.written += 1;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
