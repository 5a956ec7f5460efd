//! Memory of a training: its estimate, and how to reduce it.

use crate::run::{begin, data_set, ending, train};
use crate::support::{Rng, devices};
use crate::trainer::{bits, config, options, steps, trainer};
use atrous::ErrorKind;
use atrous::Size;
use atrous::engine::exec::{Device, Runner};
use atrous::engine::graph::Weights;
use atrous::engine::models::{Backbone, Config, Outputs, build_network, random_weights};
use atrous::engine::training::{MemoryFit, ValidationMemory, training_step};
use atrous::engine::{Data, Shape, Tensor};
use atrous::train::{
    InitialModel, MemoryEstimate, NormMode, Origin, Recipe, StepOptions, TrainOptions, Trainer,
    TrainingData,
};

fn recomputing(options: TrainOptions) -> TrainOptions {
    TrainOptions { step: StepOptions { recompute: true, ..options.step }, ..options }
}

#[test]
fn recomputing_activations_does_not_change_a_bit_of_the_weights() {
    let mut config = config();
    config.head.as_mut().unwrap().aspp.dropout = 0.3;
    for (norm, accumulate) in [(NormMode::Train, 2), (NormMode::BackboneFrozen, 1)] {
        let kept = TrainOptions {
            accumulate,
            step: StepOptions { norm, ..StepOptions::default() },
            ..options()
        };
        let recomputed = recomputing(kept.clone());
        let activations = |options: &TrainOptions| {
            Trainer::estimate_memory(&Device::Cpu, &config, options).unwrap().activations
        };
        let (less, more) = (activations(&recomputed), activations(&kept));
        assert!(less < more, "{less} {more}");
        for device in devices() {
            let run = |options: &TrainOptions| {
                let weights = random_weights(&config, 1).unwrap();
                let mut trainer =
                    Trainer::new(&device, &config, &weights, options.clone()).unwrap();
                let losses: Vec<u64> =
                    steps(&mut trainer, &mut Rng(7), 3).into_iter().map(f64::to_bits).collect();
                (losses, bits(&trainer))
            };
            let ((kept_losses, kept_bits), (losses, bits)) = (run(&kept), run(&recomputed));
            assert_eq!(kept_losses, losses, "{norm:?} on {device}");
            let pairs = kept_bits.iter().zip(&bits);
            let differing: Vec<&str> =
                pairs.filter(|(a, b)| a != b).map(|(a, _)| a.0.as_str()).collect();
            assert!(
                differing.is_empty() && kept_bits.len() == bits.len(),
                "{norm:?} on {device}: {differing:?}"
            );
        }
    }
}

/// Loss, gradients and statistics of one step on random images.
fn one_step(
    device: &Device,
    config: &Config,
    weights: &Weights,
    shape: Shape,
    recompute: bool,
) -> Vec<(String, Tensor)> {
    let network =
        build_network(config, shape, &Outputs { logits_full: true, ..Outputs::default() }).unwrap();
    let step =
        training_step(network, &StepOptions { recompute, ..StepOptions::default() }).unwrap();
    assert_eq!(recompute, step.graph.nodes().iter().any(|n| n.name.ends_with(".again")));
    let mut graph = step.graph;
    let names: Vec<String> = graph.params().map(|(info, _)| info.name.clone()).collect();
    graph.bind(&names.into_iter().map(|n| (n.clone(), weights[&n].clone())).collect()).unwrap();
    let mut rng = Rng(3);
    let input = rng.tensor(shape);
    let labels = (0..shape.positions())
        .map(|_| rng.range(0, config.classes().unwrap() - 1) as u32)
        .collect();
    let labels = Tensor::from_data(shape.with_c(1), Data::U32(labels)).unwrap();
    let number = Tensor::from_data(Shape::vector(1), Data::U32(vec![5])).unwrap();
    let names: Vec<String> = graph.outputs().iter().map(|(n, _)| n.clone()).collect();
    let inputs = [("input", &input), ("labels", &labels), ("step", &number)];
    names.into_iter().zip(Runner::new(device, graph).unwrap().run(&inputs).unwrap()).collect()
}

#[test]
fn gradients_of_whole_networks_are_the_same_to_the_bit() {
    let named = |name: &str| Config::deeplab_v3plus(Backbone::named(name).unwrap(), 12);
    // Networks with hard swish and squeeze-and-excitation, with residual blocks, and the default.
    for (config, shape) in [
        (named("mobilenet_v3"), Shape::new(2, 33, 33, 3)),
        (named("resnet18"), Shape::new(2, 33, 33, 3)),
        (named("mobilenet_v2"), Shape::new(2, 65, 65, 3)),
    ] {
        let weights = random_weights(&config, 1).unwrap();
        for device in devices() {
            let kept = one_step(&device, &config, &weights, shape, false);
            let recomputed = one_step(&device, &config, &weights, shape, true);
            assert_eq!(kept.len(), recomputed.len());
            for ((name, a), (other, b)) in kept.iter().zip(&recomputed) {
                let bits = |t: &Tensor| t.f32().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert!(
                    name == other && bits(a) == bits(b),
                    "{} on {device}: `{name}`",
                    config.backbone.title()
                );
            }
        }
    }
}

#[test]
fn recomputation_halves_the_memory_of_activations() {
    for backbone in ["mobilenet_v2", "resnet50", "xception65"] {
        let config = Config::deeplab_v3plus(Backbone::named(backbone).unwrap(), 12);
        for crop in [Size::square(257), Size::new(257, 385)] {
            let kept = TrainOptions { batch: 4, crop, ..options() };
            let before = Trainer::estimate_memory(&Device::Cpu, &config, &kept).unwrap();
            let after =
                Trainer::estimate_memory(&Device::Cpu, &config, &recomputing(kept)).unwrap();
            let at = format!("{backbone} {crop}: {before}; {after}");
            println!("{at}");
            assert!(2 * after.activations < before.activations, "{at}");
            let others = |e: MemoryEstimate| (e.parameters, e.gradients, e.optimizer);
            assert_eq!(others(before), others(after), "{at}");
        }
    }
}

#[test]
fn a_training_fits_into_memory_at_the_least_cost() {
    let config = config();
    let plain = TrainOptions { batch: 6, ..options() };
    let estimate = |batch, accumulate, recompute| {
        let mut options = TrainOptions { batch, accumulate, ..plain.clone() };
        options.step.recompute = recompute;
        Trainer::estimate_memory(&Device::Cpu, &config, &options).unwrap()
    };
    let fit = |limit| MemoryFit::new(&Device::Cpu, &config, &plain, limit);
    let mut limit = u64::MAX;
    // From cheap to expensive. A candidate that takes no less than one before it is never chosen.
    let candidates = [6, 3, 2, 1]
        .map(|batch| [(batch, 6 / batch as u32, false), (batch, 6 / batch as u32, true)]);
    let mut chosen = 0;
    for (batch, accumulate, recompute) in candidates.into_iter().flatten() {
        let estimate = estimate(batch, accumulate, recompute);
        if estimate.total() > limit {
            continue;
        }
        assert_eq!(fit(limit).unwrap(), MemoryFit { batch, accumulate, recompute, estimate });
        assert_eq!(fit(estimate.total()).unwrap().estimate, estimate);
        limit = estimate.total() - 1;
        chosen += 1;
    }
    assert!(chosen >= 4, "{chosen}");
    let least = limit + 1;
    let error = fit(limit).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    // Rounded up, so that the printed minimum is sufficient as a limit.
    let mib = format!("the minimum is {} MiB", least.div_ceil(1 << 20));
    assert!(error.to_string().contains(&mib), "{error}; {mib}");
    // Requested recomputation is kept, whatever the limit.
    assert!(
        MemoryFit::new(&Device::Cpu, &config, &recomputing(plain.clone()), u64::MAX)
            .unwrap()
            .recompute
    );
}

#[test]
fn what_fits_trains() {
    let plain = TrainOptions { batch: 8, ..options() };
    let recomputed = Trainer::estimate_memory(&Device::Cpu, &config(), &recomputing(plain.clone()))
        .unwrap()
        .total();
    let fit = MemoryFit::new(&Device::Cpu, &config(), &plain, recomputed - 1).unwrap();
    assert_eq!((fit.batch, fit.accumulate), (4, 2), "{fit}");
    let mut fitted = TrainOptions { batch: fit.batch, accumulate: fit.accumulate, ..plain };
    fitted.step.recompute = fit.recompute;
    for device in devices() {
        let mut trainer = trainer(&device, fitted.clone());
        let losses = steps(&mut trainer, &mut Rng(7), 20);
        assert!(
            losses[17..].iter().sum::<f64>() < losses[..3].iter().sum::<f64>(),
            "on {device}: {losses:?}"
        );
    }
}

#[test]
fn a_run_within_a_memory_limit_ends_with_the_same_bits_if_recomputation_suffices() {
    let root = data_set();
    let recipe = Recipe::read(root.path().join("recipe.toml")).unwrap();
    let origin = Origin {
        data: root.path().into(),
        more_data: Vec::new(),
        classes: None,
        command: String::new(),
        init: None,
    };
    let data = TrainingData::open(&origin, &recipe).unwrap();
    let initial = InitialModel::new(&recipe.network, &data.table, recipe.seed, None).unwrap();
    let validation =
        ValidationMemory::new(&Device::Cpu, &initial, &data.validation).unwrap().unwrap().bytes;
    let options = |recompute| Recipe { recompute, ..recipe.clone() }.options().unwrap();
    let total = |recompute| {
        validation
            + Trainer::estimate_memory(&Device::Cpu, &initial.config, &options(recompute))
                .unwrap()
                .total()
    };
    let limit = format!("{}KiB", total(true).div_ceil(1024));
    assert!(total(true).next_multiple_of(1024) < total(false), "{} {}", total(true), total(false));

    let with = |name: &str, extra: &[&str]| {
        let out = root.path().join(name);
        let mut args = begin(root.path(), &out);
        args.extend(["--steps", "3"].iter().chain(extra).map(|&s| s.to_owned()));
        (train(&args), out)
    };
    let text = |done: &assert_cmd::assert::Assert| {
        String::from_utf8_lossy(&done.get_output().stderr).into_owned()
    };
    let (_, plain) = with("plain", &[]);
    let (done, fitted) = with("fitted", &["--max-memory", &limit]);
    assert!(text(&done).contains("batch 2, activations recomputed"), "{}", text(&done));
    let (_, requested) = with("requested", &["--recompute"]);
    assert_eq!(ending(&plain), ending(&fitted));
    assert_eq!(ending(&plain), ending(&requested));
    // The options are stored with the run, so that `--resume` repeats them anywhere.
    let written = std::fs::read_to_string(fitted.join("recipe.toml")).unwrap();
    assert!(written.contains("recompute = true"), "{written}");

    let (done, out) = with("refused", &["--max-memory", "1KiB"]);
    let text = text(&done.failure());
    assert!(
        text.contains("training does not fit into 1 KiB; the minimum is") && !out.exists(),
        "{text}"
    );
    assert!(text.contains("to evaluate images of up to 48x40"), "{text}");
    // The printed minimum is sufficient, including evaluations.
    let least =
        text.split("the minimum is ").nth(1).unwrap().split(": ").next().unwrap().replace(' ', "");
    let (done, _) = with("least", &["--max-memory", &least, "--dry-run"]);
    done.success();
}
