//! The report of `atrous eval` as text and JSON.

use super::super::format::{stride, table, thousands};
use super::{Args, Outcome, Subject};
use crate::data::DataSource;
use crate::eval::{Band, PredictOptions, Scores, TrimapAround};
use crate::files::json_path;
use crate::ops::Threshold;
use crate::segmenter::Segmenter;
use std::path::Path;

#[derive(serde::Serialize)]
pub(super) struct Report<'a> {
    #[serde(serialize_with = "json_path::serialize")]
    weights: &'a Path,
    data: &'a DataSource,
    split: Option<&'a str>,
    images: usize,
    device: String,
    /// `native`, a long side, or width x height.
    size: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_stride: Option<usize>,
    /// Probability above which a sigmoid output holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f32>,
    scales: &'a [f64],
    flip: bool,
    /// Width and height of the windows, and the distances between them.
    window: Option<[usize; 4]>,
    /// Multi-Adds of all forward passes for an image; mean over the images.
    multi_adds: u64,
    /// Median time of an image on the device.
    milliseconds: f64,
    scores: Scores,
    trimap: Vec<Band>,
    /// The border that the bands surround, and the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    trimap_around: Option<TrimapAround>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trimap_around_reason: Option<&'static str>,
}

impl<'a> Report<'a> {
    pub fn new(
        args: &'a Args,
        segmenter: &Segmenter,
        options: &'a PredictOptions,
        subject: &'a Subject,
        outcome: &Outcome,
    ) -> Self {
        Self {
            weights: args.model.weights(),
            data: &subject.source,
            split: subject.split.as_deref(),
            images: subject.pairs.len(),
            device: segmenter.device().to_string(),
            size: options.size.unwrap_or_else(|| segmenter.default_size()).to_string(),
            output_stride: segmenter.model().network.output_stride(),
            threshold: segmenter
                .model()
                .network
                .labeling()
                .and_then(|labeling| labeling.sigmoid())
                .map(Threshold::probability),
            scales: &options.scales,
            flip: options.flip,
            window: options.window.map(|w| [w.size.width, w.size.height, w.stride.x, w.stride.y]),
            multi_adds: outcome.multi_adds,
            milliseconds: outcome.time.as_secs_f64() * 1e3,
            scores: outcome.confusion.scores(&subject.table),
            trimap: outcome.trimap.as_ref().map(|t| t.bands.clone()).unwrap_or_default(),
            trimap_around: outcome.trimap.as_ref().map(|t| t.around),
            trimap_around_reason: outcome.trimap.as_ref().map(|t| t.reason),
        }
    }

    pub fn text(&self) -> String {
        let mut rows = vec![
            ["class", "IoU %", "accuracy %", "precision %", "pixels"].map(str::to_owned).to_vec(),
        ];
        rows.extend(self.scores.classes.iter().map(|c| {
            vec![
                c.name.clone(),
                percent(c.iou),
                percent(c.accuracy),
                percent(c.precision),
                thousands(c.truth_pixels),
            ]
        }));
        let mut text = table(&rows, &[1, 2, 3, 4]);
        if !self.trimap.is_empty() {
            let mut rows = vec![
                ["band, pixels", "mIoU %", "pixel accuracy %", "pixels"]
                    .map(str::to_owned)
                    .to_vec(),
            ];
            rows.extend(self.trimap.iter().map(|b| {
                vec![
                    b.width.to_string(),
                    percent(b.mean_iou),
                    percent(b.pixel_accuracy),
                    thousands(b.pixels),
                ]
            }));
            text += "\n";
            text += &table(&rows, &[0, 1, 2, 3]);
        }
        let scores = &self.scores;
        let mut rows = vec![
            ("mIoU", miou(scores)),
            ("pixel accuracy", format!("{} %", percent(scores.pixel_accuracy))),
            ("mean accuracy", format!("{} %", percent(scores.mean_accuracy))),
            ("images", self.images.to_string()),
            ("settings", self.settings()),
            ("Multi-Adds", format!("{} B per image", giga(self.multi_adds))),
            ("time", format!("{:.1} ms per image (median)", self.milliseconds)),
        ];
        if let (Some(around), Some(reason)) = (self.trimap_around, self.trimap_around_reason) {
            rows.push(("bands", format!("around {around} ({reason}; set by --trimap-around)")));
        }
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        format!("{text}\n{}", table(&rows, &[]))
    }

    /// How the images were segmented, in one line.
    fn settings(&self) -> String {
        let scales: Vec<String> = self.scales.iter().map(f64::to_string).collect();
        let mut settings = format!("size {}{}", self.size, stride(self.output_stride));
        if let Some(threshold) = self.threshold {
            settings += &format!(", threshold {threshold}");
        }
        if scales != ["1"] {
            settings += &format!(", scales {}", scales.join(" "));
        }
        if self.flip {
            settings += ", mirrored";
        }
        if let Some([w, h, x, y]) = self.window {
            settings += &format!(", windows of {w}x{h} every {x}x{y}");
        }
        settings
    }
}

/// Formats the mean IoU, with the number of classes if it is not over all.
fn miou(scores: &Scores) -> String {
    let coverage = scores.coverage().filter(|_| scores.mean_iou.is_some());
    let coverage = coverage.map_or_else(String::new, |coverage| format!(", {coverage}"));
    format!("{} %{coverage}", percent(scores.mean_iou))
}

/// Formats a fraction in percent, without the sign; `None` as a dash.
pub(super) fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{:.2}", 100.0 * v))
}

pub(super) fn giga(multi_adds: u64) -> String {
    format!("{:.2}", multi_adds as f64 / 1e9)
}
