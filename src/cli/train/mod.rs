//! `atrous train`: train a network on images and masks.

mod about;
mod bar;
mod memory;
mod settings;

pub(in crate::cli) use memory::size;

use super::interrupt::on_interrupt;
use crate::data::MOST_WORKERS;
use crate::error::{Result, error};
use crate::eval::Confusion;
use crate::exec::Device;
use crate::gpu::DeviceChoice;
use crate::image::ClassTable;
use crate::segmenter::Model;
use crate::text;
use crate::train::{
    Ending, InitialModel, Origin, Run, RunContext, RunDirectory, Scoring, Trainer, TrainingData,
};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  atrous train --data mine/ --init deeplab.safetensors --steps 2000 --learning-rate 0.003 -o runs/mine
  atrous train --data camvid/ --recipe recipes/camvid.toml -o runs/camvid
  atrous train --resume -o runs/mine
  atrous segment street.png --weights runs/mine/best.safetensors

The run directory contains best.safetensors and last.safetensors, which all other commands accept,
report.html, log.jsonl, event files for TensorBoard, the recipe, and a checkpoint. A resumed run
produces the same bits as one that was never interrupted.";

/// Train a network on images and masks
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// Data set directory: images/ and masks/, NAME/ and NAMEannot/, or the layout of PASCAL VOC,
    /// Cityscapes or ADE20K
    #[arg(long, value_name = "DIR", required_unless_present = "resume")]
    data: Option<PathBuf>,

    /// Run directory, created if it does not exist
    #[arg(short, long, value_name = "DIR", alias = "out")]
    output: PathBuf,

    /// Resume the run in this directory with its original settings
    #[arg(long, conflicts_with_all = ["data", "recipe", "init", "class_table", "classes"])]
    resume: bool,

    /// TOML file with settings; options override it
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,

    /// Weights to start from, of any dialect: a backbone, or a segmentation network, whose
    /// classifier is replaced if the classes differ
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,

    /// File with class numbers, names and colors, one class a line; overrides the data set's own
    #[arg(long, value_name = "FILE")]
    class_table: Option<PathBuf>,

    /// Number of classes, if nothing names them
    #[arg(long, value_name = "N", conflicts_with = "class_table", value_parser = classes)]
    classes: Option<usize>,

    /// Print the plan and the memory estimate, then exit
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,

    /// Suppress the progress bar and evaluation lines
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    settings: settings::Settings,

    /// Device to train on: auto (a GPU if there is one, else the CPU), cpu, gpu, an index from
    /// `atrous devices`, or backend:name such as vulkan:llvmpipe
    #[arg(short, long, default_value = "auto", value_name = "DEVICE", env = "ATROUS_DEVICE")]
    #[arg(help_heading = "Device")]
    device: DeviceChoice,

    /// Limit the memory for training, for example to 4GiB: recomputes activations or accumulates
    /// smaller batches if necessary. Scratch memory of kernels and waiting images come on top
    #[arg(long, conflicts_with = "resume", value_name = "SIZE", value_parser = memory::size)]
    #[arg(help_heading = "Device")]
    max_memory: Option<u64>,

    /// Threads that load images and make batches [default: one less than the cores]
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N", value_parser = workers)]
    #[arg(help_heading = "Device")]
    workers: usize,
}

pub(in crate::cli) fn run(args: &Args) -> Result<()> {
    let stop = on_interrupt("stopping after this step")?;
    let command = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    if let Some(flag) = args.settings.first_given().filter(|_| args.resume) {
        return Err(error!(
            Usage,
            "`{flag}` cannot be combined with `--resume`, which keeps the run's settings"
        )
        .advice("start another run, with `--init` and the weights of this one"));
    }
    // First, since all other work would be in vain if another process trains in the directory.
    let mut directory = match (args.resume, args.dry_run) {
        (true, _) => Some(RunDirectory::open(&args.output)?),
        (false, false) => Some(RunDirectory::create(&args.output)?),
        (false, true) => None,
    };
    let device = Device::open(&args.device)?;
    let context = RunContext {
        device: &device,
        workers: args.workers,
        command: &command,
        stop: Some(&*stop),
    };
    let say = |text: String| {
        if !args.quiet {
            super::console::say(&text);
        }
    };
    let mut run = if let Some(directory) = directory.take_if(|_| args.resume) {
        let run = Run::resume(directory, context)?;
        say(format!("device: {device}; {}", about::resumed(&run)));
        run
    } else {
        let Some(data) = &args.data else { return Err(error!(Usage, "`--data` is required")) };
        let mut recipe = args.settings.recipe(args.recipe.as_deref())?;
        let origin =
            Origin { data: absolute(data)?, classes: table(args)?, init: args.init.clone() };
        let init = args.init.as_deref().map(Model::open).transpose()?;
        let (of, how) = (origin.clone(), recipe.clone());
        let sets = context.wait_for(move || TrainingData::open(&of, &how))?;
        args.settings.apply_epochs(&mut recipe, sets.training.len());
        let initial = InitialModel::new(&recipe.network, &sets.table, recipe.seed, init.as_ref())?;
        say(format!("device: {device}"));
        say(sets.to_string());
        say(about::network(&initial, args.init.as_deref()));
        recipe.ignore_none_of(sets.table.len()).into_iter().for_each(say);
        about::narrow_crops(&initial.config, recipe.augmentation.crop).into_iter().for_each(say);
        let (on, network, pairs) = (device.clone(), initial.clone(), sets.validation.clone());
        let scoring = context.wait_for(move || Scoring::new(&on, &network, &pairs))?;
        let (need, notes) = match args.max_memory {
            Some(limit) => {
                memory::fit(&mut recipe, &device, &initial.config, limit, scoring.as_ref())?
            }
            None => (Trainer::need(&device, &initial.config, &recipe.options()?)?, Vec::new()),
        };
        notes.into_iter().for_each(say);
        about::accumulated(recipe.batch, recipe.accumulate, sets.training.len())
            .into_iter()
            .for_each(say);
        let more = scoring.map_or_else(String::new, |scoring| format!("; {scoring}"));
        say(format!("memory: {need}{more}"));
        let Some(directory) = directory else { return Ok(()) };
        Run::begin(directory, recipe, origin, sets, &initial, context)?
    };
    for norm in run.trainer().too_small() {
        say(format!(
            "note: `{norm}` keeps its running statistics: a batch of one image has one value per channel there"
        ));
    }
    let mut bar = bar::Bar::new(u64::from(run.recipe().steps), run.step(), args.quiet);
    let ending = run.go(&stop, &mut |event| bar.show(&event));
    bar.finish();
    match ending? {
        Ending::Stopped => {
            let due = if run.evaluation_due() { ", before its evaluation" } else { "" };
            say(format!(
                "stopped after step {}{due}; resume with `atrous train --resume -o {}`",
                run.step(),
                text::path(&args.output)
            ))
        }
        Ending::Finished => {
            let gone = if args.output.join("best.safetensors").exists() {
                ""
            } else {
                " (best.safetensors was removed)"
            };
            let best = run.best().map_or_else(String::new, |(miou, step)| {
                format!("; best mIoU {miou:.4} after step {step}{gone}")
            });
            say(format!(
                "done: {} steps{best}; see {}",
                run.step(),
                text::path(args.output.join("report.html"))
            ));
        }
    }
    Ok(())
}

/// Parses a number from `least` to `most`, so that nothing is allocated for a larger one.
fn within(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

fn workers(text: &str) -> Result<usize, String> {
    within(text, 0, MOST_WORKERS)
}

fn classes(text: &str) -> Result<usize, String> {
    within(text, 1, Confusion::MOST_CLASSES)
}

/// Returns the absolute path: a run may be resumed from another directory.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| crate::error::Error::io(path, "is not a valid path", e))
}

fn table(args: &Args) -> Result<Option<ClassTable>> {
    match (&args.class_table, args.classes) {
        (Some(path), _) => ClassTable::read(path).map(Some),
        (None, Some(n)) => Ok(Some(ClassTable::generic(n))),
        (None, None) => Ok(None),
    }
}
