//! Segmentation of images: one result each, and the report.

use super::inputs::Job;
use super::masks::{self, MaskFile};
use super::objects::{ObjectWriter, names_file};
use super::probabilities::Extras;
use super::results::write_confidence;
use super::stream::{STANDARD_INPUT, is_stream};
use super::views::Engine;
use super::work::overlapped;
use super::{Args, Setup, Tools, write};
use crate::cli::console::{json, print, progress, say, say_error};
use crate::cli::interrupt::on_interrupt;
use crate::error::{Error, Result, error};
use crate::files::{json_path, refuse_special};
use crate::geometry::Size;
use crate::image::{DecodeOptions, Image, LegendEntry, legend, legend_table};
use crate::segmenter::Segmentation;
use crate::text;
use indicatif::ProgressBar;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// The result for one image.
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
    size: Option<Size>,
    /// Width and height of the network's input.
    #[serde(skip_serializing_if = "Option::is_none")]
    network_size: Option<Size>,
    classes: Vec<LegendEntry>,
    /// One file per class, if classes can overlap.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    masks: Vec<MaskFile>,
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
            masks: Vec::new(),
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
    #[serde(flatten)]
    setup: Setup<'a>,
    /// The size rule: `native`, `513`, `short:520` or `640x480`.
    size: String,
    images: &'a [Outcome],
}

/// Segments the images and reports on them. A failure of one does not stop the others; a signal
/// stops after those under way. `piped` is the image on standard input.
pub(super) fn run(args: &Args, jobs: &[Job], piped: Option<&[u8]>) -> Result<()> {
    let stop = on_interrupt("stopping after the images in progress")?;
    let tools = &Tools::open(args)?;
    masks::check(args, tools, jobs)?;
    let bar = progress(Some(jobs.len() as u64), "images", args.quiet || jobs.len() == 1);
    let mut outcomes = work(args, jobs, piped, tools, &stop, &bar)?;
    bar.finish_and_clear();

    let reported = report(args, tools, &outcomes);
    // A failed image takes precedence over an error while printing the report.
    let failed = outcomes.iter().filter(|o| o.error.is_some()).count();
    if outcomes.len() < jobs.len() {
        let failed =
            if failed == 0 { String::new() } else { format!(", {failed} of them with errors") };
        return Err(error!(
            Image,
            "stopped after {} of {}{failed}",
            outcomes.len(),
            text::count(jobs.len(), "image")
        ));
    }
    match (failed, outcomes.pop().and_then(|o| o.error)) {
        (0, _) => reported,
        (1, Some(error)) if jobs.len() == 1 => Err(error),
        _ => Err(error!(Image, "{failed} of {} failed", text::count(jobs.len(), "image"))),
    }
}

fn report(args: &Args, tools: &Tools, outcomes: &[Outcome]) -> Result<()> {
    if args.json {
        let size = args.size.size.unwrap_or_else(|| tools.segmenter.default_size()).to_string();
        let text = json(&Report { setup: tools.setup(args), size, images: outcomes })?;
        return put(&text, outcomes);
    }
    let mut printed = Ok(());
    for outcome in outcomes {
        match &outcome.error {
            // A single error is printed when the program exits.
            Some(_) if outcomes.len() == 1 => {}
            Some(error) => say_error(error),
            None if printed.is_ok() => {
                printed = show(args, outcome).map_or(Ok(()), |text| put(&text, outcomes));
            }
            None => {}
        }
    }
    printed
}

/// Prints a report: to standard output, or to standard error if a result is there.
fn put(text: &str, outcomes: &[Outcome]) -> Result<()> {
    if outcomes.iter().any(|outcome| outcome.output.as_deref().is_some_and(is_stream)) {
        say(text.trim_end());
        return Ok(());
    }
    print(text)
}

/// Processes the images in order until `stop` is set, and returns their outcomes.
fn work<'a>(
    args: &Args,
    jobs: &'a [Job],
    piped: Option<&[u8]>,
    tools: &Tools,
    stop: &AtomicBool,
    bar: &ProgressBar,
) -> Result<Vec<Outcome>> {
    let mut engine = Engine::new(args, tools)?;
    let mut objects = ObjectWriter::new(args, tools);
    let decode = DecodeOptions { first_frame: args.first_frame, ..DecodeOptions::default() };
    let mut outcomes = Vec::with_capacity(jobs.len());
    let decoded = jobs.iter().take_while(|_| !stop.load(Ordering::Relaxed)).map(|job| {
        let image = match piped.filter(|_| is_stream(&job.input)) {
            Some(bytes) => decode.decode_bytes(bytes, STANDARD_INPUT),
            None => refuse_special(&job.input, "an image").and_then(|()| decode.decode(&job.input)),
        };
        (job, image)
    });
    let network = |(job, image): (&'a Job, Result<Image>)| {
        let result = image.and_then(|image| {
            let result = Extras::segment(args, tools, &mut engine, job, &image);
            let (segmentation, extras) = result.map_err(|e| e.file(&job.input))?;
            Ok((image, segmentation, extras))
        });
        if let Ok((image, segmentation, _)) = &result {
            log_times(job, image, segmentation);
        }
        (job, result)
    };
    let bytes =
        |(_, image): &(&Job, Result<Image>)| image.as_ref().map_or(0, |image| image.rgb.len());
    overlapped(decoded, bytes, network, |(job, result)| {
        let written = result.and_then(|(mut image, mut segmentation, extras)| {
            let mut outcome = outcome(args, job, &mut image, &segmentation, tools);
            let (size, confidence) = (image.size(), segmentation.confidence.take());
            match &mut objects {
                Some(objects) => outcome.notes.extend(objects.add(job, &segmentation.labels)?),
                None => write::image(args, tools, job, image, segmentation)?,
            }
            let path = args.results.confidence_path(&job.output);
            if let (Some(confidence), Some(path)) = (confidence, path) {
                outcome.notes.push(write_confidence(&path, size, &confidence)?);
            }
            let (masks, notes) = extras.write(&job.output, &tools.table)?;
            outcome.masks = masks;
            outcome.notes.extend(notes);
            Ok(outcome)
        });
        outcomes.push(written.unwrap_or_else(|e| Outcome::failed(job.input.clone(), e)));
        bar.inc(1);
        bar.set_message(text::path(&job.input));
        ControlFlow::Continue(())
    })?;
    if let (Some(objects), Some(job)) = (objects, jobs.first()) {
        let has_some = outcomes.iter().any(|outcome| outcome.error.is_none());
        objects.finish(&job.output, names_file(args, jobs).as_deref().filter(|_| has_some))?;
    }
    Ok(outcomes)
}

fn log_times(job: &Job, image: &Image, segmentation: &Segmentation) {
    log::info!(
        "{}: {} pixels at {}, network {:.1?}, labels {:.1?}",
        job.input.display(),
        image.size(),
        segmentation.fit.padded,
        segmentation.network_time,
        segmentation.labels_time
    );
}

fn outcome(
    args: &Args,
    job: &Job,
    image: &mut Image,
    segmentation: &Segmentation,
    tools: &Tools,
) -> Outcome {
    let time = segmentation.network_time + segmentation.labels_time;
    let classes = legend(&segmentation.labels, &tools.table);
    let mut notes = std::mem::take(&mut image.notes);
    let is_absent =
        |&&class: &&usize| !classes.iter().any(|entry| usize::from(entry.class) == class);
    // Of the default, all but the background, most are absent from every image.
    if !args.keep.is_empty() {
        let absent = tools.keep.iter().filter(is_absent);
        for &class in absent {
            let name = &tools.table.names[class];
            log::warn!("{}: no pixel is `{name}`, which --keep names", job.input.display());
            if args.json {
                notes.push(format!("no pixel is `{name}`"));
            }
        }
    }
    Outcome {
        input: job.input.clone(),
        error: None,
        output: Some(job.output.clone()),
        size: Some(image.size()),
        network_size: Some(segmentation.fit.padded),
        classes,
        masks: Vec::new(),
        notes,
        milliseconds: Some(time.as_secs_f64() * 1e3),
    }
}

/// Describes the result for an image, unless nothing is to be printed.
fn show(args: &Args, outcome: &Outcome) -> Option<String> {
    if args.quiet {
        return None;
    }
    let (size, output) = (outcome.size?, outcome.output.as_ref()?);
    let ms = outcome.milliseconds.unwrap_or_default();
    let notes: String =
        outcome.notes.iter().map(|n| format!("  note: {}\n", text::printable(n))).collect();
    let swatches = if is_stream(output) {
        std::io::stderr().is_terminal()
    } else {
        std::io::stdout().is_terminal()
    };
    Some(format!(
        "{} ({size}, {ms:.0} ms) -> {}\n{notes}{}",
        text::path(&outcome.input),
        text::path(output),
        legend_table(&outcome.classes, swatches)
    ))
}
