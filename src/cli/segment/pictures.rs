//! Pictures, one result each: what became of them, and how it is told.

use super::inputs::Job;
use super::work::overlapped;
use super::{Args, Tools, probabilities, write};
use crate::cli::args::{print, print_json};
use crate::cli::interrupt::on_interrupt;
use crate::error::{Error, Result, error};
use crate::files::{json_path, refuse_special};
use crate::image::{DecodeOptions, LegendEntry, Picture, legend, legend_table};
use crate::segmenter::Segmentation;
use crate::text;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// What became of one picture.
#[derive(Debug, serde::Serialize)]
struct Outcome {
    #[serde(serialize_with = "json_path::serialize")]
    input: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    error: Option<Error>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "json_path::optional::serialize")]
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
    pictures: &'a [Outcome],
}

/// Segments the pictures and reports on them. A failure of one does not stop the others; a signal stops after those under way.
pub(super) fn run(args: &Args, jobs: &[Job]) -> Result<()> {
    let stop = on_interrupt("stopping after the pictures under way")?;
    let tools = &Tools::open(args)?;
    let bar = progress(args, jobs.len());
    let mut outcomes = work(args, jobs, tools, &stop, &bar)?;
    bar.finish_and_clear();

    let reported = report(args, tools, &outcomes);
    // What failed outweighs a report that nobody reads any more.
    let failed = outcomes.iter().filter(|o| o.error.is_some()).count();
    if outcomes.len() < jobs.len() {
        let failed = if failed == 0 { String::new() } else { format!(", {failed} of them with errors") };
        return Err(error!(Picture, "stopped after {} of {} pictures{failed}", outcomes.len(), jobs.len()));
    }
    match (failed, outcomes.pop().and_then(|o| o.error)) {
        (0, _) => reported,
        (1, Some(error)) if jobs.len() == 1 => Err(error),
        _ => Err(error!(Picture, "{failed} of {} pictures failed", jobs.len())),
    }
}

fn report(args: &Args, tools: &Tools, outcomes: &[Outcome]) -> Result<()> {
    if args.json {
        let weights = &tools.segmenter.model().path;
        let size = args.size.unwrap_or_else(|| tools.segmenter.usual_size()).to_string();
        return print_json(&Report { device: &tools.device, weights, style: args.style.suffix(), size, pictures: outcomes });
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

/// What became of each picture, in their order, up to where `stop` was set.
fn work<'a>(args: &Args, jobs: &'a [Job], tools: &Tools, stop: &AtomicBool, bar: &ProgressBar) -> Result<Vec<Outcome>> {
    let decode = DecodeOptions { first_frame: args.first_frame, ..DecodeOptions::default() };
    let mut outcomes = Vec::with_capacity(jobs.len());
    let decoded = jobs.iter().take_while(|_| !stop.load(Ordering::Relaxed)).map(|job| {
        let picture = refuse_special(&job.input, "an image").and_then(|()| decode.decode(&job.input));
        (job, picture)
    });
    let network = |(job, picture): (&'a Job, Result<Picture>)| {
        let found = picture.and_then(|picture| {
            let found = match args.probabilities {
                true => probabilities::segment(args, tools, job, &picture, bar).map(|(found, file)| (found, Some(file))),
                false => tools.segment(args, &picture).map(|found| (found, None)),
            };
            let (found, file) = found.map_err(|e| e.file(&job.input))?;
            Ok((picture, found, file))
        });
        (job, found)
    };
    let bytes = |(_, picture): &(&Job, Result<Picture>)| picture.as_ref().map_or(0, |picture| picture.rgb.len());
    overlapped(decoded, bytes, network, |(job, result)| {
        let written = result.and_then(|(mut picture, found, file)| {
            let mut outcome = outcome(job, &mut picture, &found, tools);
            write::picture(args, tools, job, picture, found)?;
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

fn outcome(job: &Job, picture: &mut Picture, found: &Segmentation, tools: &Tools) -> Outcome {
    let time = found.network_time + found.labels_time;
    Outcome {
        input: job.input.clone(),
        error: None,
        output: Some(job.output.clone()),
        size: Some((picture.width, picture.height)),
        network_size: Some(found.fit.padded),
        classes: legend(&found.labels, &tools.table),
        notes: std::mem::take(&mut picture.notes),
        milliseconds: Some(time.as_secs_f64() * 1e3),
    }
}

fn progress(args: &Args, pictures: usize) -> ProgressBar {
    let shown = pictures > 1 && !args.quiet && std::io::stderr().is_terminal();
    let bar = ProgressBar::with_draw_target(
        Some(pictures as u64),
        if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
    );
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} pictures  {per_sec}  {eta} left  {wide_msg}");
    bar.set_style(style.expect("invariant: the template is well-formed"));
    bar
}

fn show(args: &Args, outcome: &Outcome) -> Result<()> {
    if args.quiet {
        return Ok(());
    }
    let (Some((w, h)), Some(output)) = (outcome.size, &outcome.output) else { return Ok(()) };
    let ms = outcome.milliseconds.unwrap_or_default();
    let notes: String = outcome.notes.iter().map(|n| format!("  note: {}\n", text::printable(n))).collect();
    let swatches = std::io::stdout().is_terminal();
    print(&format!(
        "{} ({w}x{h}, {ms:.0} ms) -> {}\n{notes}{}",
        text::path(&outcome.input),
        text::path(output),
        legend_table(&outcome.classes, swatches)
    ))
}
