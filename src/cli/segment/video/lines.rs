//! `--json-lines`: a line for each frame.

use crate::error::{Error, ErrorKind, Result};
use crate::files::Staged;
use crate::image::{ClassTable, LabelMap, LegendEntry, legend};
use crate::text::printable_json;
use crate::video::FrameRate;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file of lines, which takes its name when the video is finished; a pipe gets them at once.
pub(super) struct Lines {
    path: PathBuf,
    writer: BufWriter<Staged>,
    rate: FrameRate,
    frames: u64,
    /// Display time of the frames so far that have one of their own.
    shown: Option<Duration>,
}

/// A frame of the result.
#[derive(serde::Serialize)]
struct Line {
    /// Number of the frame in the result, from 1.
    frame: u64,
    /// When the frame is displayed, from the start of the result.
    seconds: f64,
    classes: Vec<LegendEntry>,
}

impl Lines {
    /// Creates the file, for a video of this frame rate.
    pub(super) fn create(path: &Path, rate: FrameRate) -> Result<Self> {
        let staged = Staged::create(path, ".tmp")?;
        let writer = BufWriter::new(staged);
        Ok(Self { path: path.to_owned(), writer, rate, frames: 0, shown: None })
    }

    /// Writes the line of the next frame, which is displayed for `duration`, or by default for one
    /// frame at the frame rate.
    pub(super) fn write(
        &mut self,
        labels: &LabelMap,
        table: &ClassTable,
        duration: Option<Duration>,
    ) -> Result<()> {
        let by_rate = self.frames as f64 / self.rate.fps();
        let seconds = self.shown.map_or(by_rate, |shown| shown.as_secs_f64());
        self.frames += 1;
        self.shown = duration.map(|duration| self.shown.unwrap_or_default() + duration);
        let line = Line { frame: self.frames, seconds, classes: legend(labels, table) };
        let text = serde_json::to_string(&line)
            .map_err(|e| Error::new(ErrorKind::Io, "could not write a frame as JSON").source(e))?;
        let failed = |e| Error::io(&self.path, "could not be written", e);
        writeln!(self.writer, "{}", printable_json(&text)).map_err(failed)?;
        // Who follows a pipe waits for the line.
        self.writer.flush().map_err(failed)
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<()> {
        let staged = self.writer.into_inner();
        staged.map_err(|e| Error::io(&self.path, "could not be written", e.into_error()))?.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;

    #[test]
    fn lines_have_the_times_of_the_frames() {
        let directory = tempfile::tempdir().unwrap();
        let labels = LabelMap::new(Size::new(4, 1), vec![0, 0, 0, 12]).unwrap();
        let read = |durations: [Option<u64>; 3]| -> Vec<serde_json::Value> {
            let path = directory.path().join("a.jsonl");
            let mut lines = Lines::create(&path, "4".parse().unwrap()).unwrap();
            for duration in durations {
                let duration = duration.map(Duration::from_millis);
                lines.write(&labels, &ClassTable::voc(), duration).unwrap();
            }
            lines.finish().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let times = |lines: &[serde_json::Value]| {
            lines.iter().map(|line| line["seconds"].as_f64().unwrap()).collect::<Vec<_>>()
        };
        let lines = read([None; 3]);
        assert_eq!(times(&lines), [0.0, 0.25, 0.5]);
        assert_eq!(
            (&lines[2]["frame"], &lines[2]["classes"][1]["name"]),
            (&3.into(), &"dog".into())
        );
        assert_eq!(lines[0]["classes"][1]["share"], 0.25);
        assert_eq!(times(&read([Some(500), Some(100), Some(40)])), [0.0, 0.5, 0.6]);
    }
}
