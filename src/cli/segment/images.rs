//! Images, one result each: what became of them, and how it is told.

use super::inputs::Job;
use super::work::overlapped;
use super::{Args, Tools, probabilities, write};
use crate::cli::args::{print, print_json};
use crate::cli::interrupt::on_interrupt;
use crate::error::{Error, Result, error};
use crate::files::{json_path, refuse_special};
use crate::image::{DecodeOptions, Image, LegendEntry, legend, legend_table};
use crate::segmenter::Segmentation;
use crate::text;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// What became of one image.
#[derive(Debug, serde::Serialize)]
struct Outcome {
    #[serde(serialize_with = "json_path::serialize")]
    input: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    error: Option<Error>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "json_path::optional::serialize"
    )]
    output: Option<PathBuf>,
    /// Width and height.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<(usize, usize)>,
    /// Width and height of the network's input.
    #[serde(skip_serializing_if = "Option::is_none")]
    network_size: Option<(usize, usize)>,
    classes: Vec<LegendEntry>,
    notes: Vec<String>,
    /// Milliseconds on the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<f64>,
}

impl Outcome {
    fn failed(input: PathBuf, error: Error) -> Self {
        Self {
            input,
            error: Some(error),
            output: None,
            size: None,
            network_size: None,
            classes: Vec::new(),
            notes: Vec::new(),
            milliseconds: None,
        }
    }
}

fn text<S: serde::Serializer>(error: &Option<Error>, serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&error.as_ref().map(Error::to_string), serializer)
}

#[derive(serde::Serialize)]
struct Report<'a> {
    device: &'a str,
    #[serde(serialize_with = "json_path::serialize")]
    weights: &'a std::path::Path,
    style: &'static str,
    /// The size rule: `native`, `513`, `short:520` or `640x480`.
    size: String,
    images: &'a [Outcome],
}

/// Segments the images and reports on them. A failure of one does not stop the others; a signal
/// stops after those under way.
pub(super) fn run(args: &Args, jobs: &[Job]) -> Result<()> {
    let stop = on_interrupt("stopping after the images under way")?;
    let tools = &Tools::open(args)?;
    let bar = progress(args, jobs.len());
    let mut outcomes = work(args, jobs, tools, &stop, &bar)?;
    bar.finish_and_clear();

    let reported = report(args, tools, &outcomes);
    // What failed outweighs a report that nobody reads any more.
    let failed = outcomes.iter().filter(|o| o.error.is_some()).count();
    if outcomes.len() < jobs.len() {
        let failed =
            if failed == 0 { String::new() } else { format!(", {failed} of them with errors") };
        return Err(error!(
            Image,
            "stopped after {} of {} images{failed}",
            outcomes.len(),
            jobs.len()
        ));
    }
    match (failed, outcomes.pop().and_then(|o| o.error)) {
        (0, _) => reported,
        (1, Some(error)) if jobs.len() == 1 => Err(error),
        _ => Err(error!(Image, "{failed} of {} images failed", jobs.len())),
    }
}

fn report(args: &Args, tools: &Tools, outcomes: &[Outcome]) -> Result<()> {
    if args.json {
        let weights = &tools.segmenter.model().path;
        let size = args.size.unwrap_or_else(|| tools.segmenter.default_size()).to_string();
        return print_json(&Report {
            device: &tools.device,
            weights,
            style: args.style.suffix(),
            size,
            images: outcomes,
        });
    }
    let mut printed = Ok(());
    for outcome in outcomes {
        match &outcome.error {
            // The only one is what the program ends with.
            Some(_) if outcomes.len() == 1 => {}
            Some(error) => log::error!("{error}"),
            None if printed.is_ok() => printed = show(args, outcome),
            None => {}
        }
    }
    printed
}

/// What became of each image, in their order, up to where `stop` was set.
fn work<'a>(
    args: &Args,
    jobs: &'a [Job],
    tools: &Tools,
    stop: &AtomicBool,
    bar: &ProgressBar,
) -> Result<Vec<Outcome>> {
    let decode = DecodeOptions { first_frame: args.first_frame, ..DecodeOptions::default() };
    let mut outcomes = Vec::with_capacity(jobs.len());
    let decoded = jobs.iter().take_while(|_| !stop.load(Ordering::Relaxed)).map(|job| {
        let image = refuse_special(&job.input, "an image").and_then(|()| decode.decode(&job.input));
        (job, image)
    });
    let network = |(job, image): (&'a Job, Result<Image>)| {
        let found = image.and_then(|image| {
            let found = match args.probabilities {
                true => probabilities::segment(args, tools, job, &image, bar)
                    .map(|(found, file)| (found, Some(file))),
                false => tools.segment(args, &image).map(|found| (found, None)),
            };
            let (found, file) = found.map_err(|e| e.file(&job.input))?;
            Ok((image, found, file))
        });
        (job, found)
    };
    let bytes =
        |(_, image): &(&Job, Result<Image>)| image.as_ref().map_or(0, |image| image.rgb.len());
    overlapped(decoded, bytes, network, |(job, result)| {
        let written = result.and_then(|(mut image, found, file)| {
            let mut outcome = outcome(job, &mut image, &found, tools);
            write::image(args, tools, job, image, found)?;
            if let Some(file) = file {
                outcome.notes.push(file.note());
                file.commit()?;
            }
            Ok(outcome)
        });
        outcomes.push(written.unwrap_or_else(|e| Outcome::failed(job.input.clone(), e)));
        bar.inc(1);
        bar.set_message(text::path(&job.input));
        ControlFlow::Continue(())
    })?;
    Ok(outcomes)
}

fn outcome(job: &Job, image: &mut Image, found: &Segmentation, tools: &Tools) -> Outcome {
    let time = found.network_time + found.labels_time;
    Outcome {
        input: job.input.clone(),
        error: None,
        output: Some(job.output.clone()),
        size: Some((image.width, image.height)),
        network_size: Some(found.fit.padded),
        classes: legend(&found.labels, &tools.table),
        notes: std::mem::take(&mut image.notes),
        milliseconds: Some(time.as_secs_f64() * 1e3),
    }
}

fn progress(args: &Args, images: usize) -> ProgressBar {
    let shown = images > 1 && !args.quiet && std::io::stderr().is_terminal();
    let bar = ProgressBar::with_draw_target(
        Some(images as u64),
        if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
    );
    let style = ProgressStyle::with_template(
        "{bar:32} {pos}/{len} images  {per_sec}  {eta} left  {wide_msg}",
    );
    bar.set_style(style.expect("invariant: the template is well-formed"));
    bar
}

fn show(args: &Args, outcome: &Outcome) -> Result<()> {
    if args.quiet {
        return Ok(());
    }
    let (Some((w, h)), Some(output)) = (outcome.size, &outcome.output) else { return Ok(()) };
    let ms = outcome.milliseconds.unwrap_or_default();
    let notes: String =
        outcome.notes.iter().map(|n| format!("  note: {}\n", text::printable(n))).collect();
    let swatches = std::io::stdout().is_terminal();
    print(&format!(
        "{} ({w}x{h}, {ms:.0} ms) -> {}\n{notes}{}",
        text::path(&outcome.input),
        text::path(output),
        legend_table(&outcome.classes, swatches)
    ))
}
