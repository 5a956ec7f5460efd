//! `atrous train`: images and masks in, a network out.

mod about;
mod bar;
mod memory;
mod settings;

pub(in crate::cli) use memory::size;

use super::interrupt::on_interrupt;
use crate::data::MAX_WORKERS;
use crate::error::{Result, error};
use crate::eval::Confusion;
use crate::exec::Device;
use crate::gpu::DeviceChoice;
use crate::image::ClassTable;
use crate::segmenter::Model;
use crate::text;
use crate::train::{
    Ending, InitialModel, Origin, Run, RunContext, RunDirectory, Trainer, TrainingData,
    ValidationMemory,
};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  atrous train --data camvid/ --recipe recipes/camvid.toml --out runs/camvid
  atrous train --data mine/ --init deeplab.safetensors --steps 2000 --rate 0.003 --out runs/mine
  atrous train --resume --out runs/mine
  atrous segment street.png --weights runs/mine/best.safetensors

The directory of a run holds best.safetensors and last.safetensors, which all other commands take, report.html, log.jsonl, event files for
TensorBoard, the recipe, and a checkpoint from which `--resume` goes on, to the same bits as a run that was never broken off.";

/// Trains a network on images and masks
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// Directory of the data set: images/ and masks/, NAME/ and NAMEannot/, or as PASCAL VOC,
    /// Cityscapes or ADE20K have it
    #[arg(long, value_name = "DIR", required_unless_present = "resume")]
    data: Option<PathBuf>,

    /// Directory of the run
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,

    /// Goes on with the run of the directory; all its settings stay
    #[arg(long, conflicts_with_all = ["data", "recipe", "init", "class_table", "classes"])]
    resume: bool,

    /// TOML file with the settings; the flags below override it
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,

    /// Weights to begin with, of any dialect: a segmentation network, whose classifier is made anew
    /// where the classes differ, or a backbone
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,

    /// File with the classes' numbers, names and colors, one a line, instead of the data set's own
    #[arg(long, value_name = "classes.txt")]
    class_table: Option<PathBuf>,

    /// Number of classes, where nothing names them
    #[arg(long, value_name = "N", conflicts_with = "class_table", value_parser = classes)]
    classes: Option<usize>,

    /// Threads that read images and make batches [default: one less than there are cores]
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N", value_parser = workers)]
    workers: usize,

    /// Memory that the training may take, such as 4GiB or 800MiB: computes activations again, or
    /// adds up smaller batches, where it must. Scratch memory of kernels and images that wait for
    /// their step come on top
    #[arg(long, conflicts_with = "resume", value_name = "SIZE", value_parser = memory::size)]
    max_memory: Option<u64>,

    /// Says what would be trained and how much memory it would take, and ends
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,

    /// Neither progress bar nor lines about evaluations
    #[arg(short, long)]
    quiet: bool,

    /// auto (a real GPU, else the processor), cpu, gpu, an index of `atrous devices`, or
    /// backend:name such as vulkan:llvmpipe
    #[arg(long, default_value = "auto", value_name = "DEVICE", env = "ATROUS_DEVICE")]
    device: DeviceChoice,

    // Last, since its heading goes for all that follows.
    #[command(flatten)]
    settings: settings::Settings,
}

pub(in crate::cli) fn run(args: &Args) -> Result<()> {
    let stop = on_interrupt("stopping after this step")?;
    let command = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    if let Some(flag) = args.settings.given().filter(|_| args.resume) {
        return Err(error!(
            Usage,
            "`--resume` takes the settings of the run, so `{flag}` cannot be given"
        )
        .advice("begin another run, with `--init` and the weights of this one"));
    }
    // Before anything that takes time: where another process trains in it, all that would be for
    // nothing.
    let mut directory = match (args.resume, args.dry_run) {
        (true, _) => Some(RunDirectory::open(&args.out)?),
        (false, false) => Some(RunDirectory::create(&args.out)?),
        (false, true) => None,
    };
    let device = Device::open(&args.device)?;
    let setting = RunContext {
        device: &device,
        workers: args.workers,
        command: &command,
        stop: Some(&*stop),
    };
    let say = |text: String| {
        if !args.quiet {
            super::args::say(&text);
        }
    };
    let mut run = if let Some(directory) = directory.take_if(|_| args.resume) {
        let run = Run::resume(directory, setting)?;
        say(format!("running on {device}; {}", about::resumed(&run)));
        run
    } else {
        let Some(data) = &args.data else { return Err(error!(Usage, "no `--data` is given")) };
        let mut recipe = args.settings.recipe(args.recipe.as_deref())?;
        let origin =
            Origin { data: absolute(data)?, classes: table(args)?, init: args.init.clone() };
        let init = args.init.as_deref().map(Model::open).transpose()?;
        let (of, how) = (origin.clone(), recipe.clone());
        let sets = setting.wait_for(move || TrainingData::open(&of, &how))?;
        let beginning =
            InitialModel::new(&recipe.network, &sets.table, recipe.seed, init.as_ref())?;
        say(format!("running on {device}"));
        say(sets.to_string());
        say(about::network(&beginning, args.init.as_deref()));
        recipe.adjust_ignore_label(sets.table.len()).into_iter().for_each(say);
        about::narrow_crops(&beginning.config, recipe.augmentation.crop).into_iter().for_each(say);
        let (on, network, pairs) = (device.clone(), beginning.clone(), sets.validation.clone());
        let scoring = setting.wait_for(move || ValidationMemory::new(&on, &network, &pairs))?;
        let (need, told) = match args.max_memory {
            Some(limit) => {
                memory::fit(&mut recipe, &device, &beginning.config, limit, scoring.as_ref())?
            }
            None => (
                Trainer::estimate_memory(&device, &beginning.config, &recipe.options()?)?,
                Vec::new(),
            ),
        };
        told.into_iter().for_each(say);
        about::accumulated(recipe.batch, recipe.accumulate, sets.training.len())
            .into_iter()
            .for_each(say);
        let more = scoring.map_or_else(String::new, |scoring| format!("; {scoring}"));
        say(format!("memory: {need}{more}"));
        let Some(directory) = directory else { return Ok(()) };
        Run::begin(directory, recipe, origin, sets, &beginning, setting)?
    };
    for norm in run.trainer().single_value_norms() {
        say(format!(
            "note: `{norm}` sees one value for each channel with batches of one image, and keeps its running statistics"
        ));
    }
    let mut bar = bar::Bar::new(u64::from(run.recipe().steps), run.step(), args.quiet);
    let ending = run.train(&stop, &mut |event| bar.show(&event));
    bar.finish();
    match ending? {
        Ending::Stopped => {
            let due = if run.evaluation_due() { ", before its evaluation" } else { "" };
            say(format!(
                "stopped after step {}{due}; `atrous train --resume --out {}` goes on",
                run.step(),
                text::path(&args.out)
            ))
        }
        Ending::Finished => {
            let gone = if args.out.join("best.safetensors").exists() {
                ""
            } else {
                " (best.safetensors is gone)"
            };
            let best = run.best().map_or_else(String::new, |(miou, step)| {
                format!("; best mIoU {miou:.4} after step {step}{gone}")
            });
            say(format!(
                "done: {} steps{best}; see {}",
                run.step(),
                text::path(args.out.join("report.html"))
            ));
        }
    }
    Ok(())
}

/// What would be refused later is refused before memory is taken for it.
fn within(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("must be a number from {least} to {most}"))
}

fn workers(text: &str) -> Result<usize, String> {
    within(text, 0, MAX_WORKERS)
}

fn classes(text: &str) -> Result<usize, String> {
    within(text, 1, Confusion::MAX_CLASSES)
}

/// A run may be resumed from another directory.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| crate::error::Error::io(path, "is no path", e))
}

fn table(args: &Args) -> Result<Option<ClassTable>> {
    match (&args.class_table, args.classes) {
        (Some(path), _) => ClassTable::read(path).map(Some),
        (None, Some(n)) => Ok(Some(ClassTable::generic(n))),
        (None, None) => Ok(None),
    }
}
