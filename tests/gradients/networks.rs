//! A whole training step: gradients of networks on both executors, and directional derivatives
//! along the gradient.

use crate::support::models::random_weights;
use crate::support::{Rng, devices};
use atrous::engine::exec::{Device, Runner};
use atrous::engine::graph::{ParamRef, Weights};
use atrous::engine::models::mobilenet_v2::MobileNetV2;
use atrous::engine::models::{
    Aux, Backbone, Config, ConvKind, Decoder, Outputs, PaperHead, build_network,
};
use atrous::engine::ops::{Dice, PixelLoss};
use atrous::engine::training::{TrainingStep, training_step};
use atrous::engine::{Data, Shape, Tensor};
use atrous::train::{Mining, NormMode, StepOptions};

fn small_head(mut config: Config) -> Config {
    let head = config.head.as_mut().expect("made with a head");
    head.aspp.channels = 16;
    if let Decoder::Plus(plus) = &mut head.decoder {
        plus.channels = 16;
        plus.low_level_channels = 8;
    }
    config
}

/// Minimal networks with every kind of layer.
fn configs() -> Vec<(&'static str, Config)> {
    let named = |name: &str| Backbone::named(name).expect("the name is known");
    let narrow = Backbone::MobileNetV2(MobileNetV2::with_width(0.25, 8));
    let mut separable = Config::deeplab_v3plus(narrow.clone(), 5);
    let head = separable.head.as_mut().expect("made with a head");
    head.aspp.kind = ConvKind::Separable;
    head.aspp.separable_after = true;
    vec![
        ("MobileNetV2, separable", small_head(separable)),
        (
            "MobileNetV2 for phones",
            small_head(Config::paper(narrow, PaperHead::Phone, 4).expect("it can have it")),
        ),
        ("ResNet-18", small_head(Config::deeplab_v3plus(named("resnet18"), 3))),
        ("MobileNetV3", small_head(Config::deeplab_v3plus(named("mobilenet_v3"), 6))),
    ]
}

struct Batch {
    input: Tensor,
    labels: Tensor,
    step: Tensor,
}

impl Batch {
    fn random(rng: &mut Rng, shape: Shape, classes: usize) -> Self {
        let label = |i: usize, rng: &mut Rng| {
            if i.is_multiple_of(11) { 255 } else { rng.range(0, classes - 1) as u32 }
        };
        let labels = (0..shape.positions()).map(|i| label(i, rng)).collect();
        Self {
            input: rng.tensor(shape),
            labels: Tensor::from_data(shape.with_c(1), Data::U32(labels)).unwrap(),
            step: Tensor::from_data(Shape::vector(1), Data::U32(vec![3])).unwrap(),
        }
    }

    /// The outputs of a step by name.
    fn run(
        &self,
        device: &Device,
        step: &TrainingStep,
        weights: &Weights,
    ) -> Vec<(String, Tensor)> {
        let mut graph = step.graph.clone();
        let names: Vec<String> = graph.params().map(|(info, _)| info.name.clone()).collect();
        let wanted: Weights = names.iter().map(|n| (n.clone(), weights[n].clone())).collect();
        graph.bind(&wanted).unwrap();
        let mining = Mining { top: 0.3, steps: 0 }.input(0);
        let all = [
            ("input", &self.input),
            ("labels", &self.labels),
            ("step", &self.step),
            ("mining", &mining),
        ];
        let inputs: Vec<_> =
            all.into_iter().filter(|(name, _)| graph.inputs().any(|(n, _)| n == *name)).collect();
        let names: Vec<String> = graph.outputs().iter().map(|(n, _)| n.clone()).collect();
        names.into_iter().zip(Runner::new(device, graph).unwrap().run(&inputs).unwrap()).collect()
    }
}

fn step_of(config: &Config, shape: Shape, options: &StepOptions) -> TrainingStep {
    let outputs = Outputs { logits_full: true, aux: options.aux.is_some(), ..Outputs::default() };
    training_step(build_network(config, shape, &outputs).unwrap(), options).unwrap()
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

#[test]
fn executors_agree_on_every_gradient_of_whole_networks() {
    let shape = Shape::new(4, 33, 41, 3);
    let mut problems = Vec::new();
    for (name, config) in configs() {
        let weights = random_weights(&config, 5);
        let batch = Batch::random(&mut Rng(7), shape, config.classes().unwrap());
        for norm_mode in [NormMode::Train, NormMode::Frozen] {
            let step =
                step_of(&config, shape, &StepOptions { norm: norm_mode, ..StepOptions::default() });
            assert!(step.single_value_norms.is_empty(), "{name}");
            let all = atrous::engine::models::parameters(&config).unwrap();
            let trained = all.iter().filter(|(info, _)| info.role.part.is_trained()).count();
            assert_eq!(
                step.trained.len(),
                trained,
                "{name}: every trained parameter has a gradient"
            );
            let results: Vec<_> =
                devices().iter().map(|device| batch.run(device, &step, &weights)).collect();
            for other in &results[1..] {
                for ((output, a), (_, b)) in results[0].iter().zip(other) {
                    let difference =
                        norm(a.f32().iter().zip(b.f32()).map(|(a, b)| f64::from(a - b)));
                    let size = norm(a.f32().iter().map(|&v| v.into()));
                    // Rounding errors grow through some fifty layers: norms over maps of 3x3 divide
                    // by small deviations, and ReLUs whose input is 0 within rounding may switch. A
                    // wrong term has the size of the gradient itself. A value that a following norm
                    // subtracts has a gradient of zero, up to rounding.
                    if difference.is_nan() || difference > 1e-2 * size + 2e-6 {
                        problems.push(format!("{name}, {norm_mode:?}, {output}: differs by {difference:.2e} of {size:.2e}"));
                    }
                }
            }
        }
    }
    assert!(problems.is_empty(), "{} outputs differ:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn a_small_step_against_the_gradient_lowers_the_loss_by_as_much_as_it_says() {
    let shape = Shape::new(4, 33, 41, 3);
    for (name, config) in configs() {
        let weights = random_weights(&config, 6);
        let batch = Batch::random(&mut Rng(8), shape, config.classes().unwrap());
        let step = step_of(&config, shape, &StepOptions::default());
        let results = batch.run(&Device::Cpu, &step, &weights);
        let gradient = |parameter: &str| {
            &results.iter().find(|(n, _)| n == &format!("grad.{parameter}")).unwrap().1
        };
        let square: f64 = step
            .trained
            .iter()
            .map(|p| norm(gradient(p).f32().iter().map(|&v| v.into())).powi(2))
            .sum();
        let loss = |step_size: f64| {
            let moved: Weights = weights
                .iter()
                .map(|(name, param)| {
                    let mut tensor = param.tensor().clone();
                    if step.trained.contains(name) {
                        let g = gradient(name).f32();
                        tensor
                            .f32_mut()
                            .iter_mut()
                            .zip(g)
                            .for_each(|(w, g)| *w += (step_size * f64::from(*g)) as f32);
                    }
                    (name.clone(), ParamRef::new(tensor))
                })
                .collect();
            f64::from(batch.run(&Device::Cpu, &step, &moved)[0].1.f32()[0])
        };
        // A small step is dominated by the rounding of weights and loss, a large one by the
        // curvature: one of these must be accurate.
        let slopes = [2e-4, 1e-3, 5e-3].map(|change| {
            let h = change / square;
            (loss(h) - loss(-h)) / (2.0 * h)
        });
        let close = slopes.iter().any(|slope| (slope / square - 1.0).abs() < 0.03);
        assert!(close, "{name}: the loss changes by {slopes:?}, the gradient predicts {square}");
    }
}

#[test]
fn one_image_trains_with_running_statistics_for_the_pooled_branch() {
    let (_, config) = configs().swap_remove(0);
    let step = step_of(&config, Shape::new(1, 33, 33, 3), &StepOptions::default());
    assert_eq!(step.single_value_norms, ["aspp.pool.conv.norm"]);
    assert!(
        step.trained.iter().any(|p| p == "aspp.pool.conv.norm.weight"),
        "its factor is trained nevertheless"
    );
    let frozen = step_of(
        &config,
        Shape::new(1, 33, 33, 3),
        &StepOptions { norm: NormMode::Frozen, ..StepOptions::default() },
    );
    assert!(frozen.norms.is_empty() && frozen.single_value_norms.is_empty());
}

#[test]
fn a_network_without_scores_at_full_size_is_refused() {
    let (_, config) = configs().swap_remove(0);
    let network = build_network(&config, Shape::new(1, 33, 33, 3), &Outputs::default()).unwrap();
    let error = training_step(network, &StepOptions::default()).unwrap_err().to_string();
    assert!(error.contains("logits_full"), "{error}");
}

/// The largest difference of two results, relative to each output's norm, and where it is.
fn furthest(a: &[(String, Tensor)], b: impl Fn(&str) -> Vec<f32>) -> (f64, String) {
    let each = a.iter().map(|(name, a)| {
        let difference = norm(a.f32().iter().zip(b(name)).map(|(a, b)| f64::from(a - b)));
        (difference / (norm(a.f32().iter().map(|&v| v.into())) + 1e-4), name.clone())
    });
    each.max_by(|a, b| a.0.total_cmp(&b.0)).expect("a step has outputs")
}

fn values<'a>(results: &'a [(String, Tensor)], name: &str) -> &'a [f32] {
    results.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no output `{name}`")).1.f32()
}

#[test]
fn scores_of_the_labels_size_are_not_stored_and_nothing_else_changes() {
    let shape = Shape::new(2, 33, 41, 3);
    let (_, mut config) = configs().swap_remove(2);
    let batch = Batch::random(&mut Rng(9), shape, config.classes().unwrap());
    let dice = Some(Dice { weight: 0.5, smooth: 1.0, background: true });
    for (align_corners, loss) in [
        (false, PixelLoss::default()),
        (true, PixelLoss { mined: true, dice, ..PixelLoss::default() }),
    ] {
        config.head.as_mut().unwrap().align_corners = align_corners;
        let weights = random_weights(&config, 7);
        let options = StepOptions { loss, norm: NormMode::Frozen, ..StepOptions::default() };
        let fused = step_of(&config, shape, &options);
        let full = step_of(&config, shape, &StepOptions { fused: false, ..options });
        let at_full_size = |step: &TrainingStep| {
            let nodes = step.graph.nodes().iter().flat_map(|n| &n.outputs);
            nodes
                .filter(|&&v| step.graph.shape(v) == shape.with_c(config.classes().unwrap()))
                .count()
        };
        assert_eq!((at_full_size(&fused), at_full_size(&full)), (0, 2));
        for device in devices() {
            let (a, b) =
                (batch.run(&device, &fused, &weights), batch.run(&device, &full, &weights));
            assert_eq!(a.len(), b.len());
            let (off, name) = furthest(&a, |name| values(&b, name).to_vec());
            assert!(off < 1e-3, "{device}: {name} is off by {off:.1e}");
        }
    }
}

#[test]
fn an_auxiliary_head_adds_its_share_to_loss_and_gradients() {
    let shape = Shape::new(2, 33, 41, 3);
    let (_, mut config) = configs().swap_remove(2);
    config.head.as_mut().unwrap().aux = Some(Aux { dropout: 0.0 });
    let weights = random_weights(&config, 8);
    let batch = Batch::random(&mut Rng(10), shape, config.classes().unwrap());
    let frozen = StepOptions { norm: NormMode::Frozen, ..StepOptions::default() };
    let with = |aux: Option<f32>, fused: bool| {
        step_of(&config, shape, &StepOptions { aux, fused, ..frozen })
    };
    let trained = with(Some(0.5), true).trained;
    assert!(trained.iter().any(|p| p.starts_with("aux.")), "the head is trained: {trained:?}");
    for device in devices() {
        let none = batch.run(&device, &with(None, true), &weights);
        let half = batch.run(&device, &with(Some(0.5), true), &weights);
        let two = batch.run(&device, &with(Some(2.0), true), &weights);
        let full = batch.run(&device, &with(Some(2.0), false), &weights);
        let (main, sum, part) =
            (values(&none, "loss")[0], values(&half, "loss")[0], values(&half, "aux_loss")[0]);
        assert!(
            part > 0.0 && (main + part - sum).abs() < 1e-5 * sum,
            "{device}: {main} + {part} is not {sum}"
        );
        // Everything is linear in the factor: none + 4 * (half - none) is two.
        let straight = |name: &str| {
            let at_none = none.iter().find(|(n, _)| n == name).map(|(_, t)| t.f32());
            let half = values(&half, name).iter().enumerate();
            half.map(|(i, half)| {
                at_none.map_or(4.0 * half, |none| none[i] + 4.0 * (half - none[i]))
            })
            .collect()
        };
        let (off, name) = furthest(&two, straight);
        assert!(off < 1e-3, "{device}: {name} is off by {off:.1e}");
        let (off, name) = furthest(&two, |name| values(&full, name).to_vec());
        assert!(off < 1e-3, "{device}: {name} is off by {off:.1e} without fusion");
    }
}

#[test]
fn an_auxiliary_loss_without_its_head_is_refused() {
    let (_, config) = configs().swap_remove(0);
    let outputs = Outputs { logits_full: true, aux: true, ..Outputs::default() };
    let network = build_network(&config, Shape::new(1, 33, 33, 3), &outputs).unwrap();
    let error = training_step(network, &StepOptions { aux: Some(0.4), ..StepOptions::default() })
        .unwrap_err()
        .to_string();
    assert!(error.contains("aux_logits"), "{error}");
}

#[test]
fn branches_that_nothing_reads_are_no_part_of_a_step_and_dropout_is() {
    let mut backbone = MobileNetV2::with_width(0.25, 8);
    // As in Hugging Face: the layer before the classifier is present, but not used.
    backbone.last = Some(24);
    let mut config = small_head(Config::deeplab_v3plus(Backbone::MobileNetV2(backbone), 3));
    let head = config.head.as_mut().expect("made with a head");
    // As in torchvision: an auxiliary head without a weight in the loss.
    (head.aux, head.aspp.dropout) = (Some(Aux { dropout: 0.1 }), 0.3);
    for norm in [NormMode::Train, NormMode::BackboneFrozen] {
        let step = step_of(
            &config,
            Shape::new(2, 33, 41, 3),
            &StepOptions { norm, aux: None, ..StepOptions::default() },
        );
        let has = |part: &str| step.graph.nodes().iter().any(|node| node.name.contains(part));
        assert!(
            !has("aux.")
                && !has("backbone.last")
                && step.norms.iter().all(|(name, _)| !name.starts_with("aux."))
        );
        let drops = step
            .graph
            .nodes()
            .iter()
            .any(|node| node.op.name() == "dropout_train" && node.name.starts_with("aspp."));
        assert!(drops, "{norm:?}");
    }
}
