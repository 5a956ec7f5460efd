//! Event files for TensorBoard: TFRecords with a subset of the fields of
//! `tensorflow/core/util/event.proto` and `tensorflow/core/framework/summary.proto`.

use super::record::Record;
use crate::error::{Error, Result};
use crate::geometry::Size;
use crc::{CRC_32_ISCSI, Crc};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// CRC-32C, the checksum of TFRecords.
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Writes an event file.
#[derive(Debug)]
pub(super) struct Events {
    path: PathBuf,
    file: File,
    classes: Vec<String>,
}

impl Events {
    /// Creates an event file in `dir`. `resumed_at` makes TensorBoard drop events of later steps in
    /// older files of the directory.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn create(dir: &Path, resumed_at: Option<u64>) -> Result<Self> {
        let mut number = 0;
        let (path, file) = loop {
            // TensorBoard sorts files by these parts. The host name is optional, and omitted for
            // privacy.
            let name = format!(
                "events.out.tfevents.{:.0}.atrous.{}.{number}",
                now().floor(),
                std::process::id()
            );
            let path = dir.join(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(e) => return Err(Error::io(&path, "could not write", e)),
            }
        };
        let mut events = Self { path, file, classes: Vec::new() };
        // Event.file_version = 3
        let mut first = vec![event(now(), 0, 3, b"brain.Event:2")];
        if let Some(step) = resumed_at {
            // Event.session_log = 7, SessionLog.status = 1: START is 1. TensorBoard drops older
            // events from this step on.
            first.push(event(now(), step + 1, 7, &[1 << 3, 1]));
        }
        if let Err(e) = events.append(&first) {
            // Do not leave an empty file on a full disk.
            let _ = std::fs::remove_file(&events.path);
            return Err(e);
        }
        Ok(events)
    }

    /// Stores the class names of a start record, for the tags of later records.
    pub fn note_classes(&mut self, record: &Record) {
        if let Record::Start(start) = record {
            self.classes.clone_from(&start.classes);
        }
    }

    /// Writes the scalars of a record.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        self.note_classes(record);
        let scalars = self.scalars(record);
        if scalars.is_empty() {
            return Ok(());
        }
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            // Summary.value = 1; Value.tag = 1, Value.simple_value = 2 (a float).
            let mut entry = Vec::new();
            bytes_field(&mut entry, 1, tag.as_bytes());
            entry.push(2 << 3 | 5);
            entry.extend((value as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &entry);
        }
        // Event.summary = 5
        self.append(&[event(now(), record.step(), 5, &summary)])
    }

    /// Writes images at a step: tags, sizes and encoded files.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write_images(&mut self, step: u64, images: &[(String, Size, Vec<u8>)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, size, file) in images {
            // Image.height = 1, Image.width = 2, Image.colorspace = 3 (RGB is 3),
            // Image.encoded_image_string = 4.
            let mut image = Vec::new();
            for (field, value) in [(1, size.height as u64), (2, size.width as u64), (3, 3)] {
                varint(&mut image, field << 3);
                varint(&mut image, value);
            }
            bytes_field(&mut image, 4, file);
            // Value.tag = 1, Value.image = 4.
            let mut entry = Vec::new();
            bytes_field(&mut entry, 1, tag.as_bytes());
            bytes_field(&mut entry, 4, &image);
            bytes_field(&mut summary, 1, &entry);
        }
        self.append(&[event(now(), step, 5, &summary)])
    }

    fn scalars(&self, record: &Record) -> Vec<(String, f64)> {
        let scalar = |tag: &str, value: Option<f64>| value.map(|v| (tag.to_owned(), v));
        match record {
            Record::Start(_) | Record::Note(_) | Record::End(_) => Vec::new(),
            Record::Step(r) => [
                scalar("train/loss", Some(r.loss)),
                scalar("train/learning_rate", Some(r.learning_rate)),
                scalar("train/epoch", Some(r.epoch)),
                scalar("train/gradient_norm", r.gradient_norm),
                scalar("train/images_per_second", Some(r.images_per_second)),
                scalar("train/idle", Some(r.idle)),
            ]
            .into_iter()
            .flatten()
            .collect(),
            Record::Evaluation(r) => {
                let means = [
                    scalar("val/mean_iou", r.mean_iou),
                    scalar("val/pixel_accuracy", r.pixel_accuracy),
                    scalar("val/mean_accuracy", r.mean_accuracy),
                    scalar("val/loss", r.loss),
                ];
                let class = |(number, iou): (usize, &Option<f64>)| {
                    let name =
                        self.classes.get(number).map_or_else(|| number.to_string(), Clone::clone);
                    iou.map(|iou| (format!("val/iou/{name}"), iou))
                };
                means
                    .into_iter()
                    .flatten()
                    .chain(r.class_ious.iter().enumerate().filter_map(class))
                    .collect()
            }
        }
    }

    fn append(&mut self, events: &[Vec<u8>]) -> Result<()> {
        let frames: Vec<u8> = events.iter().flat_map(|e| frame(e)).collect();
        append(&mut self.file, &frames).map_err(|e| Error::io(&self.path, "could not write", e))
    }
}

/// Appends to a file in one write, all or nothing: a partial record, left by a full disk, would
/// corrupt the next one.
pub(super) fn append(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    file.write_all(bytes).inspect_err(|_| {
        // Report the original error.
        let _ = file.set_len(length).and_then(|()| file.seek(io::SeekFrom::Start(length)));
    })
}

/// A TFRecord: length, its checksum, data, its checksum.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(masked(&length).to_le_bytes());
    out.extend(data);
    out.extend(masked(data).to_le_bytes());
    out
}

/// The checksum as TFRecords store it: rotated and offset, so that the CRC of data that contains
/// CRCs remains effective.
fn masked(data: &[u8]) -> u32 {
    CRC.checksum(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// An `Event` message: wall_time = 1 (a double), step = 2, and one field of bytes.
fn event(time: f64, step: u64, field: u64, content: &[u8]) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend(time.to_le_bytes());
    out.push(2 << 3);
    varint(&mut out, step);
    bytes_field(&mut out, field, content);
    out
}

fn bytes_field(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, content.len() as u64);
    out.extend(content);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Seconds since the Unix epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::html::Sample;
    use super::super::record::{EvaluationRecord, StartRecord, StepRecord};
    use super::super::{Record, Resumed, RunLog};
    use crate::geometry::Size;
    use crate::image::{ClassTable, Image, LabelMap};
    use std::collections::BTreeMap;
    use std::fs;

    /// CRC-32C bit by bit, after RFC 3720 B.4: independent of the code under test.
    fn crc(data: &[u8]) -> u32 {
        !data.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
            })
        })
    }

    /// Splits off `n` bytes.
    fn take<'a>(from: &mut &'a [u8], n: usize) -> &'a [u8] {
        let (head, tail) = from.split_at(n);
        *from = tail;
        head
    }

    fn check(data: &[u8], stored: &[u8]) {
        let stored = u32::from_le_bytes(stored.try_into().unwrap());
        let rotated = stored.wrapping_sub(0xa282_ead8);
        assert_eq!(rotated.rotate_left(15), crc(data));
    }

    fn records(mut file: &[u8]) -> Vec<&[u8]> {
        let mut out = Vec::new();
        while !file.is_empty() {
            let length = take(&mut file, 8);
            check(length, take(&mut file, 4));
            let data = take(&mut file, u64::from_le_bytes(length.try_into().unwrap()) as usize);
            check(data, take(&mut file, 4));
            out.push(data);
        }
        out
    }

    /// Value of a field, by protobuf wire type.
    #[derive(Debug, PartialEq)]
    enum Wire<'a> {
        Varint(u64),
        Eight([u8; 8]),
        Bytes(&'a [u8]),
        Four([u8; 4]),
    }

    fn read_varint(from: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = take(from, 1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
        }
        panic!("a varint without an end");
    }

    fn fields(mut message: &[u8]) -> Vec<(u64, Wire<'_>)> {
        let mut out = Vec::new();
        while !message.is_empty() {
            let key = read_varint(&mut message);
            let value = match key & 7 {
                0 => Wire::Varint(read_varint(&mut message)),
                1 => Wire::Eight(take(&mut message, 8).try_into().unwrap()),
                2 => {
                    let n = read_varint(&mut message) as usize;
                    Wire::Bytes(take(&mut message, n))
                }
                5 => Wire::Four(take(&mut message, 4).try_into().unwrap()),
                other => panic!("wire type {other}"),
            };
            out.push((key >> 3, value));
        }
        out
    }

    fn field<'a, 'b>(message: &'b [(u64, Wire<'a>)], number: u64) -> Option<&'b Wire<'a>> {
        message.iter().find(|(n, _)| *n == number).map(|(_, v)| v)
    }

    /// Step and scalars of an event that has a summary.
    fn summary(event: &[u8]) -> Option<(u64, BTreeMap<String, f32>)> {
        let event = fields(event);
        let Some(Wire::Bytes(summary)) = field(&event, 5) else { return None };
        let Some(Wire::Varint(step)) = field(&event, 2) else { panic!("an event without a step") };
        let values = fields(summary).into_iter().map(|(number, value)| {
            let Wire::Bytes(entry) = value else { panic!("a value that is not a message") };
            let entry = fields(entry);
            let (Some(Wire::Bytes(tag)), Some(Wire::Four(value))) =
                (field(&entry, 1), field(&entry, 2))
            else {
                panic!("a value without tag or number")
            };
            assert_eq!(number, 1);
            (String::from_utf8(tag.to_vec()).unwrap(), f32::from_le_bytes(*value))
        });
        Some((*step, values.collect()))
    }

    fn event_files(dir: &std::path::Path) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        let mut paths: Vec<_> =
            entries.filter(|p| p.to_string_lossy().contains("events.out.tfevents.")).collect();
        paths.sort();
        paths.iter().map(|p| fs::read(p).unwrap()).collect()
    }

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        // RFC 3720, B.4: 32 bytes of zeros, and of ones.
        assert_eq!((crc(&[0; 32]), crc(&[0xff; 32])), (0x8a91_36aa, 0x62a8_ab43));
        assert_eq!(super::CRC.checksum(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn another_reader_finds_every_scalar_under_its_tag() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RunLog::open(dir.path(), None).unwrap();
        let classes = vec!["sky".to_owned(), "road".to_owned()];
        log.write(&Record::Start(StartRecord { classes, ..Default::default() })).unwrap();
        // A step past 127 takes two bytes.
        let step = StepRecord {
            step: 300,
            loss: 0.75,
            learning_rate: 0.007,
            gradient_norm: None,
            idle: 0.25,
            ..Default::default()
        };
        log.write(&Record::Step(step)).unwrap();
        let class_ious = vec![Some(0.5), None, Some(1.0)];
        let evaluation = EvaluationRecord {
            step: 301,
            mean_iou: Some(0.5),
            loss: Some(0.25),
            class_ious,
            ..Default::default()
        };
        log.write(&Record::Evaluation(evaluation)).unwrap();

        let files = event_files(dir.path());
        assert_eq!(files.len(), 1);
        let events = records(&files[0]);
        let first = fields(events[0]);
        assert_eq!(field(&first, 3), Some(&Wire::Bytes(b"brain.Event:2")));
        let Some(Wire::Eight(time)) = field(&first, 1) else { panic!("an event without a time") };
        assert!(f64::from_le_bytes(*time) > 1.6e9, "seconds since the Unix epoch");
        let (step, scalars) = summary(events[1]).unwrap();
        assert_eq!((step, scalars["train/loss"], scalars["train/idle"]), (300, 0.75, 0.25));
        assert_eq!(scalars["train/learning_rate"], 0.007f32);
        assert!(!scalars.contains_key("train/gradient_norm"));
        let (step, scalars) = summary(events[2]).unwrap();
        let expected: BTreeMap<String, f32> =
            [("val/mean_iou", 0.5), ("val/loss", 0.25), ("val/iou/sky", 0.5), ("val/iou/2", 1.0)]
                .map(|(t, v)| (t.to_owned(), v))
                .into();
        assert_eq!((step, scalars, events.len()), (301, expected, 3));
    }

    #[test]
    fn another_reader_finds_the_images_of_an_evaluation() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RunLog::open(dir.path(), None).unwrap();
        let image = Image::new(Size::new(3, 2), vec![90; 18]).unwrap();
        let map = |label| LabelMap::new(Size::new(3, 2), vec![label; 6]).unwrap();
        let sample = Sample { name: "street".into(), image, truth: map(1), prediction: map(0) };
        log.write_samples(7, &[sample], &ClassTable::generic(2)).unwrap();
        let files = event_files(dir.path());
        let event = fields(records(&files[0])[1]);
        assert_eq!(field(&event, 2), Some(&Wire::Varint(7)));
        let Some(Wire::Bytes(summary)) = field(&event, 5) else { panic!("no summary") };
        let summary = fields(summary);
        let Some(Wire::Bytes(value)) = field(&summary, 1) else { panic!("no value") };
        let value = fields(value);
        assert_eq!(field(&value, 1), Some(&Wire::Bytes(b"val/images/street")));
        let Some(Wire::Bytes(stored)) = field(&value, 4) else { panic!("no image") };
        let stored = fields(stored);
        let numbers = [1, 2, 3].map(|number| field(&stored, number));
        let expected = [Wire::Varint(2), Wire::Varint(9), Wire::Varint(3)];
        assert_eq!(numbers, expected.each_ref().map(Some));
        let Some(Wire::Bytes(file)) = field(&stored, 4) else { panic!("no file") };
        let decoded = image::load_from_memory(file).unwrap();
        assert_eq!((decoded.width(), decoded.height()), (9, 2));
    }

    #[test]
    fn a_resumed_run_keeps_its_class_names_and_drops_later_steps() {
        let dir = tempfile::tempdir().unwrap();
        let start = StartRecord { classes: vec!["sky".to_owned()], ..Default::default() };
        RunLog::open(dir.path(), None).unwrap().write(&Record::Start(start)).unwrap();
        let mut log =
            RunLog::open(dir.path(), Some(Resumed { step: 200, evaluation_due: false })).unwrap();
        let evaluation =
            EvaluationRecord { step: 250, class_ious: vec![Some(0.5)], ..Default::default() };
        log.write(&Record::Evaluation(evaluation)).unwrap();
        let files = event_files(dir.path());
        let resumed = files
            .iter()
            .map(|f| records(f))
            .find(|r| r.len() == 3)
            .expect("the file of the second start");
        let session = fields(resumed[1]);
        assert_eq!(field(&session, 2), Some(&Wire::Varint(201)));
        let Some(Wire::Bytes(status)) = field(&session, 7) else { panic!("no session log") };
        assert_eq!(fields(status), [(1, Wire::Varint(1))]);
        assert_eq!(summary(resumed[2]).unwrap().1["val/iou/sky"], 0.5);
    }
}
