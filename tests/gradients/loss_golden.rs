//! Losses and their gradients against results of PyTorch and segmentation-models-pytorch
//! (`tests/golden/losses.py`).

use crate::support::{allclose, devices, run_op};
use atrous::engine::exec::Runner;
use atrous::engine::graph::Graph;
use atrous::engine::ops::{LOSS_TERMS, Op, PixelLoss, SegmentationLoss};
use atrous::engine::{Data, Shape, Tensor};
use atrous::train::LossRecipe;
use safetensors::SafeTensors;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::path::Path;
use std::sync::Arc;

#[derive(Deserialize)]
struct Record {
    case: String,
    #[serde(deserialize_with = "pixel")]
    pixel: PixelLoss,
    align_corners: bool,
    share: f32,
    loss: f64,
}

/// The loss of a recipe, and what follows from other settings there.
fn pixel<'de, D: Deserializer<'de>>(file: D) -> Result<PixelLoss, D::Error> {
    let mut fields = serde_json::Map::deserialize(file)?;
    let mut take = |name: &str| fields.remove(name).is_some_and(|value| value == true);
    let (weighted, mined) = (take("weighted"), take("mined"));
    let recipe: LossRecipe = serde_json::from_value(fields.into()).map_err(D::Error::custom)?;
    Ok(recipe.pixel_loss(weighted, mined))
}

/// Elements of the file, maps from NCHW to our order.
fn floats(file: &SafeTensors, name: &str) -> (Shape, Vec<f32>) {
    let view = file.tensor(name).unwrap();
    let values: Vec<f32> =
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let &[n, c, h, w] = view.shape() else { return (Shape::vector(values.len()), values) };
    let shape = Shape::new(n, h, w, c);
    let tensor = Tensor::from_fn(shape, |n, y, x, k| values[((n * c + k) * h + y) * w + x]);
    (shape, tensor.f32().to_vec())
}

/// The cases of a file, its tensors, and its labels.
struct Recorded {
    bytes: Vec<u8>,
    records: Vec<Record>,
    labels: Tensor,
}

impl Recorded {
    fn read(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/losses");
        let bytes = std::fs::read(directory.join(name)).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let records = serde_json::from_str(&header.metadata().as_ref().unwrap()["cases"]).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let labels = file.tensor("labels").unwrap();
        let &[n, h, w] = labels.shape() else { panic!("labels {:?}", labels.shape()) };
        let data = Data::U32(labels.data().iter().map(|&label| label.into()).collect());
        let labels = Tensor::from_data(Shape::new(n, h, w, 1), data).unwrap();
        Self { bytes, records, labels }
    }

    fn tensor(&self, name: &str) -> Tensor {
        let (shape, values) = floats(&SafeTensors::deserialize(&self.bytes).unwrap(), name);
        Tensor::from_data(shape, Data::F32(values)).unwrap()
    }

    fn gradient(&self, case: &str) -> Vec<f64> {
        self.tensor(&format!("{case}.gradient")).f32().iter().map(|&v| f64::from(v)).collect()
    }
}

#[test]
fn losses_and_gradients_are_pytorchs() {
    let recorded = Recorded::read("losses.safetensors");
    let records = &recorded.records;
    for term in LOSS_TERMS {
        let is_covered = records.iter().any(|record| term.is_set(&record.pixel));
        assert!(is_covered, "no case has the term {}", term.name());
    }
    let mut problems = Vec::new();
    for Record { case, pixel, align_corners, share, loss } in records {
        let mut inputs = vec![recorded.tensor("logits"), recorded.labels.clone()];
        inputs.extend(pixel.weighted.then(|| recorded.tensor("weights")));
        let share = Data::F32(vec![*share, 0.0, 0.0, 0.0]);
        inputs.extend(pixel.mined.then(|| Tensor::from_data(Shape::vector(4), share).unwrap()));
        let op: Arc<dyn Op> =
            Arc::new(SegmentationLoss { align_corners: *align_corners, ..(*pixel).into() });
        for device in devices() {
            for (label, got) in run_op(&device, &op, &inputs).unwrap() {
                let what = format!("{case} on {device}, {label}");
                problems.extend(differences(&what, &got, *loss, &recorded.gradient(case)));
            }
        }
    }
    assert!(records.len() >= 10);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Tolerances as in `loss.rs`; some hundred pixels are summed.
fn differences(what: &str, got: &[Tensor], loss: f64, gradient: &[f64]) -> Vec<String> {
    [
        allclose(&format!("{what}: loss"), &got[0], &[loss], 2e-6, 1e-5),
        allclose(&format!("{what}: gradient"), &got[1], gradient, 1e-6, 1e-4),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect()
}

/// One output with zeros in front of it, for the background: the loss over two classes is binary
/// cross entropy, with PyTorch's `pos_weight` as the weight of class 1, and the focal and Dice
/// losses of binary networks.
#[test]
fn losses_of_one_output_are_pytorchs_binary_ones() {
    let recorded = Recorded::read("binary.safetensors");
    let logits = recorded.tensor("logits");
    let mut problems = Vec::new();
    for Record { case, pixel, align_corners, loss, .. } in &recorded.records {
        let mut graph = Graph::new();
        let x = graph.input("x", logits.ty());
        let scores = graph.root().prepend("background", 0.0, x).unwrap();
        let labels = graph.input("labels", recorded.labels.ty());
        let mut read = vec![scores, labels];
        let weights = recorded.tensor("weights");
        read.extend(pixel.weighted.then(|| graph.input("weights", weights.ty())));
        let op = SegmentationLoss { align_corners: *align_corners, ..(*pixel).into() };
        let (value, seed) = graph.root().segmentation_loss("loss", op, &read).unwrap();
        let gradient = graph.gradients(&[(scores, seed)], &[x]).unwrap()[0].unwrap();
        graph.output("loss", value);
        graph.output("gradient", gradient);
        for device in devices() {
            let mut inputs = vec![("x", &logits), ("labels", &recorded.labels)];
            inputs.extend(pixel.weighted.then_some(("weights", &weights)));
            let got = Runner::new(&device, graph.clone()).unwrap().run(&inputs).unwrap();
            let what = format!("{case} on {device}");
            problems.extend(differences(&what, &got, *loss, &recorded.gradient(case)));
        }
    }
    assert_eq!(recorded.records.len(), 4);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
