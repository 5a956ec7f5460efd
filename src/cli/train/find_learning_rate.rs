//! `atrous train --find-lr`: what the loss does while the learning rate rises.

use super::Args;
use super::prepare::Prepared;
use crate::cli::console::{json, print, progress};
use crate::cli::outputs::OutputCheck;
use crate::error::{Result, error};
use crate::files::atomic_write;
use crate::report::learning_rate_plot;
use crate::text;
use crate::train::{LearningRateSearch, RunContext};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Files of the result: the plot, and the numbers beside it.
pub(super) struct Files {
    plot: PathBuf,
    numbers: PathBuf,
}

impl Files {
    /// The files of `-o PLOT.svg`; `None` without it.
    pub(super) fn of(args: &Args) -> Result<Option<Self>> {
        let Some(plot) = args.output.as_deref() else { return Ok(None) };
        let is_svg =
            plot.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg"));
        if !is_svg {
            return Err(error!(Usage, "the plot of --find-lr is an .svg file")
                .file(plot)
                .advice("name one with -o, such as -o learning-rate.svg; the numbers are written beside it as .json"));
        }
        Ok(Some(Self { plot: plot.to_owned(), numbers: plot.with_extension("json") }))
    }

    /// Refuses to replace an input.
    pub(super) fn check(&self, outputs: &mut OutputCheck) -> Result<()> {
        outputs.writes(&self.plot, "the plot")?;
        outputs.writes(&self.numbers, "the numbers beside the plot")
    }

    fn write(&self, search: &LearningRateSearch) -> Result<()> {
        let point = |p: &crate::train::SearchPoint| [p.learning_rate, p.loss, p.smoothed];
        let points: Vec<[f64; 3]> = search.points.iter().map(point).collect();
        let plot = learning_rate_plot(&points, search.suggestion);
        let write = |path: &Path, text: &str| atomic_write(path, |w| w.write_all(text.as_bytes()));
        write(&self.numbers, &json(search)?)?;
        write(&self.plot, &plot)
    }
}

/// Runs the test, prints its result, and writes the files.
pub(super) fn run(args: &Args, prepared: Prepared, context: RunContext) -> Result<()> {
    let files = Files::of(args)?;
    let bar = progress(Some(LearningRateSearch::STEPS.into()), "steps", args.quiet);
    let Prepared { recipe, data, initial, .. } = prepared;
    let search = LearningRateSearch::run(recipe, data, &initial, context, |point| {
        bar.inc(1);
        bar.set_message(format!("lr {:.1e}  loss {:.4}", point.learning_rate, point.smoothed));
    })?;
    bar.finish_and_clear();
    if let Some(files) = &files {
        files.write(&search)?;
        args.say(&format!("see {} and {}", text::path(&files.plot), text::path(&files.numbers)));
    }
    print(&summary(&search))
}

fn summary(search: &LearningRateSearch) -> String {
    let [least, most] = LearningRateSearch::RANGE;
    let last = search.points.last().map_or(least, |point| point.learning_rate);
    let end = if search.diverged {
        format!("the loss diverged at {last:.1e}")
    } else {
        format!("the loss did not diverge up to {most}")
    };
    match search.suggestion {
        Some(rate) => {
            format!("suggested learning rate: {rate:.1e} ({}); {end}\n", search.rule)
        }
        None => format!(
            "no suggestion: the loss did not fall at any learning rate; {end}; check the data with `atrous doctor`, or use larger batches\n"
        ),
    }
}
