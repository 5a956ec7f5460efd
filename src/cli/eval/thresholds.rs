//! `--thresholds`: the scores of sigmoid outputs at several thresholds, from one pass of the network.

use super::super::console::{print, print_json};
use super::super::format::table;
use super::report::percent;
use super::{Args, Subject};
use crate::data::DataSource;
use crate::error::{Result, error};
use crate::eval::{Confusion, Scores, evaluate, ignored_labels};
use crate::files::json_path;
use crate::image::Image;
use crate::ops::Threshold;
use crate::segmenter::{OutputOptions, Segmentation, Segmenter};
use crate::text::{self, printable};
use std::cell::RefCell;
use std::path::Path;

#[derive(serde::Serialize)]
struct Report<'a> {
    #[serde(serialize_with = "json_path::serialize")]
    weights: &'a Path,
    data: &'a DataSource,
    split: Option<&'a str>,
    images: usize,
    device: String,
    size: String,
    thresholds: Vec<Row>,
    /// The threshold with the largest IoU of the foreground, or mIoU if there are several outputs.
    best: Option<f32>,
}

#[derive(serde::Serialize)]
struct Row {
    threshold: f32,
    scores: Scores,
}

/// The most probable output of each pixel, and its probability.
#[derive(Default)]
struct Best {
    classes: Vec<u16>,
    probabilities: Vec<f32>,
}

impl Best {
    /// Labels above a threshold; the others are the background.
    fn labels(&self, threshold: Threshold) -> Vec<u16> {
        let label = |(&class, &p)| if p > threshold.probability() { class } else { 0 };
        self.classes.iter().zip(&self.probabilities).map(label).collect()
    }
}

pub(super) fn run(args: &Args, segmenter: &Segmenter, subject: &Subject) -> Result<()> {
    if segmenter.model().network.labeling().and_then(|l| l.sigmoid()).is_none() {
        return Err(error!(
            Usage,
            "thresholds apply to sigmoid outputs; the network has a softmax"
        )
        .file(args.model.weights()));
    }
    let ignored = ignored_labels(&subject.table);
    let empty = || Confusion::new(subject.table.len(), &ignored);
    let mut confusions =
        args.thresholds.iter().map(|_| empty()).collect::<Result<Vec<Confusion>>>()?;
    let bar = args.bar(subject.pairs.len());
    let best = RefCell::new(Best::default());
    evaluate(
        &mut |image| predict(args, segmenter, image, &best).map(|result| result.labels),
        &subject.pairs,
        &subject.table,
        &mut |scored| {
            for (confusion, &threshold) in confusions.iter_mut().zip(&args.thresholds) {
                let labels = best.borrow().labels(threshold);
                confusion
                    .add(&scored.truth.labels, &labels)
                    .map_err(|e| e.file(scored.pair.mask.path()))?;
            }
            bar.inc(1);
            bar.set_message(printable(&scored.pair.name).into_owned());
            Ok(())
        },
    )?;
    bar.finish_and_clear();
    let report = report(args, segmenter, subject, &confusions);
    if args.json { print_json(&report) } else { print(&report.text()) }
}

/// Segments an image, and keeps the most probable output of each pixel.
fn predict(
    args: &Args,
    segmenter: &Segmenter,
    image: &Image,
    best: &RefCell<Best>,
) -> Result<Segmentation> {
    let size = args.size.size.unwrap_or_else(|| segmenter.default_size());
    let mut found = Best::default();
    let result = segmenter.segment_in_strips(image, size, OutputOptions::default(), |strip| {
        if strip.first_row == 0 {
            found = Best::default();
        }
        let classes = strip.probabilities.shape().c;
        for pixel in strip.probabilities.f32().chunks_exact(classes) {
            let outputs = pixel.iter().copied().zip(0..).skip(1);
            let (p, class) = outputs.fold((0.0, 0), |a, b| if b.0 > a.0 { b } else { a });
            found.classes.push(class);
            found.probabilities.push(p);
        }
        Ok(())
    })?;
    best.replace(found);
    Ok(result)
}

fn report<'a>(
    args: &'a Args,
    segmenter: &Segmenter,
    subject: &'a Subject,
    confusions: &[Confusion],
) -> Report<'a> {
    let rows = args.thresholds.iter().zip(confusions).map(|(threshold, confusion)| Row {
        threshold: threshold.probability(),
        scores: confusion.scores(&subject.table),
    });
    let thresholds: Vec<Row> = rows.collect();
    // Of equal ones the first.
    let best = thresholds.iter().rev().max_by(|a, b| a.quality().total_cmp(&b.quality()));
    Report {
        weights: args.model.weights(),
        data: &subject.source,
        split: subject.split.as_deref(),
        images: subject.pairs.len(),
        device: segmenter.device().to_string(),
        size: args.size.size.unwrap_or_else(|| segmenter.default_size()).to_string(),
        best: best.filter(|row| row.quality() >= 0.0).map(|row| row.threshold),
        thresholds,
    }
}

impl Row {
    /// IoU of the only foreground, else mIoU; negative if there is none.
    fn quality(&self) -> f64 {
        let only = || self.scores.classes[1].iou;
        let quality = if self.is_binary() { only() } else { self.scores.mean_iou };
        quality.unwrap_or(-1.0)
    }

    fn is_binary(&self) -> bool {
        self.scores.classes.len() == 2
    }
}

impl Report<'_> {
    fn text(&self) -> String {
        let is_binary = self.thresholds.iter().all(Row::is_binary);
        let mut rows =
            vec![["threshold", "mIoU %", "pixel accuracy %"].map(str::to_owned).to_vec()];
        if let Some(row) = self.thresholds.first().filter(|_| is_binary) {
            let foreground = printable(&row.scores.classes[1].name);
            rows[0] = vec!["threshold".to_owned(), format!("{foreground}: IoU %")];
            let others = ["accuracy %", "precision %", "mIoU %", "pixel accuracy %"];
            rows[0].extend(others.map(str::to_owned));
        }
        for Row { threshold, scores } in &self.thresholds {
            let mut row = vec![threshold.to_string()];
            if is_binary {
                let class = &scores.classes[1];
                row.extend([class.iou, class.accuracy, class.precision].map(percent));
            }
            row.extend([scores.mean_iou, scores.pixel_accuracy].map(percent));
            rows.push(row);
        }
        let mut text = table(&rows, &(0..rows[0].len()).collect::<Vec<_>>());
        if let Some(best) = self.best {
            text += &format!(
                "\nbest: {best}; `atrous import {} OUT.safetensors --threshold {best}` stores it\n",
                text::path(self.weights)
            );
        }
        text
    }
}
