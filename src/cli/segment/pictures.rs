//! Pictures, one result each: what became of them, and how it is told.

use super::inputs::Job;
use super::work::overlapped;
use super::{Args, Tools, probabilities, write};
use crate::cli::args::{print, print_json};
use crate::error::{Error, ErrorKind, Result, error};
use crate::image::{DecodeOptions, LegendEntry, Picture, legend, legend_table};
use crate::segmenter::Segmentation;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// What became of one picture.
#[derive(Debug, serde::Serialize)]
struct Outcome {
    input: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
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
    fn failed(input: PathBuf, error: &Error) -> Self {
        Self {
            input,
            error: Some(error.to_string()),
            output: None,
            size: None,
            network_size: None,
            classes: Vec::new(),
            notes: Vec::new(),
            milliseconds: None,
        }
    }
}

#[derive(serde::Serialize)]
struct Report<'a> {
    device: &'a str,
    weights: &'a std::path::Path,
    style: &'static str,
    pictures: &'a [Outcome],
}

/// Segments the pictures and tells of them. A failure of one does not stop the others.
pub(super) fn run(args: &Args, jobs: &[Job], tools: &Tools) -> Result<()> {
    let bar = progress(args, jobs.len());
    let outcomes = work(args, jobs, tools, &bar);
    bar.finish_and_clear();

    if args.json {
        let weights = &tools.segmenter.model().path;
        print_json(&Report { device: &tools.device, weights, style: args.style.suffix(), pictures: &outcomes })?;
    } else {
        for outcome in &outcomes {
            show(args, outcome)?;
        }
    }
    match outcomes.iter().filter(|o| o.error.is_some()).count() {
        0 => Ok(()),
        _ if outcomes.len() == 1 => {
            let text = outcomes[0].error.clone().unwrap_or_default();
            Err(Error::new(ErrorKind::Picture, text))
        }
        failed => Err(error!(Picture, "{failed} of {} pictures failed", outcomes.len())),
    }
}

/// What became of each picture, in their order.
fn work(args: &Args, jobs: &[Job], tools: &Tools, bar: &ProgressBar) -> Vec<Outcome> {
    let decode = DecodeOptions { first_frame: args.first_frame, ..DecodeOptions::default() };
    let mut outcomes: Vec<Option<Outcome>> = jobs.iter().map(|_| None).collect();
    let decoded = jobs.iter().enumerate().map(|(index, job)| (index, decode.decode(&job.input)));
    let network = |(index, picture): (usize, Result<Picture>)| {
        let found = picture.and_then(|picture| {
            let job = &jobs[index];
            let found = match args.probabilities {
                true => probabilities::segment(args, tools, job, &picture, bar).map(|(found, file)| (found, Some(file))),
                false => tools.segment(args, &picture).map(|found| (found, None)),
            };
            let (found, file) = found.map_err(|e| e.file(&job.input))?;
            Ok((picture, found, file))
        });
        (index, found)
    };
    overlapped(decoded, network, |(index, result)| {
        let job = &jobs[index];
        let written = result.and_then(|(mut picture, found, file)| {
            let mut outcome = outcome(job, &mut picture, &found, tools);
            write::picture(args, tools, job, picture, found)?;
            if let Some(file) = file {
                outcome.notes.push(file.note());
                file.commit()?;
            }
            Ok(outcome)
        });
        outcomes[index] = Some(written.unwrap_or_else(|e| Outcome::failed(job.input.clone(), &e)));
        bar.inc(1);
        bar.set_message(job.input.display().to_string());
        ControlFlow::Continue(())
    });
    outcomes.into_iter().map(|o| o.expect("invariant: every job sends one result")).collect()
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
    if let Some(error) = &outcome.error {
        // A single failure is told by the exit.
        if args.inputs.len() > 1 || !args.quiet {
            log::error!("{error}");
        }
        return Ok(());
    }
    if args.quiet {
        return Ok(());
    }
    let (Some((w, h)), Some(output)) = (outcome.size, &outcome.output) else { return Ok(()) };
    let ms = outcome.milliseconds.unwrap_or_default();
    let notes: String = outcome.notes.iter().map(|n| format!("  note: {n}\n")).collect();
    let swatches = std::io::stdout().is_terminal();
    print(&format!(
        "{} ({w}x{h}, {ms:.0} ms) -> {}\n{notes}{}",
        outcome.input.display(),
        output.display(),
        legend_table(&outcome.classes, swatches)
    ))
}
