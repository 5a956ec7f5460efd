//! Steps of a network whose parameters stay on the device.

use crate::support::{Rng, devices};
use atrous::Size;
use atrous::engine::exec::Device;
use atrous::engine::graph::Weights;
use atrous::engine::models::{Aux, Backbone, Config, Decoder, random_weights};
use atrous::engine::ops::{Denominator, PixelLoss};
use atrous::engine::{Data, Shape, Tensor};
use atrous::train::{
    BatchRef, Decay, Freeze, NormMode, Optimizer, ParamGroups, Schedule, StepOptions, TrainOptions,
    Trainer,
};

use atrous::ErrorKind;

const CLASSES: usize = 3;

/// A network with few channels, some of them not a multiple of four.
pub(crate) fn config() -> Config {
    let mut config = Config::deeplab_v3plus(Backbone::named("mobilenet_v2_0.25").unwrap(), CLASSES);
    let head = config.head.as_mut().unwrap();
    head.aspp.channels = 16;
    head.aspp.rates = vec![1, 2];
    head.aspp.dropout = 0.0;
    let Decoder::Plus(decoder) = &mut head.decoder else { panic!("a decoder is expected") };
    (decoder.channels, decoder.low_level_channels) = (16, 6);
    config
}

pub(crate) fn options() -> TrainOptions {
    let schedule =
        Schedule { base: 0.05, decay: Decay::Constant, steps: 1000, warmup: 0, floor: 0.0 };
    TrainOptions::new(2, Size::square(33), schedule)
}

/// Colored rectangles on a background of another color; some pixels are ignored.
fn images(rng: &mut Rng, n: usize) -> (Tensor, Tensor) {
    let shape = Shape::new(n, 33, 33, 3);
    let mut labels = vec![0u32; shape.positions()];
    for image in labels.chunks_exact_mut(33 * 33) {
        for class in 1..CLASSES {
            let (y, x) = (rng.range(0, 20), rng.range(0, 20));
            for row in y..y + 12 {
                image[row * 33 + x..][..12].fill(class as u32);
            }
        }
        image[..5].fill(255);
    }
    let color = |label: u32, c: usize| if label as usize % 3 == c { 1.0 } else { -0.5 };
    let pixels = (0..shape.len()).map(|i| color(labels[i / 3], i % 3) + 0.2 * rng.unit()).collect();
    (
        Tensor::new(shape, pixels).unwrap(),
        Tensor::from_data(shape.with_c(1), Data::U32(labels)).unwrap(),
    )
}

pub(crate) fn trainer(device: &Device, options: TrainOptions) -> Trainer {
    let config = config();
    Trainer::new(device, &config, &random_weights(&config, 1).unwrap(), options).unwrap()
}

pub(crate) fn steps(trainer: &mut Trainer, rng: &mut Rng, count: usize) -> Vec<f64> {
    let options = trainer.options().clone();
    let step = |_| {
        let batches: Vec<_> = (0..options.accumulate).map(|_| images(rng, options.batch)).collect();
        let batches: Vec<_> = batches
            .iter()
            .map(|(images, labels)| BatchRef { images, labels, names: &[] })
            .collect();
        trainer.step(&batches).unwrap().loss
    };
    (0..count).map(step).collect()
}

/// Bits of all weights and of the optimizer's state.
pub(crate) fn bits(trainer: &Trainer) -> Vec<(String, Vec<u32>)> {
    let bits = |t: &Tensor| t.f32().iter().map(|v| v.to_bits()).collect();
    let weights = trainer.weights().unwrap();
    let mut all: Vec<(String, Vec<u32>)> =
        weights.iter().map(|(n, p)| (n.clone(), bits(p.tensor()))).collect();
    all.extend(trainer.optimizer_state().unwrap().iter().map(|(n, t)| (n.clone(), bits(t))));
    all
}

#[test]
fn the_loss_falls_and_executors_agree() {
    let mut first = Vec::new();
    for (name, optimizer, base) in
        [("sgd", Optimizer::SGD, 0.05), ("adam_w", Optimizer::ADAM_W, 0.003)]
    {
        for device in devices() {
            let schedule = Schedule { base, ..options().schedule };
            let mut trainer = trainer(
                &device,
                TrainOptions { optimizer, schedule, max_norm: Some(5.0), ..options() },
            );
            let losses = steps(&mut trainer, &mut Rng(7), 30);
            let (early, late) = (losses[0], losses[25..].iter().sum::<f64>() / 5.0);
            assert!(late < 0.5 * early, "{name} on {device}: {losses:?}");
            // Rounding differences of the first updates grow later.
            first.push((name, losses[..2].to_vec()));
        }
    }
    for pair in first.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        for (a, b) in pair[0].1.iter().zip(&pair[1].1) {
            assert!((a - b).abs() < 1e-3 * a, "executors differ: {pair:?}");
        }
    }
}

#[test]
fn a_restored_training_goes_on_to_the_same_bits() {
    for device in devices() {
        let options = TrainOptions { accumulate: 2, ..options() };
        let mut whole = trainer(&device, options.clone());
        let mut rng = Rng(3);
        steps(&mut whole, &mut rng, 2);
        let (weights, state, rng_state) =
            (whole.weights().unwrap(), whole.optimizer_state().unwrap(), rng.0);
        steps(&mut whole, &mut rng, 2);

        let mut resumed = trainer(&device, options);
        resumed.restore(2, &weights, &state).unwrap();
        steps(&mut resumed, &mut Rng(rng_state), 2);
        assert_eq!(resumed.steps_done(), 4);
        for (a, b) in bits(&whole).iter().zip(&bits(&resumed)) {
            assert_eq!(a, b, "on {device}");
        }
    }
}

/// With frozen batch norms, two halves have the gradient of the whole if both have the same number
/// of pixels that count.
#[test]
fn gradients_of_two_batches_are_those_of_one_twice_as_large() {
    let loss = PixelLoss { denominator: Denominator::Pixels, ..PixelLoss::default() };
    let options = TrainOptions {
        step: StepOptions { loss, norm: NormMode::Frozen, ..StepOptions::default() },
        ..options()
    };
    let (images, labels) = images(&mut Rng(5), 2);
    let half = |i: usize| {
        let (p, l) = (33 * 33 * 3, 33 * 33);
        let image =
            Tensor::new(Shape::new(1, 33, 33, 3), images.f32()[i * p..][..p].to_vec()).unwrap();
        (
            image,
            Tensor::from_data(
                Shape::new(1, 33, 33, 1),
                Data::U32(labels.u32()[i * l..][..l].to_vec()),
            )
            .unwrap(),
        )
    };
    for device in devices() {
        let mut whole = trainer(&device, options.clone());
        let want =
            whole.step(&[BatchRef { images: &images, labels: &labels, names: &[] }]).unwrap();
        let mut halves =
            trainer(&device, TrainOptions { batch: 1, accumulate: 2, ..options.clone() });
        let both = [half(0), half(1)];
        let both: Vec<_> =
            both.iter().map(|(images, labels)| BatchRef { images, labels, names: &[] }).collect();
        let got = halves.step(&both).unwrap();
        assert!(
            (got.loss - want.loss).abs() < 1e-5
                && (got.gradient_norm / want.gradient_norm - 1.0).abs() < 1e-3,
            "{got:?} {want:?}"
        );
    }
}

#[test]
fn with_one_image_the_pooled_norm_keeps_its_running_statistics() {
    for device in devices() {
        let mut trainer = trainer(&device, TrainOptions { batch: 1, ..options() });
        assert_eq!(trainer.single_value_norms(), ["aspp.pool.conv.norm"]);
        let before = trainer.weights().unwrap();
        steps(&mut trainer, &mut Rng(1), 1);
        let after = trainer.weights().unwrap();
        let moved = |name: &str| before[name].tensor() != after[name].tensor();
        assert!(
            !moved("aspp.pool.conv.norm.running_mean") && !moved("aspp.pool.conv.norm.running_var"),
            "on {device}"
        );
        assert!(
            moved("aspp.project.norm.running_mean") && moved("aspp.project.norm.running_var"),
            "on {device}"
        );
        assert!(moved("aspp.pool.conv.weight") && moved("aspp.pool.conv.norm.bias"), "on {device}");
    }
}

#[test]
fn a_non_finite_value_is_reported_with_its_node_and_changes_nothing() {
    for device in devices() {
        let mut trainer = trainer(&device, options());
        let mut rng = Rng(2);
        steps(&mut trainer, &mut rng, 1);
        let before = bits(&trainer);
        let (mut images, labels) = images(&mut rng, 2);
        images.f32_mut()[100] = f32::NAN;
        let error =
            trainer.step(&[BatchRef { images: &images, labels: &labels, names: &[] }]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Training);
        let text = error.to_string();
        assert!(text.contains("step 2") && text.contains("`backbone."), "{text}");
        let trained = |all: &[(String, Vec<u32>)]| {
            all.iter().filter(|(n, _)| !n.contains("running")).cloned().collect::<Vec<_>>()
        };
        assert_eq!(trained(&before), trained(&bits(&trainer)), "on {device}");
        assert_eq!(trainer.steps_done(), 1);
    }
}

#[test]
fn invalid_options_are_refused() {
    let config = config();
    let weights = random_weights(&config, 1).unwrap();
    let refuse = |options: TrainOptions, message: &str| {
        let error = Trainer::new(&Device::Cpu, &config, &weights, options)
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{error}");
    };
    refuse(TrainOptions { batch: 0, ..options() }, "must be at least 1");
    refuse(
        TrainOptions { class_weights: Some(vec![1.0; CLASSES]), ..options() },
        "require a weighted loss",
    );
    let weighted = StepOptions {
        loss: PixelLoss { weighted: true, ..PixelLoss::default() },
        ..StepOptions::default()
    };
    refuse(
        TrainOptions { step: weighted, class_weights: Some(vec![1.0; 2]), ..options() },
        "expected 3 class weights, got 2",
    );
    refuse(
        TrainOptions { step: weighted, class_weights: Some(vec![0.0; CLASSES]), ..options() },
        "all class weights are 0",
    );
    refuse(TrainOptions { accumulate: 65_537, ..options() }, "at most 65536, got 65537");
    refuse(TrainOptions { max_norm: Some(f64::NAN), ..options() }, "above 0");
    let mut fewer = weights.clone();
    fewer.remove("logits.bias");
    assert!(
        Trainer::new(&Device::Cpu, &config, &fewer, options())
            .map(drop)
            .unwrap_err()
            .to_string()
            .contains("logits.bias")
    );
    let estimate = Trainer::estimate_memory(&Device::Cpu, &config, &options()).unwrap();
    assert!(estimate.activations > estimate.parameters, "{estimate}");
    assert!(estimate.total() > estimate.activations, "{estimate}");
}

#[test]
fn the_loss_of_a_step_includes_that_of_the_auxiliary_head() {
    let mut config = config();
    config.head.as_mut().unwrap().aux = Some(Aux { dropout: 0.0 });
    let loss = |aux: Option<f32>| {
        let options =
            TrainOptions { step: StepOptions { aux, ..StepOptions::default() }, ..options() };
        let weights = random_weights(&config, 1).unwrap();
        let mut trainer = Trainer::new(&Device::Cpu, &config, &weights, options).unwrap();
        steps(&mut trainer, &mut Rng(3), 1)[0]
    };
    let [main, hardly, half] = [None, Some(1e-6), Some(0.5)].map(loss);
    assert!((hardly - main).abs() < 1e-4, "{hardly} instead of {main}");
    assert!(half > main + 0.1, "{half} is no more than {main}");
}

#[test]
fn the_average_of_the_weights_follows_its_formula_on_every_device() {
    for device in devices() {
        let mut trainer = trainer(&device, TrainOptions { ema: Some(0.6), ..options() });
        let numbers = |weights: &Weights| -> Vec<f64> {
            weights.values().flat_map(|p| p.tensor().f32()).map(|&v| f64::from(v)).collect()
        };
        let mut average = numbers(&trainer.weights().unwrap());
        assert_eq!(average, numbers(&trainer.averaged_weights().unwrap()), "it begins with them");
        let mut rng = Rng(5);
        for n in 1..=5 {
            steps(&mut trainer, &mut rng, 1);
            let now = numbers(&trainer.weights().unwrap());
            let decay = f64::min(0.6, 1.0 - f64::from(n).powf(-2.0 / 3.0));
            average.iter_mut().zip(&now).for_each(|(a, w)| *a = decay * *a + (1.0 - decay) * w);
            let got = numbers(&trainer.averaged_weights().unwrap());
            let off = got.iter().zip(&average).map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
            let off = off.fold(0.0, f64::max);
            // Rounding in each of the steps.
            assert!(off < 1e-6, "{off} after step {n} on {device}");
            assert!(n < 2 || got != now, "on {device}");
        }
    }
}

/// A frozen backbone leaves the gradients of the rest as they are with norms that keep their
/// statistics, and takes less memory.
#[test]
fn a_frozen_backbone_does_not_change_what_the_rest_learns() {
    let step = StepOptions { norm: NormMode::BackboneFrozen, ..StepOptions::default() };
    let groups = ParamGroups { backbone: 0.0, ..ParamGroups::default() };
    let kept = TrainOptions { step, groups, ..options() };
    let step = StepOptions { freeze: Some(Freeze::Backbone), ..StepOptions::default() };
    let frozen = TrainOptions { step, ..options() };
    let memory = |options| Trainer::estimate_memory(&Device::Cpu, &config(), options).unwrap();
    let (less, more) = (memory(&frozen), memory(&kept));
    assert!(less.activations < more.activations && less.gradients < more.gradients);
    assert!(less.parameters <= more.parameters + 4096, "{less} {more}");
    for device in devices() {
        let train = |options: &TrainOptions| {
            let mut trainer = trainer(&device, options.clone());
            let losses = steps(&mut trainer, &mut Rng(7), 2);
            (losses, trainer.weights().unwrap(), trainer.optimizer_state().unwrap().len())
        };
        let ((losses, weights, states), (other, others, all)) = (train(&frozen), train(&kept));
        assert_eq!(losses, other, "on {device}");
        assert!(states < all, "{states} of {all}");
        for (name, tensor) in &weights {
            assert!(tensor.tensor() == others[name].tensor(), "{name} on {device}");
        }
    }
}
