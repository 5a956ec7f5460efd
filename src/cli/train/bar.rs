//! Progress of a training run on the terminal.

use crate::cli::console::say;
use crate::report::EvaluationRecord;
use crate::train::Event;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Interval of progress lines if standard error is not a terminal.
const LINE: Duration = Duration::from_secs(30);

/// A progress bar on a terminal, progress lines elsewhere.
pub(super) struct Bar {
    bar: ProgressBar,
    steps: u64,
    quiet: bool,
    last_line: Option<Instant>,
    miou: String,
}

impl Bar {
    pub(super) fn new(steps: u64, done: u64, quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(steps), target).with_position(done);
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {wide_msg}  {eta} left");
        let bar = bar.with_style(style.expect("invariant: the template is valid"));
        bar.reset_eta();
        Self { bar, steps, quiet, last_line: None, miou: String::new() }
    }

    pub(super) fn show(&mut self, event: &Event) {
        match event {
            Event::Step { step, loss, learning_rate, images_per_second, idle } => {
                let idle = if *idle > 0.05 {
                    format!("  waiting for data {:.0} %", 100.0 * idle)
                } else {
                    String::new()
                };
                let text = format!(
                    "loss {loss:.4}{}  lr {learning_rate:.2e}  {images_per_second:.1} images/s{idle}",
                    self.miou
                );
                self.bar.set_position(*step);
                let due = self.last_line.is_none_or(|last| last.elapsed() > LINE);
                if self.bar.is_hidden() && !self.quiet && due {
                    self.last_line = Some(Instant::now());
                    say(&format!("step {step}/{}  {text}", self.steps));
                }
                self.bar.set_message(text);
            }
            Event::Scored { done, total } => {
                self.bar.set_message(format!("evaluating: {done} of {total}"))
            }
            Event::Evaluated(record) => {
                if let Some(miou) = record.mean_iou {
                    self.miou = format!("  mIoU {miou:.4}");
                }
                let line = evaluated(record);
                match (self.quiet, self.bar.is_hidden()) {
                    (true, _) => {}
                    (false, true) => say(&line),
                    (false, false) => self.bar.println(line),
                }
            }
            Event::Saved { .. } => {}
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Describes an evaluation in a line.
fn evaluated(record: &EvaluationRecord) -> String {
    let Some(miou) = record.mean_iou else {
        return format!(
            "step {}: no score, because all pixels of the validation masks are ignored",
            record.step
        );
    };
    let best = if record.best { " (best)" } else { "" };
    let (covered, all) = (record.covered_classes, record.class_ious.len());
    let over =
        if covered < all { format!(" over {covered} of {all} classes") } else { String::new() };
    let loss = record.loss.map_or_else(String::new, |loss| format!(", loss {loss:.4}"));
    let accuracy = 100.0 * record.pixel_accuracy.unwrap_or(0.0);
    format!(
        "step {}: mIoU {miou:.4}{over}{best}, pixel accuracy {accuracy:.1} %{loss} ({:.0} s)",
        record.step, record.seconds
    )
}
