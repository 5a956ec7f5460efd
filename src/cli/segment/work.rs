//! Decoding, the network, and writing at the same time: while one picture is on the device, the next is decoded and the one before
//! is written.

use super::inputs::Job;
use super::write::Writer;
use super::{Args, Outcome};
use crate::error::Result;
use crate::image::{DecodeOptions, Picture, legend};
use crate::segmenter::{Segmentation, Segmenter, Wants};
use indicatif::ProgressBar;
use std::sync::mpsc::sync_channel;

/// Pictures that may wait between two stages. More would only take memory.
const WAITING: usize = 2;

/// A picture with what was found in it; or why not.
type Found = (usize, Result<(Picture, Segmentation)>);

/// Runs all jobs and returns what became of them, in their order. A failure of one does not stop the others.
pub(super) fn run(jobs: &[Job], segmenter: &Segmenter, args: &Args, writer: &Writer, bar: &ProgressBar) -> Vec<Outcome> {
    let size = args.size.unwrap_or_else(|| segmenter.usual_size());
    let wants = Wants { confidence: false, probabilities: args.probabilities || args.style == super::Style::Cutout };
    let decode = DecodeOptions { first_frame: args.first_frame, ..DecodeOptions::default() };
    let mut outcomes: Vec<Option<Outcome>> = jobs.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        let (decoded, to_segment) = sync_channel::<(usize, Result<Picture>)>(WAITING);
        let (found, to_write) = sync_channel::<Found>(WAITING);
        scope.spawn(move || {
            for (index, job) in jobs.iter().enumerate() {
                if decoded.send((index, decode.decode(&job.input))).is_err() {
                    return;
                }
            }
        });
        scope.spawn(move || {
            for (index, picture) in to_segment {
                let result = picture.and_then(|picture| {
                    let result = segmenter.segment_with(&picture, size, wants);
                    let segmentation = result.map_err(|e| e.file(&jobs[index].input))?;
                    Ok((picture, segmentation))
                });
                if found.send((index, result)).is_err() {
                    return;
                }
            }
        });
        for (index, result) in to_write {
            let job = &jobs[index];
            let written = result.and_then(|(picture, found)| {
                writer.write(job, &picture, &found)?;
                Ok(outcome(job, picture, &found, writer))
            });
            outcomes[index] = Some(written.unwrap_or_else(|e| Outcome::failed(job.input.clone(), &e)));
            bar.inc(1);
            bar.set_message(job.input.display().to_string());
        }
    });
    outcomes.into_iter().map(|o| o.expect("invariant: every job sends one result")).collect()
}

fn outcome(job: &Job, picture: Picture, found: &Segmentation, writer: &Writer) -> Outcome {
    let time = found.network_time + found.labels_time;
    Outcome {
        input: job.input.clone(),
        error: None,
        output: Some(job.output.clone()),
        size: Some((picture.width, picture.height)),
        network_size: Some(found.fit.padded),
        classes: legend(&found.labels, writer.table),
        notes: picture.notes,
        milliseconds: Some(time.as_secs_f64() * 1e3),
    }
}
