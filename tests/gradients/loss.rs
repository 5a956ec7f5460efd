//! Segmentation losses against their formulas and finite differences, at several sizes of logits.

use crate::oracle::{self, Map};
use crate::support::{Rng, allclose, devices, run_op};
use atrous::Size;
use atrous::engine::exec::Runner;
use atrous::engine::graph::Graph;
use atrous::engine::ops::{Denominator, Dice, Op, PixelLoss, SegmentationLoss};
use atrous::engine::{Data, Shape, Tensor, TensorType};
use std::sync::Arc;

/// A loss at a point.
struct Case {
    op: SegmentationLoss,
    logits: Tensor,
    labels: Tensor,
    weights: Vec<f32>,
    fraction: f32,
}

impl Case {
    /// Random scores, with some ignored pixels and some whose label is not a class. Neighboring
    /// pixels share their labels, as in images, so that interpolation matters.
    fn random(rng: &mut Rng, op: SegmentationLoss, from: Shape, (h, w): (usize, usize)) -> Self {
        let shape = from.with_c(1).with_hw(h, w);
        let labels = (0..shape.positions()).map(|i| match i % 7 {
            3 => 255,
            5 => 200,
            _ => rng.range(0, from.c - 1) as u32,
        });
        Self {
            op,
            labels: Tensor::from_data(shape, Data::U32(labels.collect())).unwrap(),
            logits: Tensor::from_fn(from, |_, _, _, _| 6.0 * rng.unit()),
            weights: (0..from.c).map(|_| 1.5 + rng.unit()).collect(),
            fraction: 0.4,
        }
    }

    fn what(&self) -> String {
        format!("{} from {} to {}", self.op.attributes(), self.logits.shape(), self.labels.shape())
    }

    fn inputs(&self) -> Vec<Tensor> {
        let mut inputs = vec![self.logits.clone(), self.labels.clone()];
        let vector = |v: Vec<f32>| Tensor::from_data(Shape::vector(v.len()), Data::F32(v)).unwrap();
        inputs.extend(self.op.pixel.weighted.then(|| vector(self.weights.clone())));
        inputs.extend(self.op.pixel.mined.then(|| vector(vec![self.fraction, 7.0, 7.0, 7.0])));
        inputs
    }

    /// The formulas of `src/ops/train/pixel_loss/mod.rs`, pixel by pixel, in double precision.
    fn value(&self, logits: &Map) -> f64 {
        let (loss, to, classes) = (self.op.pixel, self.labels.shape(), logits.shape.c);
        let x = oracle::resize(logits, (to.h, to.w), self.op.align_corners, None);
        let labels = self.labels.u32();
        let counted: Vec<usize> = (0..labels.len())
            .filter(|&i| labels[i] != loss.ignore && (labels[i] as usize) < classes)
            .collect();
        let weight = |c: usize| if loss.weighted { f64::from(self.weights[c]) } else { 1.0 };
        let scores = |i: usize| &x.data[i * classes..][..classes];
        let log_p =
            |i: usize, c: usize| scores(i)[c] - scores(i).iter().map(|x| x.exp()).sum::<f64>().ln();
        let smoothing = f64::from(loss.smoothing);
        let each = |&i: &usize| {
            let target = labels[i] as usize;
            let focus = (1.0 - log_p(i, target).exp()).powf(loss.gamma.into());
            let hard = -weight(target) * focus * log_p(i, target);
            let soft: f64 = (0..classes).map(|c| -weight(c) * log_p(i, c)).sum();
            let counted =
                if loss.denominator == Denominator::Pixels { 1.0 } else { weight(target) };
            ((1.0 - smoothing) * hard + smoothing / classes as f64 * soft, counted)
        };
        let mut pixels: Vec<(f64, f64)> = counted.iter().map(each).collect();
        if loss.mined {
            // A fraction of all pixels, as in TensorFlow. Equal losses are kept or dropped
            // together: maps of one row or column have many of them.
            let kept = ((self.fraction * labels.len() as f32) as usize).max(1);
            pixels.sort_by(|a, b| b.0.total_cmp(&a.0));
            let threshold = pixels.get(kept - 1).map_or(0.0, |p| p.0 * (1.0 - 1e-9));
            pixels.retain(|p| p.0 >= threshold);
        }
        let (sum, denominator) =
            pixels.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
        let mut total = if denominator > 0.0 { sum / denominator } else { 0.0 };
        if let Some(Dice { weight, smooth, background }) = loss.dice {
            let first = usize::from(!background);
            let class = |c: usize| {
                let own: Vec<usize> =
                    counted.iter().copied().filter(|&i| labels[i] as usize == c).collect();
                let inside: f64 = own.iter().map(|&i| log_p(i, c).exp()).sum();
                let everywhere: f64 = counted.iter().map(|&i| log_p(i, c).exp()).sum();
                let smooth = f64::from(smooth);
                let score = (2.0 * inside + smooth) / (everywhere + own.len() as f64 + smooth);
                if own.is_empty() { 0.0 } else { 1.0 - score }
            };
            let counted = classes - first;
            total += f64::from(weight) * (first..classes).map(class).sum::<f64>()
                / counted.max(1) as f64;
        }
        total * f64::from(self.op.factor)
    }

    fn slopes(&self) -> Vec<f64> {
        let h = 1e-5;
        let mut x = Map::of(&self.logits);
        let each = |i: usize| {
            let here = x.data[i];
            x.data[i] = here + h;
            let above = self.value(&x);
            x.data[i] = here - h;
            let below = self.value(&x);
            x.data[i] = here;
            (above - below) / (2.0 * h)
        };
        (0..self.logits.shape().len()).map(each).collect()
    }

    /// Differences from the formula on any device.
    fn problems(&self) -> Vec<String> {
        let (value, slopes) = (self.value(&Map::of(&self.logits)), self.slopes());
        let op: Arc<dyn Op> = Arc::new(self.op);
        let mut problems = Vec::new();
        for device in devices() {
            match run_op(&device, &op, &self.inputs()) {
                Err(e) => problems.push(format!("{} on {device}: {e}", self.what())),
                Ok(results) => {
                    for (label, got) in results {
                        let what = format!("{} on {device}, {label}", self.what());
                        // Scores of up to 6 are rounded by 5e-7, and so are the logarithms of
                        // probabilities. Exponentials and powers are off by a few more units in the
                        // last place.
                        problems.extend(
                            allclose(&format!("{what}: loss"), &got[0], &[value], 2e-6, 2e-5).err(),
                        );
                        problems.extend(
                            allclose(&format!("{what}: gradient"), &got[1], &slopes, 2e-6, 1e-4)
                                .err(),
                        );
                    }
                }
            }
        }
        problems
    }
}

fn check(cases: &[Case]) {
    let problems: Vec<String> = cases.iter().flat_map(Case::problems).collect();
    let shown = problems.iter().take(8).cloned().collect::<Vec<_>>().join("\n");
    assert!(problems.is_empty(), "{} problems in {} cases:\n{shown}", problems.len(), cases.len());
}

/// Each attribute once, and some combinations.
fn kinds() -> Vec<PixelLoss> {
    let plain = PixelLoss::default();
    let dice = |smooth| Some(Dice { weight: 0.7, smooth, background: true });
    vec![
        plain,
        PixelLoss { weighted: true, ..plain },
        PixelLoss { weighted: true, denominator: Denominator::Pixels, ..plain },
        PixelLoss { smoothing: 0.1, ..plain },
        PixelLoss { smoothing: 0.2, weighted: true, ..plain },
        PixelLoss { gamma: 2.0, ..plain },
        PixelLoss { gamma: 0.5, weighted: true, denominator: Denominator::Pixels, ..plain },
        PixelLoss { mined: true, ..plain },
        PixelLoss {
            mined: true,
            smoothing: 0.1,
            weighted: true,
            denominator: Denominator::Pixels,
            ..plain
        },
        PixelLoss { dice: dice(0.0), ..plain },
        PixelLoss { dice: Some(Dice { background: false, ..Dice::PLAIN }), ..plain },
        PixelLoss { dice: dice(1.0), weighted: true, smoothing: 0.1, mined: true, ..plain },
        PixelLoss { dice: dice(1.0), gamma: 2.0, mined: true, ..plain },
    ]
}

#[test]
fn every_kind_of_loss_at_the_labels_size() {
    let mut rng = Rng(1);
    let mut cases = Vec::new();
    for shape in [
        Shape::new(2, 3, 5, 6),
        Shape::new(1, 5, 6, 21),
        Shape::new(1, 1, 1, 2),
        Shape::new(1, 9, 8, 4),
    ] {
        cases.extend(
            kinds()
                .into_iter()
                .map(|pixel| Case::random(&mut rng, pixel.into(), shape, (shape.h, shape.w))),
        );
    }
    check(&cases);
}

#[test]
fn every_kind_of_loss_at_another_size() {
    let mut rng = Rng(2);
    let mut cases = Vec::new();
    // Upsampled, downsampled, both, one row or column or pixel wide, several images, classes that
    // do not fill a vec4.
    for (from, to) in [
        (Shape::new(2, 2, 3, 6), (7, 9)),
        (Shape::new(1, 3, 4, 5), (12, 16)),
        (Shape::new(1, 1, 4, 3), (5, 6)),
        (Shape::new(2, 5, 1, 4), (9, 4)),
        (Shape::new(1, 7, 6, 3), (4, 3)),
        (Shape::new(1, 6, 2, 2), (3, 11)),
    ] {
        for (i, pixel) in kinds().into_iter().enumerate() {
            let op = SegmentationLoss {
                pixel,
                factor: if i % 3 == 0 { 0.4 } else { 1.0 },
                align_corners: i % 2 == 0,
            };
            cases.push(Case::random(&mut rng, op, from, to));
            cases.push(Case::random(
                &mut rng,
                SegmentationLoss { align_corners: i % 2 == 1, ..op },
                from,
                to,
            ));
        }
    }
    for align_corners in [false, true] {
        let op = SegmentationLoss { align_corners, ..PixelLoss::default().into() };
        cases.push(Case::random(&mut rng, op, Shape::new(2, 1, 1, 7), (5, 4)));
        cases.push(Case::random(&mut rng, op, Shape::new(1, 4, 3, 7), (1, 1)));
    }
    check(&cases);
}

/// Upsampling, the loss at full size and the upsampling's gradient; or the single operation.
fn graph_of(case: &Case, fused: bool) -> Graph {
    let mut graph = Graph::new();
    let inputs = case.inputs();
    let mut read: Vec<_> =
        inputs.iter().enumerate().map(|(i, t)| graph.input(&i.to_string(), t.ty())).collect();
    let (small, to) = (read[0], case.labels.shape());
    if !fused {
        read[0] =
            graph.root().resize("up", small, Size::new(to.w, to.h), case.op.align_corners).unwrap();
    }
    let (loss, gradient) = graph.root().segmentation_loss("loss", case.op, &read).unwrap();
    let gradient = if fused {
        gradient
    } else {
        graph.gradients(&[(read[0], gradient)], &[small]).unwrap()[0].unwrap()
    };
    graph.output("loss", loss);
    graph.output("gradient", gradient);
    graph
}

#[test]
fn the_fused_loss_is_upsampling_then_the_loss_then_the_upsamplings_gradient() {
    let mut rng = Rng(3);
    let mut problems = Vec::new();
    for (i, pixel) in kinds().into_iter().enumerate() {
        let from =
            Shape::new(rng.range(1, 3), rng.range(2, 12), rng.range(2, 12), rng.range(2, 23));
        let op = SegmentationLoss { align_corners: i % 2 == 1, ..pixel.into() };
        let to = (rng.range(1, 60), rng.range(1, 60));
        let case = Case::random(&mut rng, op, from, to);
        let inputs = case.inputs();
        let named: Vec<(String, &Tensor)> =
            inputs.iter().enumerate().map(|(i, t)| (i.to_string(), t)).collect();
        let named: Vec<(&str, &Tensor)> = named.iter().map(|(n, t)| (n.as_str(), *t)).collect();
        for device in devices() {
            let run =
                |fused| Runner::new(&device, graph_of(&case, fused)).unwrap().run(&named).unwrap();
            let (got, want) = (run(true), run(false));
            for (output, (got, want)) in ["loss", "gradient"].into_iter().zip(got.iter().zip(&want))
            {
                let want: Vec<f64> = want.f32().iter().map(|&v| v.into()).collect();
                // A gradient is a sum over some hundred pixels of terms up to the gradient at full
                // size; the order of the sum differs.
                problems.extend(
                    allclose(
                        &format!("{} on {device}: {output}", case.what()),
                        got,
                        &want,
                        2e-6,
                        2e-5,
                    )
                    .err(),
                );
            }
            assert_eq!(run(true), got, "the same bits each time on {device}");
        }
    }
    assert!(problems.is_empty(), "{} differ:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn the_threads_of_the_processor_do_not_change_a_bit() {
    let mut rng = Rng(4);
    let pixel = PixelLoss { mined: true, dice: Some(Dice::PLAIN), ..PixelLoss::default() };
    let case = Case::random(&mut rng, pixel.into(), Shape::new(2, 9, 8, 5), (65, 60));
    let op: Arc<dyn Op> = Arc::new(case.op);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            run_op(&atrous::engine::exec::Device::Cpu, &op, &case.inputs())
                .unwrap()
                .swap_remove(0)
                .1
        })
    };
    let one = with(1);
    assert!(one[1].f32().iter().any(|g| *g != 0.0));
    for threads in [2, 3] {
        assert_eq!(with(threads), one, "{threads} threads");
    }
}

/// Pixels with the given losses: two classes, the label is the first.
fn with_losses(losses: &[f32]) -> (Tensor, Tensor) {
    let shape = Shape::new(1, 1, losses.len(), 2);
    // -ln p = l if the other score is ln(e^l - 1) above the label's.
    let scores = losses
        .iter()
        .flat_map(|&l| [0.0, if l == 0.0 { -200.0 } else { l.exp_m1().ln() }])
        .collect();
    let labels = Tensor::from_data(shape.with_c(1), Data::U32(vec![0; losses.len()])).unwrap();
    (Tensor::from_data(shape, Data::F32(scores)).unwrap(), labels)
}

/// Hard-pixel mining on every device: the loss, and which pixels have a gradient.
fn mined(losses: &[f32], fraction: f32) -> Vec<(String, f32, Vec<bool>)> {
    let (logits, labels) = with_losses(losses);
    let fraction = Tensor::new(Shape::vector(4), vec![fraction, 0.0, 0.0, 0.0]).unwrap();
    let op: Arc<dyn Op> =
        Arc::new(SegmentationLoss::from(PixelLoss { mined: true, ..PixelLoss::default() }));
    let mut all = Vec::new();
    for device in devices() {
        for (label, got) in
            run_op(&device, &op, &[logits.clone(), labels.clone(), fraction.clone()]).unwrap()
        {
            let kept = got[1].f32().chunks_exact(2).map(|g| g[0] != 0.0).collect();
            all.push((format!("{device} {label}"), got[0].f32()[0], kept));
        }
    }
    all
}

#[test]
fn ties_at_the_threshold_are_all_kept() {
    let losses = [0.5, 2.0, 1.0, 1.0, 3.0, 1.0, 0.25, 0.125];
    for (device, loss, kept) in mined(&losses, 0.4) {
        // Three pixels of eight are selected: 3, 2, and the first of three with loss 1.
        assert_eq!(kept, [false, true, true, true, true, true, false, false], "{device}");
        assert!((loss - 8.0 / 5.0).abs() < 1e-5, "{device}: {loss}");
    }
}

#[test]
fn pixels_without_a_loss_are_never_kept() {
    for (device, loss, kept) in mined(&[0.0, 0.5, 0.0, 1.5], 1.0) {
        assert_eq!(kept, [false, true, false, true], "{device}");
        assert!((loss - 1.0).abs() < 1e-5, "{device}: {loss}");
    }
    for (device, loss, kept) in mined(&[0.0, 0.0], 0.5) {
        assert_eq!((loss, kept), (0.0, vec![false, false]), "{device}");
    }
}

#[test]
fn a_share_that_rounds_to_no_pixel_keeps_the_hardest() {
    for (device, loss, kept) in mined(&[0.5, 2.0, 1.0], 1e-6) {
        assert_eq!(kept, [false, true, false], "{device}");
        assert!((loss - 2.0).abs() < 1e-5, "{device}: {loss}");
    }
}

#[test]
fn the_hardest_of_many_pixels_are_found_over_all_magnitudes() {
    // The selection uses more than one workgroup, and losses from 1e-6 to 20 use every digit.
    let mut rng = Rng(5);
    let losses: Vec<f32> = (0..20_000).map(|_| (10f32).powf(3.65 * rng.unit() - 2.35)).collect();
    let mut results = Vec::new();
    for fraction in [0.003, 0.25, 0.9] {
        let mut sorted: Vec<f64> = losses.iter().map(|&l| l.into()).collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let kept = (fraction * 20_000.0) as usize;
        let want = sorted[..kept].iter().sum::<f64>() / kept as f64;
        for (device, loss, chosen) in mined(&losses, fraction) {
            let count = chosen.iter().filter(|c| **c).count();
            // Losses that differ only by rounding may become equal.
            assert!(count >= kept && count <= kept + 20, "{device}: {count} instead of {kept}");
            assert!(
                (f64::from(loss) - want).abs() < 1e-3 * want,
                "{device}: {loss} instead of {want}"
            );
            results.push(count);
        }
    }
    assert!(results.len() >= 3);
}

#[test]
fn logits_that_overflow_an_exponential_do_no_harm() {
    let shape = Shape::new(1, 1, 2, 3);
    let logits =
        Tensor::from_data(shape, Data::F32(vec![800.0, 0.0, -800.0, -1000.0, -1000.0, -1001.0]))
            .unwrap();
    for gamma in [0.0, 2.0] {
        check_finite(PixelLoss { gamma, ..PixelLoss::default() }, &logits, &[1, 0], 800.0 / 2.0);
    }
}

#[test]
fn an_image_of_ignored_pixels_has_no_loss_and_no_gradient() {
    let logits = Rng(6).tensor(Shape::new(1, 2, 2, 5));
    for kind in kinds() {
        check_finite(kind, &logits, &[255; 4], 0.0);
    }
}

#[test]
fn a_loss_that_is_no_number_is_not_hidden_by_mining() {
    let logits = Tensor::new(Shape::new(1, 1, 2, 2), vec![f32::NAN, 0.0, 0.0, 1.0]).unwrap();
    let labels = Tensor::from_data(Shape::new(1, 1, 2, 1), Data::U32(vec![0, 0])).unwrap();
    let fraction = Tensor::new(Shape::vector(4), vec![0.5, 0.0, 0.0, 0.0]).unwrap();
    let op: Arc<dyn Op> =
        Arc::new(SegmentationLoss::from(PixelLoss { mined: true, ..PixelLoss::default() }));
    // On the CPU only: the handling of NaN on a device depends on its compiler.
    let got = run_op(&atrous::engine::exec::Device::Cpu, &op, &[logits, labels, fraction]).unwrap();
    assert!(got[0].1[0].f32()[0].is_nan());
}

/// The loss, to within a hundredth of its size or 1, and only finite numbers.
fn check_finite(kind: PixelLoss, logits: &Tensor, labels: &[u32], about: f32) {
    let labels = Tensor::from_data(logits.shape().with_c(1), Data::U32(labels.to_vec())).unwrap();
    let case = Case {
        op: kind.into(),
        logits: logits.clone(),
        labels,
        weights: vec![1.0; logits.shape().c],
        fraction: 0.5,
    };
    let op: Arc<dyn Op> = Arc::new(case.op);
    for device in devices() {
        for (label, got) in run_op(&device, &op, &case.inputs()).unwrap() {
            let value = got[0].f32()[0];
            let what = format!("{} on {device}, {label}", case.what());
            assert!(
                (value - about).abs() <= if about == 0.0 { 0.0 } else { 1.0 + 0.01 * about },
                "{what}: {value}"
            );
            assert!(
                got[1].f32().iter().all(|g| g.is_finite() && (about > 0.0 || *g == 0.0)),
                "{what}"
            );
        }
    }
}

#[test]
fn inputs_of_another_shape_and_numbers_without_sense_are_refused() {
    let (logits, labels) =
        (TensorType::f32(Shape::new(1, 2, 3, 4)), TensorType::u32(Shape::new(1, 5, 7, 1)));
    let op = |pixel: PixelLoss| SegmentationLoss::from(pixel);
    let plain = PixelLoss::default();
    assert!(op(plain).output_types(&[logits, labels]).is_ok());
    assert!(
        op(plain).output_types(&[logits, TensorType::u32(Shape::new(2, 5, 7, 1))]).is_err(),
        "another batch"
    );
    assert!(
        op(plain).output_types(&[logits, TensorType::u32(Shape::new(1, 5, 7, 4))]).is_err(),
        "labels of four channels"
    );
    assert!(op(plain).output_types(&[logits, TensorType::f32(labels.shape)]).is_err());
    assert!(op(plain).output_types(&[logits]).is_err());
    let weighted = op(PixelLoss { weighted: true, ..plain });
    assert!(weighted.output_types(&[logits, labels, TensorType::f32(Shape::vector(3))]).is_err());
    assert!(weighted.output_types(&[logits, labels, TensorType::f32(Shape::vector(4))]).is_ok());
    let mined = op(PixelLoss { mined: true, ..plain });
    assert!(mined.output_types(&[logits, labels, TensorType::f32(Shape::vector(1))]).is_err());
    assert!(mined.output_types(&[logits, labels]).is_err());
    for wrong in [
        PixelLoss { smoothing: 1.5, ..plain },
        PixelLoss { gamma: -1.0, ..plain },
        PixelLoss { gamma: 2.0, smoothing: 0.1, ..plain },
        PixelLoss { dice: Some(Dice { weight: f32::NAN, ..Dice::PLAIN }), ..plain },
        PixelLoss { dice: Some(Dice { smooth: -1.0, ..Dice::PLAIN }), ..plain },
    ] {
        assert!(op(wrong).output_types(&[logits, labels]).is_err(), "{wrong:?}");
    }
}
