//! Settings of runs: each resumes to the same bits, and does what it states.

use crate::run::{begin as arguments, data_set, ending, resume as resume_arguments, train};
use crate::support::devices;
use atrous::Model;
use atrous::engine::exec::Device;
use atrous::report::{EvaluationRecord, Record, read};
use atrous::train::{
    ClassWeights, Ending, Event, Freeze, InitialModel, NormMode, Origin, Recipe, Run, RunContext,
    RunDirectory, RunLength, TrainingData, WeightRule,
};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A run of four steps with two evaluations.
fn recipe(root: &Path) -> Recipe {
    let recipe = Recipe::read(root.join("recipe.toml")).unwrap();
    Recipe { steps: 4, evaluate_every: 2, checkpoint_every: 1, ..recipe }
}

fn context(device: &Device) -> RunContext<'_> {
    RunContext { device, workers: 1, command: "", stop: None }
}

fn start(device: &Device, root: &Path, out: &Path, recipe: Recipe) -> Run {
    let origin = Origin {
        data: root.into(),
        more_data: Vec::new(),
        classes: None,
        command: String::new(),
        init: None,
    };
    let data = TrainingData::open(&origin, &recipe).unwrap();
    let initial = InitialModel::new(&recipe.network, &data.table, recipe.seed, None).unwrap();
    let directory = RunDirectory::create(out).unwrap();
    Run::begin(directory, recipe, origin, data, &initial, context(device)).unwrap()
}

fn resume(device: &Device, out: &Path, length: Option<RunLength>) -> Run {
    Run::resume_to(RunDirectory::open(out).unwrap(), length, context(device)).unwrap()
}

/// Trains to the end, or up to a step.
fn go(mut run: Run, last: Option<u64>) -> Ending {
    let stop = AtomicBool::new(false);
    let ending = run.train(&stop, &mut |event| {
        if matches!(event, Event::Step { step, .. } if Some(step) == last) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    ending.unwrap()
}

fn evaluations(out: &Path) -> Vec<EvaluationRecord> {
    let evaluation = |record| match record {
        Record::Evaluation(r) => Some(EvaluationRecord { seconds: 0.0, ..r }),
        _ => None,
    };
    read(out).unwrap().into_iter().filter_map(evaluation).collect()
}

fn notes(out: &Path) -> Vec<String> {
    let note = |record| if let Record::Note(note) = record { Some(note.text) } else { None };
    read(out).unwrap().into_iter().filter_map(note).collect()
}

fn text(done: &assert_cmd::assert::Assert) -> String {
    let output = done.get_output();
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

type Edit = fn(&mut Recipe);

const EDITS: [(&str, Edit); 5] = [
    ("oversample", |recipe| recipe.data.oversample = true),
    ("ema", |recipe| recipe.ema = Some(0.9)),
    ("freeze", |recipe| recipe.freeze = Some(Freeze::Backbone)),
    ("epochs", |recipe| recipe.epochs = Some(1.1)),
    ("class weights", |recipe| {
        recipe.data.class_weights = Some(ClassWeights::Rule(WeightRule::MedianFrequency));
        recipe.early_stopping = Some(5);
    }),
];

#[test]
fn every_setting_resumes_to_the_same_bits() {
    let root = data_set();
    for device in devices() {
        // What differs between devices is the update of averages.
        let on_device = |(name, _): &(&str, Edit)| device.is_cpu() || *name == "ema";
        for (name, edit) in EDITS.into_iter().filter(on_device) {
            let mut recipe = recipe(root.path());
            edit(&mut recipe);
            let [whole, broken] = ["whole", "broken"].map(|kind| root.path().join(kind));
            assert_eq!(
                go(start(&device, root.path(), &whole, recipe.clone()), None),
                Ending::Finished
            );
            let first = start(&device, root.path(), &broken, recipe);
            assert_eq!(go(first, Some(1)), Ending::Stopped);
            assert_eq!(go(resume(&device, &broken, None), Some(3)), Ending::Stopped);
            assert_eq!(go(resume(&device, &broken, None), None), Ending::Finished);
            assert!(ending(&whole) == ending(&broken), "{name} on {device}");
            assert_eq!(evaluations(&whole), evaluations(&broken), "{name} on {device}");
            assert!(evaluations(&whole).iter().all(|e| e.loss.is_some_and(|loss| loss > 0.0)));
            [whole, broken].iter().for_each(|out| fs::remove_dir_all(out).unwrap());
        }
    }
}

#[test]
fn what_a_run_computes_from_its_data_is_in_its_recipe() {
    let root = data_set();
    let out = root.path().join("run");
    let mut recipe = recipe(root.path());
    recipe.epochs = Some(1.1);
    recipe.data.class_weights = Some(ClassWeights::Rule(WeightRule::InverseLog));
    drop(start(&Device::Cpu, root.path(), &out, recipe));
    let written = Recipe::read(out.join("recipe.toml")).unwrap();
    // 1.1 times 7 images in batches of 2.
    assert_eq!((written.steps, written.epochs), (4, None));
    let Some(ClassWeights::List(weights)) = &written.data.class_weights else {
        panic!("{:?}", written.data.class_weights)
    };
    let in_range = |weight: &f32| (1.4..50.0).contains(weight);
    assert!(weights.len() == 3 && weights.iter().all(in_range), "{weights:?}");
    // There are fewer pixels of trees than of any other class.
    assert!(weights[2] > weights[0] && weights[2] > weights[1], "{weights:?}");
    let notes = notes(&out).join("\n");
    assert!(notes.contains("1.1 epochs are 4 steps"), "{notes}");
    assert!(notes.contains("inverse-log of 7 masks"), "{notes}");
}

#[test]
fn an_extended_run_is_itself_resumed_to_the_same_bits() {
    let root = data_set();
    let [whole, broken] = ["whole", "broken"].map(|kind| root.path().join(kind));
    for out in [&whole, &broken] {
        go(start(&Device::Cpu, root.path(), out, recipe(root.path())), None);
    }
    let done = text(&train(&resume_arguments(&whole)).success());
    assert!(done.contains("all 4 steps are done") && done.contains("--steps N"), "{done}");
    let mut longer = resume_arguments(&whole);
    longer.extend(["--steps", "7"].map(str::to_owned));
    let extended = text(&train(&longer).success());
    assert!(extended.contains("from 4 to 7 steps"), "{extended}");
    assert!(extended.contains("done: 7 steps"), "{extended}");
    assert_eq!(Recipe::read(whole.join("recipe.toml")).unwrap().steps, 7);
    go(resume(&Device::Cpu, &broken, Some(RunLength::Steps(7))), Some(5));
    go(resume(&Device::Cpu, &broken, None), None);
    assert!(ending(&whole) == ending(&broken));
    let refused = text(&train(&longer).failure());
    assert!(refused.contains("has completed 7 steps"), "{refused}");
    assert!(refused.contains("total length of the run"), "{refused}");
}

#[test]
fn a_run_whose_score_no_longer_rises_stops_early_and_can_be_extended() {
    let root = data_set();
    let out = root.path().join("run");
    let mut recipe = recipe(root.path());
    // Nothing changes, so that the first score is the best.
    (recipe.learning_rate, recipe.norm) = (1e-12, NormMode::Frozen);
    (recipe.steps, recipe.evaluate_every, recipe.early_stopping) = (9, 1, Some(2));
    let first = start(&Device::Cpu, root.path(), &out, recipe);
    assert_eq!(go(first, Some(2)), Ending::Stopped, "the count survives a stop");
    assert_eq!(go(resume(&Device::Cpu, &out, None), None), Ending::StoppedEarly);
    let scores = evaluations(&out);
    assert_eq!(
        scores.iter().map(|e| (e.step, e.best)).collect::<Vec<_>>(),
        [(1, true), (2, false), (3, false)]
    );
    let done = text(&train(&resume_arguments(&out)).success());
    assert!(done.contains("stopped early after step 3 of 9"), "{done}");
    let Some(Record::End(end)) = read(&out).unwrap().pop() else { panic!("no end") };
    assert!(end.reason.contains("2 evaluations without a better mIoU"), "{}", end.reason);
    let mut longer = resume_arguments(&out);
    longer.extend(["--steps", "9"].map(str::to_owned));
    let extended = text(&train(&longer).success());
    assert!(extended.contains("stopped early after step 5 of 9"), "{extended}");
}

/// Replaces the class with a number in every mask of a directory by another one.
fn relabel(directory: &Path, keep: &str, from: u8, to: u8) {
    for mask in fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()) {
        if mask.ends_with(keep) {
            continue;
        }
        let mut labels = image::open(&mask).unwrap().into_luma8();
        labels.pixels_mut().filter(|p| p.0[0] == from).for_each(|p| p.0[0] = to);
        labels.save(&mask).unwrap();
    }
}

#[test]
fn the_only_image_with_a_rare_class_is_drawn_more_often() {
    let root = data_set();
    relabel(&root.path().join("trainannot"), "p03.png", 2, 0);
    let out = root.path().join("run");
    let mut recipe = recipe(root.path());
    (recipe.data.oversample, recipe.epochs) = (true, Some(2.0));
    drop(start(&Device::Cpu, root.path(), &out, recipe));
    // The factor of that image is sqrt(7), 2.6: two or three draws.
    let notes = notes(&out).join("\n");
    assert!(notes.contains("of 7 images; those with `tree` most often, 2.65 times"), "{notes}");
    assert!(
        notes.contains("epochs are 8 steps (8 ") || notes.contains("are 9 steps (9 "),
        "{notes}"
    );
}

#[test]
fn several_data_sets_are_trained_together_if_their_classes_agree() {
    let [root, other] = [data_set(), data_set()];
    let out = root.path().join("run");
    let mut args = arguments(root.path(), &out);
    args.extend(["--data", other.path().to_str().unwrap(), "--steps", "2"].map(str::to_owned));
    let done = text(&train(&args).success());
    assert!(done.contains("14 training images, 6 validation images of 2 data sets"), "{done}");
    assert!(text(&train(&resume_arguments(&out)).success()).contains("all 2 steps are done"));
    let card = Model::open(out.join("best.safetensors")).unwrap().card.unwrap();
    assert_eq!(card.images, Some(14));
    assert!(card.data.contains(other.path().to_str().unwrap()), "{}", card.data);

    let classes = "0 ground 90 60 30\n1 water 60 120 220\n2 tree 30 140 50\n3 car\n";
    fs::write(other.path().join("classes.txt"), classes).unwrap();
    fs::remove_dir_all(&out).unwrap();
    let refused = text(&train(&args).failure());
    for difference in ["class 1 is `water` instead of `sky`", "class 3 is `car` instead of missing"]
    {
        assert!(refused.contains(difference), "{refused}");
    }
    assert!(!out.exists());
}

#[test]
fn a_frozen_backbone_is_the_initial_one() {
    let root = data_set();
    let out = root.path().join("run");
    let mut recipe = recipe(root.path());
    recipe.freeze = Some(Freeze::Backbone);
    let run = start(&Device::Cpu, root.path(), &out, recipe);
    let before = run.trainer().weights().unwrap();
    go(run, None);
    let after = Model::open(out.join("last.safetensors")).unwrap().weights;
    let is_same = |name: &str| before[name].tensor() == after[name].tensor();
    for name in before.keys().filter(|name| name.starts_with("backbone.")) {
        assert!(is_same(name), "{name}");
    }
    assert!(!is_same("logits.weight") && !is_same("aspp.project.norm.running_mean"));
}

#[test]
fn a_default_crop_is_no_larger_than_small_images_require() {
    let root = data_set();
    fs::write(root.path().join("recipe.toml"), "[network]\nbackbone = \"mobilenet_v2_0.1\"\n")
        .unwrap();
    let out = root.path().join("run");
    let with = |extra: &[&str]| {
        let mut args = arguments(root.path(), &out);
        args.extend(["--dry-run"].iter().chain(extra).map(|&s| s.to_owned()));
        text(&train(&args).success())
    };
    // 48 x 40 pixels, scaled by up to 2.
    let fitted = with(&[]);
    assert!(fitted.contains("crop: 97x81 instead of the default 513x513"), "{fitted}");
    let chosen = with(&["--crop", "129"]);
    assert!(!chosen.contains("crop:"), "{chosen}");
}

#[test]
fn a_learning_rate_is_suggested_without_a_run() {
    let root = data_set();
    let plot = root.path().join("found.svg");
    let mut args = arguments(root.path(), &plot);
    args.push("--find-lr".to_owned());
    let done = text(&train(&args).success());
    assert!(done.contains("suggested learning rate: "), "{done}");
    assert!(fs::read_to_string(&plot).unwrap().contains("suggested: "));
    let numbers = fs::read_to_string(root.path().join("found.json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&numbers).unwrap();
    assert!(numbers["suggestion"].as_f64().unwrap() < 1.0, "{numbers}");
    assert!(numbers["points"].as_array().unwrap().len() > 10);
    assert!(!root.path().join("checkpoint.safetensors").exists());
    *args.iter_mut().find(|arg| arg.ends_with("found.svg")).unwrap() = "found.png".to_owned();
    let refused = text(&train(&args).failure());
    assert!(refused.contains("is an .svg file"), "{refused}");
}
