//! `--ablation`: a table like those of the paper.

use super::super::console::{print, print_json, say};
use super::super::format::table;
use super::report::{giga, percent};
use super::{Args, Subject, score, windows};
use crate::error::Result;
use crate::eval::{PredictOptions, Predictor};
use crate::models::Decoder;
use crate::segmenter::Model;

/// The paper's scales.
const SCALES: [f64; 6] = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75];

/// Output strides, and whether several scales and the mirror are used, as in tables 3 and 5 of the
/// paper.
const ROWS: [(usize, bool, bool); 6] = [
    (16, false, false),
    (16, true, false),
    (16, true, true),
    (8, false, false),
    (8, true, false),
    (8, true, true),
];

#[derive(serde::Serialize)]
struct Row {
    output_stride: usize,
    decoder: bool,
    multi_scale: bool,
    flip: bool,
    mean_iou: Option<f64>,
    pixel_accuracy: Option<f64>,
    /// Multi-Adds of all forward passes for an image; mean over the images.
    multi_adds: u64,
    /// Median time of an image on the device.
    milliseconds: f64,
}

pub(super) fn run(args: &Args, model: Model, subject: &Subject) -> Result<()> {
    let options = args.options();
    let scales = if args.scales.is_empty() { SCALES.to_vec() } else { options.scales.clone() };
    let decoder =
        model.config()?.head.as_ref().is_some_and(|h| matches!(h.decoder, Decoder::Plus(_)));
    // Networks of both strides share the weights.
    let mut rows = Vec::new();
    for (output_stride, multi_scale, flip) in ROWS {
        let segmenter = args.segmenter(model.clone().with_output_stride(output_stride)?)?;
        if rows.is_empty() && !args.quiet && !args.json {
            say(&format!("device: {}", segmenter.device()));
        }
        let scales = if multi_scale { scales.clone() } else { vec![1.0] };
        let bar = args.bar(subject.pairs.len());
        let mut predictor = windows::shown(
            Predictor::new(&segmenter, PredictOptions { scales, flip, ..options.clone() })?,
            &bar,
        );
        if rows.is_empty() {
            windows::announce(args, &predictor, subject);
        }
        let outcome = score(&bar, &mut predictor, subject, None)?;
        let scores = outcome.confusion.scores(&subject.table);
        rows.push(Row {
            output_stride,
            decoder,
            multi_scale,
            flip,
            mean_iou: scores.mean_iou,
            pixel_accuracy: scores.pixel_accuracy,
            multi_adds: outcome.multi_adds,
            milliseconds: outcome.time.as_secs_f64() * 1e3,
        });
    }
    if args.json { print_json(&rows) } else { print(&text(&rows)) }
}

fn text(rows: &[Row]) -> String {
    let yes = |set: bool| if set { "yes" } else { "" }.to_owned();
    let head =
        ["OS", "decoder", "MS", "flip", "mIoU %", "pixel acc. %", "Multi-Adds", "ms per image"];
    let mut all = vec![head.map(str::to_owned).to_vec()];
    all.extend(rows.iter().map(|r| {
        vec![
            r.output_stride.to_string(),
            yes(r.decoder),
            yes(r.multi_scale),
            yes(r.flip),
            percent(r.mean_iou),
            percent(r.pixel_accuracy),
            format!("{} B", giga(r.multi_adds)),
            format!("{:.1}", r.milliseconds),
        ]
    }));
    table(&all, &[0, 4, 5, 6, 7])
}
