//! `log.jsonl`: one record per line. Resuming a run drops the records of steps that are repeated.

use super::html::Sample;
use super::html::samples::triple;
use super::record::Record;
use super::tensorboard::{Events, append};
use crate::error::{Error, ErrorKind, Result, error};
use crate::files::{atomic_write, open_regular};
use crate::image::ClassTable;
use crate::text::printable_json;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Name of the log in a run directory.
pub const LOG: &str = "log.jsonl";

/// Maximum size of a log, twenty times that of a million steps.
const MAX_BYTES: u64 = 1 << 29;
/// Maximum length of a line. A start record with 4096 named classes has half a megabyte.
const MAX_LINE: u64 = 16 << 20;

/// Maximum length of a sample's longer side in event files, which keep those of each evaluation.
const LONGEST: usize = 320;

/// The point from which a run is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// Number of completed steps.
    pub step: u64,
    /// Whether the evaluation after that step will be repeated.
    pub evaluation_due: bool,
}

impl Resumed {
    /// Whether to keep a record: not if its step or evaluation will be repeated.
    fn keeps(&self, record: &Record) -> bool {
        match record {
            Record::Evaluation(r) if self.evaluation_due => r.step < self.step,
            _ => record.step() <= self.step,
        }
    }
}

/// Writes the records of a run to `log.jsonl` and to an event file for TensorBoard.
///
/// ```
/// use atrous::report::{Record, RunLog, StepRecord, read};
///
/// let directory = tempfile::tempdir().unwrap();
/// let mut log = RunLog::open(directory.path(), None)?;
/// log.write(&Record::Step(StepRecord { step: 1, loss: 2.5, ..StepRecord::default() }))?;
/// assert_eq!(read(directory.path())?[0].step(), 1);
/// # Ok::<(), atrous::Error>(())
/// ```
#[derive(Debug)]
pub struct RunLog {
    path: PathBuf,
    file: File,
    events: Events,
}

impl RunLog {
    /// Opens the log in the existing directory `dir`: a new log, or that of a resumed run.
    ///
    /// On resuming, records of steps that will be repeated are dropped: the log is rewritten to a
    /// temporary file, which then replaces it, and an entry in the new event file makes TensorBoard
    /// drop them. Invalid lines, such as those left by a full disk, are dropped with a warning; the
    /// checkpoint is not affected by them.
    ///
    /// # Errors
    /// Returns an error if `dir` is not writable, or if a new run would be added to the log of
    /// another.
    pub fn open(dir: &Path, resumed: Option<Resumed>) -> Result<Self> {
        let path = dir.join(LOG);
        let old = if path.exists() { lines(&path)? } else { Vec::new() };
        let Some(resumed) = resumed else {
            if old.is_empty() {
                return Self::append(path, dir, None, &[]);
            }
            return Err(error!(Usage, "already contains the records of a run")
                .file(&path)
                .advice("resume that run, or choose another directory for the new one"));
        };
        let mut kept = Vec::new();
        for (number, line) in (1..).zip(old) {
            match line {
                Line::Record(record) if resumed.keeps(&record) => kept.push(*record),
                Line::Record(_) | Line::Incomplete => {}
                Line::Invalid(e) => log::warn!(
                    "{}: dropping line {number}, which is not a valid record ({e})",
                    path.display()
                ),
            }
        }
        Self::append(path, dir, Some(resumed.step), &kept)
    }

    fn append(path: PathBuf, dir: &Path, resumed_at: Option<u64>, kept: &[Record]) -> Result<Self> {
        atomic_write(&path, |w| kept.iter().try_for_each(|r| w.write_all(line(r)?.as_bytes())))?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|e| Error::io(&path, "could not open", e))?;
        let mut events = Events::create(dir, resumed_at)?;
        // New events need the class names.
        for record in kept {
            events.note_classes(record);
        }
        Ok(Self { path, file, events })
    }

    /// Appends a record to the log, and its scalars to the event file. The log is appended to in
    /// one write, so that a killed run leaves complete lines.
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        let failed = |e| Error::io(&self.path, "could not write", e);
        let line = line(record).map_err(failed)?;
        append(&mut self.file, line.as_bytes()).map_err(failed)?;
        self.events.write(record)
    }

    /// Writes samples of an evaluation to the event file: image, truth and prediction side by side.
    ///
    /// # Errors
    /// Returns an error if the labels and the image of a sample differ in size, or the file cannot
    /// be written.
    pub fn write_samples(
        &mut self,
        step: u64,
        samples: &[Sample],
        table: &ClassTable,
    ) -> Result<()> {
        let image = |sample: &Sample| {
            let (size, file) = triple(sample, table, LONGEST)?;
            Ok((format!("val/images/{}", sample.name), size, file))
        };
        let images = samples.iter().map(image).collect::<Result<Vec<_>>>()?;
        self.events.write_images(step, &images)
    }
}

fn line(record: &Record) -> io::Result<String> {
    // Escaped, since logs are printed on terminals too, and contain paths and class names.
    Ok(printable_json(&serde_json::to_string(record)?).into_owned() + "\n")
}

/// Reads all records of the run in the directory `dir`. Skips an incomplete last line, which a
/// killed run may leave.
///
/// # Errors
/// Returns an error if there is no log, or if a line is invalid; the error has the line number.
pub fn read(dir: &Path) -> Result<Vec<Record>> {
    let path = dir.join(LOG);
    let mut records = Vec::new();
    for (number, line) in (1..).zip(lines(&path)?) {
        match line {
            Line::Record(record) => records.push(*record),
            Line::Incomplete => {
                log::info!("{}: skipping line {number}, which is incomplete", path.display());
            }
            Line::Invalid(e) => {
                return Err(Error::new(ErrorKind::Data, "not a valid record of a run")
                    .source(e)
                    .at(format!("line {number}"))
                    .file(&path));
            }
        }
    }
    Ok(records)
}

/// A line of a log.
enum Line {
    Record(Box<Record>),
    /// The last line, without a line break.
    Incomplete,
    Invalid(serde_json::Error),
}

fn lines(path: &Path) -> Result<Vec<Line>> {
    let mut file = BufReader::new(open_regular(path, "a run's log")?);
    let (mut lines, mut read, mut line) = (Vec::new(), 0, Vec::new());
    loop {
        line.clear();
        // Bytes, not text: a line may end inside a character.
        let length = file.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line);
        let length = length.map_err(|e| Error::io(path, "could not read", e))? as u64;
        read += length;
        if length > MAX_LINE {
            let at = format!("line {}", lines.len() + 1);
            return Err(error!(Data, "a record must not be longer than {MAX_LINE} bytes")
                .at(at)
                .file(path));
        }
        if read > MAX_BYTES {
            return Err(error!(Data, "the log of a run must not be longer than {MAX_BYTES} bytes")
                .file(path));
        }
        lines.push(match serde_json::from_slice(&line) {
            _ if line.is_empty() => return Ok(lines),
            Ok(record) => Line::Record(Box::new(record)),
            Err(_) if !line.ends_with(b"\n") => Line::Incomplete,
            Err(e) => Line::Invalid(e),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{EndRecord, EvaluationRecord, StartRecord, StepRecord};
    use super::*;
    use std::fs;

    fn step(step: u64, loss: f64) -> Record {
        Record::Step(StepRecord {
            step,
            loss,
            learning_rate: 0.007,
            gradient_norm: Some(1.5),
            ..StepRecord::default()
        })
    }

    fn start(step: u64) -> Record {
        let config = serde_json::json!({ "batch": 4, "crop": [513, 513] });
        let classes = vec!["sky".into(), "road".into()];
        Record::Start(StartRecord {
            step,
            time: 1.75e9,
            command: "atrous train".into(),
            classes,
            config,
            ..StartRecord::default()
        })
    }

    fn after(step: u64) -> Option<Resumed> {
        Some(Resumed { step, evaluation_due: false })
    }

    fn steps(dir: &Path) -> Vec<u64> {
        read(dir).unwrap().iter().map(Record::step).collect()
    }

    #[test]
    fn records_come_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let evaluation = EvaluationRecord {
            step: 2,
            mean_iou: Some(0.5),
            class_ious: vec![Some(0.5), None],
            best: true,
            ..Default::default()
        };
        let end = EndRecord {
            step: 2,
            time: 1.0,
            seconds: 3.5,
            reason: "finished \"so\"\nhe \u{9b}31msaid".into(),
        };
        let all = [
            start(0),
            step(1, 2.25),
            step(2, 1e-300),
            Record::Evaluation(evaluation),
            Record::End(end),
        ];
        let mut log = RunLog::open(dir.path(), None).unwrap();
        all.iter().for_each(|r| log.write(r).unwrap());
        assert_eq!(read(dir.path()).unwrap(), all);
        let text = fs::read_to_string(dir.path().join(LOG)).unwrap();
        assert_eq!(text.lines().count(), all.len());
        assert!(!text.contains('\u{9b}'), "a control character reached the log");
        assert!(text.lines().nth(1).unwrap().starts_with(r#"{"kind":"step","step":1,"#), "{text}");
    }

    #[test]
    fn a_loss_that_is_not_finite_is_written_and_read() {
        let dir = tempfile::tempdir().unwrap();
        RunLog::open(dir.path(), None).unwrap().write(&step(1, f64::INFINITY)).unwrap();
        let Record::Step(back) = read(dir.path()).unwrap().swap_remove(0) else {
            panic!("a step was written")
        };
        assert!(back.loss.is_nan() && back.learning_rate == 0.007);
        // As written by earlier versions.
        let old = r#"{"kind":"step","step":1,"epoch":0.5,"loss":null,"rate":0.5,"gradient_norm":null,"pictures_per_second":1.0,"idle":0.0,"seconds":1.0}"#;
        let Record::Step(old) = serde_json::from_str(old).unwrap() else { panic!("not a step") };
        assert_eq!((old.learning_rate, old.images_per_second), (0.5, 1.0));
    }

    #[test]
    fn resuming_drops_later_steps_and_an_incomplete_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RunLog::open(dir.path(), None).unwrap();
        log.write(&start(0)).unwrap();
        (1..=7).for_each(|s| log.write(&step(s, 1.0)).unwrap());
        // What kill -9 can leave: the start of a line, here up to the middle of a character.
        let mut file = OpenOptions::new().append(true).open(dir.path().join(LOG)).unwrap();
        file.write_all(b"{\"kind\":\"end\",\"reason\":\"\xc3").unwrap();
        assert_eq!(steps(dir.path()), [0, 1, 2, 3, 4, 5, 6, 7]);
        let mut log = RunLog::open(dir.path(), after(5)).unwrap();
        assert_eq!(steps(dir.path()), [0, 1, 2, 3, 4, 5]);
        log.write(&start(5)).unwrap();
        log.write(&step(6, 1.0)).unwrap();
        assert_eq!(steps(dir.path()), [0, 1, 2, 3, 4, 5, 5, 6]);
        let names: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(
            names.len(),
            3,
            "a log and an event file for each start, nothing temporary: {names:?}"
        );
    }

    #[test]
    fn a_run_that_never_reached_a_checkpoint_begins_again() {
        let dir = tempfile::tempdir().unwrap();
        RunLog::open(dir.path(), after(0)).unwrap().write(&step(1, 1.0)).unwrap();
        RunLog::open(dir.path(), after(0)).unwrap();
        assert_eq!(steps(dir.path()), [0; 0]);
    }

    #[test]
    fn a_repeated_evaluation_is_recorded_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RunLog::open(dir.path(), None).unwrap();
        let evaluation =
            |step: u64| Record::Evaluation(EvaluationRecord { step, ..Default::default() });
        [step(1, 1.0), evaluation(1), step(2, 1.0), evaluation(2)]
            .iter()
            .for_each(|r| log.write(r).unwrap());
        RunLog::open(dir.path(), after(2)).unwrap();
        assert_eq!(steps(dir.path()), [1, 1, 2, 2]);
        RunLog::open(dir.path(), Some(Resumed { step: 2, evaluation_due: true })).unwrap();
        assert_eq!(steps(dir.path()), [1, 1, 2]);
    }

    #[test]
    fn a_damaged_line_does_not_keep_a_run_from_going_on() {
        let dir = tempfile::tempdir().unwrap();
        RunLog::open(dir.path(), None).unwrap().write(&step(1, 1.0)).unwrap();
        let mut file = OpenOptions::new().append(true).open(dir.path().join(LOG)).unwrap();
        file.write_all(b"{\"kind\":\"st{\"kind\":\"end\"}\n").unwrap();
        assert!(read(dir.path()).is_err());
        RunLog::open(dir.path(), after(1)).unwrap().write(&step(2, 1.0)).unwrap();
        assert_eq!(steps(dir.path()), [1, 2]);
    }

    #[test]
    fn a_log_without_an_end_is_refused_and_not_read_into_memory() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join(LOG)).unwrap();
        // A sparse file, which takes no space.
        file.set_len(1 << 40).unwrap();
        for error in
            [read(dir.path()).unwrap_err(), RunLog::open(dir.path(), after(1)).unwrap_err()]
        {
            assert!(error.to_string().contains("line 1: a record must not be longer"), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_whole_records_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RunLog::open(dir.path(), None).unwrap();
        log.write(&step(1, 1.0)).unwrap();
        let whole = fs::read(dir.path().join(LOG)).unwrap();
        // Every write to it fails with ENOSPC.
        log.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = log.write(&step(2, 1.0)).unwrap_err().to_string();
        assert!(error.contains(LOG) && error.contains("space"), "{error}");
        assert_eq!(fs::read(dir.path().join(LOG)).unwrap(), whole);
        assert_eq!(steps(dir.path()), [1]);
    }

    #[test]
    fn a_new_run_is_not_added_to_another_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        RunLog::open(dir.path(), None).unwrap().write(&step(1, 1.0)).unwrap();
        let error = RunLog::open(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains(LOG) && error.contains("another directory"), "{error}");
        fs::write(dir.path().join(LOG), "{\"kind\":\"step\"}\n{}\n").unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
        assert!(read(&dir.path().join("none")).is_err());
    }
}
