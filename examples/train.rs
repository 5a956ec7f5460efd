//! Trains a network on a directory of images and masks, from a program:
//! `cargo run --release --example train -- DATA RUN`. `DATA` contains `images/`, `masks/` and
//! `classes.txt`.

use atrous::DeviceChoice;
use atrous::data::Augmentation;
use atrous::engine::exec::Device;
use atrous::train::{
    Event, InitialModel, Origin, Recipe, Run, RunContext, RunDirectory, TrainingData,
};
use std::sync::atomic::AtomicBool;

fn main() -> atrous::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(data), Some(out)) = (args.next(), args.next()) else {
        eprintln!("usage: train DATA RUN");
        std::process::exit(2);
    };
    let directory = RunDirectory::create(out)?;
    let augmentation = Augmentation { crop: atrous::Size::square(257), ..Augmentation::default() };
    let recipe =
        Recipe { steps: 500, batch: 4, evaluate_every: 100, augmentation, ..Recipe::default() };
    let origin = Origin {
        data: data.into(),
        more_data: Vec::new(),
        classes: None,
        command: "examples/train".into(),
        init: None,
    };
    let training_data = TrainingData::open(&origin, &recipe)?;
    let initial = InitialModel::new(&recipe.network, &training_data.table, recipe.seed, None)?;

    let device = Device::open(&DeviceChoice::Auto)?;
    let context =
        RunContext { device: &device, workers: 0, command: "examples/train.rs", stop: None };
    let mut run = Run::begin(directory, recipe, origin, training_data, &initial, context)?;
    run.train(&AtomicBool::new(false), &mut |event| match event {
        Event::Step { step, loss, .. } => println!("step {step}: loss {loss:.3}"),
        Event::Evaluated(scores) => println!("mIoU {:.3}", scores.mean_iou.unwrap_or(0.0)),
        _ => {}
    })?;
    Ok(())
}
