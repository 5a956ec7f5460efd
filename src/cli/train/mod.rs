//! `atrous train`: train a network on images and masks.

mod about;
mod bar;
mod crop;
mod find_learning_rate;
mod memory;
mod prepare;
mod settings;
mod values;

pub(in crate::cli) use memory::size;

use super::console::{print, say};
use super::data_args::DataArgs;
use super::interrupt::on_interrupt;
use super::outputs::OutputCheck;
use super::registries::data_help;
use super::statements::ConventionArgs;
use crate::data::MAX_WORKERS;
use crate::error::{Error, ErrorKind, Result, error};
use crate::eval::Confusion;
use crate::exec::Device;
use crate::gpu::DeviceChoice;
use crate::image::ClassTable;
use crate::segmenter::Model;
use crate::text;
use crate::train::BestScore;
use crate::train::{Ending, Recipe, Run, RunContext, RunDirectory};
use crate::weights::dialects::ReadOptions;
use prepare::Prepared;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

const EXAMPLES: &str = "\
Examples:
  atrous train --data mine/ --init deeplab.safetensors --epochs 20 -o runs/mine
  atrous train --data mine/ --init hf:timm/xception65.tf_in1k -o runs/mine
  atrous train --data camvid/ --recipe recipes/camvid.toml -o runs/camvid
  atrous train --print-recipe --steps 2000 > recipe.toml
  atrous train --data mine/ --find-lr -o learning-rate.svg
  atrous train --resume -o runs/mine
  atrous train --resume -o runs/mine --steps 20000
  atrous segment street.png --weights runs/mine/best.safetensors

The run directory contains best.safetensors and last.safetensors, which all other commands accept,
report.html, log.jsonl, event files for TensorBoard, the recipe, and a checkpoint. A resumed run
produces the same bits as one that was never interrupted.";

/// Train a network on images and masks
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(mut_arg("data", |data| data
    .required_unless_present_any(["resume", "print_recipe"])
    .help(format!("{}. Repeat it for several data sets with the same classes", data_help()))))]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    data: DataArgs,

    /// Run directory, created if it does not exist; with --find-lr the .svg file of the plot
    #[arg(
        short,
        long,
        value_name = "DIR",
        alias = "out",
        required_unless_present_any = ["print_recipe", "find_lr"]
    )]
    output: Option<PathBuf>,

    /// Resume the run in this directory with its original settings
    #[arg(long, conflicts_with_all = ["data", "images", "recipe", "init", "class_table", "classes"])]
    resume: bool,

    /// TOML file with settings; options override it
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,

    /// Weights to start from, of any dialect: a backbone, or a segmentation network, whose
    /// classifier is replaced if the classes differ; a file, hf:OWNER/NAME[@REVISION][/FILE] on a
    /// hub, or a network that `atrous models` lists
    #[arg(long, value_name = "WEIGHTS")]
    init: Option<PathBuf>,

    #[command(flatten)]
    conventions: ConventionArgs,

    /// File with the classes, one a line (number, name and optional color, or names alone); overrides
    /// the data set's own
    #[arg(long, value_name = "FILE")]
    class_table: Option<PathBuf>,

    /// Number of classes, if nothing names them
    #[arg(long, value_name = "N", conflicts_with = "class_table", value_parser = classes)]
    classes: Option<usize>,

    /// Train without checking the data first: a sample of the masks, with `atrous doctor`'s checks
    #[arg(long, conflicts_with = "resume")]
    no_check: bool,

    /// Print the plan and the memory estimate, then exit
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,

    /// Train 100 steps with a rising learning rate, from 1e-6 to 1, and suggest one: a tenth of that
    /// with the lowest loss. Writes no run; -o PLOT.svg draws the losses
    #[arg(long, conflicts_with_all = ["resume", "dry_run"])]
    find_lr: bool,

    /// Print the complete recipe as TOML, then exit
    #[arg(long, conflicts_with = "resume")]
    print_recipe: bool,

    /// Suppress the progress bar and evaluation lines
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    length: settings::Length,

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
    // Read before signals are handled gracefully: a read that blocks then ends at the first one.
    let settings = args.settings.recipe(args.recipe.as_deref(), &args.length)?;
    if args.print_recipe {
        return print(&settings.0.to_toml()?);
    }
    let classes = table(args)?;
    args.check_statements()?;
    check_outputs(args)?;
    let stop = on_interrupt("stopping after this step")?;
    // Before all other work, which would be in vain if another process trains in the directory.
    let directory = match (args.resume, args.dry_run || args.find_lr) {
        (true, _) => Some(RunDirectory::open(args.output())?),
        (false, false) => Some(RunDirectory::create(args.output())?),
        (false, true) => None,
    };
    let command = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    let device = Device::open(&args.device)?;
    let context = RunContext {
        device: &device,
        workers: args.workers,
        command: &command,
        stop: Some(&*stop),
    };
    let run = match directory {
        Some(directory) if args.resume => {
            let run = Run::resume_to(directory, args.length.total(), context)?;
            args.say(&format!("device: {device}; {}", about::resumed(&run)));
            Some(run)
        }
        directory => {
            start(args, settings, classes, directory, context).map_err(|e| setting(args, e))?
        }
    };
    run.map_or(Ok(()), |run| train(args, run, &stop))
}

/// Turns an error about a setting into one about the usage, with the recipe's name.
fn setting(args: &Args, error: Error) -> Error {
    if error.kind() != ErrorKind::Config || error.has_address() {
        return error;
    }
    let error = error.with_kind(ErrorKind::Usage);
    match &args.recipe {
        Some(recipe) => error.file(recipe),
        None => error,
    }
}

/// Prepares a new run, and begins it unless there is no directory (`--dry-run`).
fn start(
    args: &Args,
    settings: (Recipe, bool),
    classes: Option<ClassTable>,
    directory: Option<RunDirectory>,
    context: RunContext,
) -> Result<Option<Run>> {
    let prepared = prepare::prepare(args, settings, classes, context)?;
    if args.find_lr {
        return find_learning_rate::run(args, prepared, context).map(|()| None);
    }
    let Some(directory) = directory else { return Ok(None) };
    let Prepared { recipe, origin, data, initial, notes } = prepared;
    let mut run = Run::begin(directory, recipe, origin, data, &initial, context)?;
    notes.into_iter().try_for_each(|note| run.record(note))?;
    Ok(Some(run))
}

/// Trains until the run is finished or `stop` is set, and reports how it ended.
fn train(args: &Args, mut run: Run, stop: &AtomicBool) -> Result<()> {
    for norm in run.trainer().single_value_norms() {
        args.say(&format!(
            "note: `{norm}` keeps its running statistics: a batch of one image has one value per channel there"
        ));
    }
    let mut bar = bar::Bar::new(u64::from(run.recipe().steps), run.step(), args.quiet);
    let ending = run.train(stop, &mut |event| bar.show(&event));
    bar.finish();
    let (step, output) = (run.step(), text::path(args.output()));
    match ending? {
        Ending::Stopped => {
            let due = if run.evaluation_due() { ", before its evaluation" } else { "" };
            args.say(&format!(
                "stopped after step {step}{due}; resume with `atrous train --resume -o {output}`"
            ));
        }
        Ending::Finished => args.say(&format!("done: {step} steps; {}", result(args, &run))),
        Ending::StoppedEarly => args.say(&format!(
            "stopped early after step {step} of {}: {} evaluations without a better mIoU; {}",
            run.recipe().steps,
            run.evaluations_since_best(),
            result(args, &run)
        )),
    }
    Ok(())
}

/// The best score of a run, and where its report is.
fn result(args: &Args, run: &Run) -> String {
    let exists = args.output().join("best.safetensors").exists();
    let removed = if exists { "" } else { " (best.safetensors was removed)" };
    let best = run.best().map_or_else(String::new, |BestScore { mean_iou, step }| {
        format!("best mIoU {mean_iou:.4} after step {step}{removed}; ")
    });
    format!("{best}see {}", text::path(args.output().join("report.html")))
}

impl Args {
    /// Returns the weights, which may be a name, and whether progress is hidden.
    pub(in crate::cli) fn weights(&mut self) -> (Option<&mut PathBuf>, bool) {
        (self.init.as_mut().filter(|_| !self.print_recipe), self.quiet)
    }

    fn output(&self) -> &Path {
        self.output.as_deref().expect("invariant: clap requires it, except with --print-recipe")
    }

    /// Refuses statements about weights if there are none.
    fn check_statements(&self) -> Result<()> {
        match self.conventions.named() {
            Some(option) if self.init.is_none() => {
                Err(error!(Usage, "{option} describes the weights of --init, which is missing")
                    .advice("name the weights, or leave it out"))
            }
            _ => Ok(()),
        }
    }

    /// Reads the weights of `--init`.
    fn initial_weights(&self) -> Result<Option<Model>> {
        let statements = self.conventions.statements();
        let Some(path) = &self.init else { return Ok(None) };
        let model = Model::open_with(path, ReadOptions { statements, ..ReadOptions::default() })?;
        self.say_all(model.notes.iter().map(|note| format!("note: {note}")));
        Ok(Some(model))
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    fn say_all(&self, lines: impl IntoIterator<Item = String>) {
        lines.into_iter().for_each(|line| self.say(&line));
    }
}

/// Refuses a run directory whose files would replace an input.
fn check_outputs(args: &Args) -> Result<()> {
    let mut outputs = OutputCheck::new("name another directory with -o");
    let inputs = [
        (&args.recipe, "the recipe"),
        (&args.class_table, "the class table"),
        (&args.init, "the weights to start from"),
    ];
    for (path, what) in inputs {
        path.iter().for_each(|path| outputs.reads(path, what));
    }
    args.data.sources().iter().for_each(|data| outputs.reads_lists(data.directory()));
    if args.find_lr {
        let files = find_learning_rate::Files::of(args)?;
        return files.map_or(Ok(()), |files| files.check(&mut outputs));
    }
    RunDirectory::FILES
        .iter()
        .try_for_each(|name| outputs.writes(&args.output().join(name), format!("the run's {name}")))
}

/// Parses a number from `least` to `most`, so that nothing is allocated for a larger one.
fn within(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

fn workers(text: &str) -> Result<usize, String> {
    within(text, 0, MAX_WORKERS)
}

fn classes(text: &str) -> Result<usize, String> {
    within(text, 1, Confusion::MAX_CLASSES)
}

fn table(args: &Args) -> Result<Option<ClassTable>> {
    match (&args.class_table, args.classes) {
        (Some(path), _) => ClassTable::read(path).map(Some),
        (None, Some(n)) => Ok(Some(ClassTable::generic(n))),
        (None, None) => Ok(None),
    }
}
