//! What precedes the first step: the data, the network, and settings that depend on them, with a
//! line about each.

use super::{Args, about, crop, memory};
use crate::cli::console::progress;
use crate::data::doctor::{check_before_training, check_foreground};
use crate::error::{Result, error};
use crate::image::ClassTable;
use crate::text;
use crate::train::{
    InitialModel, Origin, Recipe, RunContext, Trainer, TrainingData, ValidationMemory,
};

/// A training that is ready to begin.
pub(super) struct Prepared {
    pub recipe: Recipe,
    pub origin: Origin,
    pub data: TrainingData,
    pub initial: InitialModel,
    /// What was computed from the data, for the log of the run.
    pub notes: Vec<String>,
}

/// Opens the data, builds the network, and completes the recipe.
pub(super) fn prepare(
    args: &Args,
    (mut recipe, is_default_crop): (Recipe, bool),
    classes: Option<ClassTable>,
    context: RunContext,
) -> Result<Prepared> {
    let mut sources = args.data.sources().into_iter();
    let data = sources.next().ok_or_else(|| error!(Usage, "`--data` is required"))?;
    let origin = Origin {
        data: data.absolute()?,
        more_data: sources.map(|data| data.absolute()).collect::<Result<_>>()?,
        classes,
        command: context.command.to_owned(),
        init: args.init.clone(),
    };
    let init = args.initial_weights()?;
    let (from, how) = (origin.clone(), recipe.clone());
    let mut data = context.wait_for(move || TrainingData::open(&from, &how))?;
    args.say(&format!("device: {}", context.device));
    args.say(&data.to_string());
    args.say_all(data.notes.iter().map(|note| format!("note: {note}")));
    if !args.no_check {
        let (checked, ignore) = (data.clone(), recipe.loss.ignore);
        let directories = origin.sources().map(|source| text::path(source.directory()));
        let address = directories.collect::<Vec<_>>().join(", ");
        context.wait_for(move || check(&checked, ignore)).map_err(|e| e.at(address))?;
    }
    let notes = resolve(args, &mut recipe, &mut data, context)?;
    args.settings.fit_schedule(&mut recipe);
    args.say_all(notes.iter().cloned());
    let initial = InitialModel::new(&recipe.network, &data.table, recipe.seed, init.as_ref())?;
    args.say(&about::network(&initial, args.init.as_deref()));
    args.say_all(about::separable(&mut recipe.network, &initial.config));
    args.say_all(about::frozen(&recipe, &initial));
    args.say_all(recipe.adjust_ignore_label(data.table.len()));
    let largest = about::largest(&data.training);
    if is_default_crop {
        let output_stride = initial.config.output_stride;
        args.say_all(crop::fit(&mut recipe.augmentation, output_stride, largest));
    }
    args.say_all(about::narrow_crops(&initial.config, recipe.augmentation.crop, largest));
    fit_memory(args, &mut recipe, &data, &initial, context)?;
    Ok(Prepared { recipe, origin, data, initial, notes })
}

/// Prints the memory that the training takes, and adapts the recipe to `--max-memory`.
fn fit_memory(
    args: &Args,
    recipe: &mut Recipe,
    data: &TrainingData,
    initial: &InitialModel,
    context: RunContext,
) -> Result<()> {
    let device = context.device;
    let (on, network, pairs) = (device.clone(), initial.clone(), data.validation.clone());
    let scoring = context.wait_for(move || ValidationMemory::new(&on, &network, &pairs))?;
    let (need, notes) = match args.max_memory {
        Some(limit) => memory::fit(recipe, device, &initial.config, limit, scoring.as_ref())?,
        None => {
            (Trainer::estimate_memory(device, &initial.config, &recipe.options()?)?, Vec::new())
        }
    };
    args.say_all(notes);
    args.say_all(about::accumulated(recipe.batch, recipe.accumulate, data.training.len()));
    let more = scoring.map_or_else(String::new, |scoring| format!("; {scoring}"));
    args.say(&format!("memory: {need}{more}"));
    Ok(())
}

/// Completes what depends on the data, with a progress bar while masks are read. Returns lines about
/// it.
fn resolve(
    args: &Args,
    recipe: &mut Recipe,
    data: &mut TrainingData,
    context: RunContext,
) -> Result<Vec<String>> {
    let masks = recipe.mask_passes() * data.training.len();
    let bar = progress(Some(masks as u64), "masks counted", args.quiet || masks == 0);
    let (on_mask, mut of, mut with) = (bar.clone(), recipe.clone(), data.clone());
    let lines;
    (*recipe, *data, lines) = context.wait_for(move || {
        let lines = of.resolve(&mut with, || on_mask.inc(1))?;
        Ok((of, with, lines))
    })?;
    bar.finish_and_clear();
    Ok(lines)
}

/// Checks that there is something to learn, and that masks are what the training takes them for.
fn check(data: &TrainingData, ignore: u32) -> Result<()> {
    check_before_training("training", &data.training, &data.table)?;
    check_before_training("validation", &data.validation, &data.table)?;
    check_foreground(&data.training, &data.table, ignore)
}
