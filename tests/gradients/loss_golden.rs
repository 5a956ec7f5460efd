//! Losses and their gradients against results of PyTorch and segmentation-models-pytorch
//! (`tests/golden/losses.py`).

use crate::support::{allclose, devices, run_op};
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

#[test]
fn losses_and_gradients_are_pytorchs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/losses/losses.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let records: Vec<Record> =
        serde_json::from_str(&header.metadata().as_ref().unwrap()["cases"]).unwrap();
    let tensor = |name: &str| {
        let (shape, values) = floats(&file, name);
        Tensor::from_data(shape, Data::F32(values)).unwrap()
    };
    let labels = file.tensor("labels").unwrap();
    let &[n, h, w] = labels.shape() else { panic!("labels {:?}", labels.shape()) };
    let data = Data::U32(labels.data().iter().map(|&label| label.into()).collect());
    let labels = Tensor::from_data(Shape::new(n, h, w, 1), data).unwrap();
    for term in LOSS_TERMS {
        let is_covered = records.iter().any(|record| term.is_set(&record.pixel));
        assert!(is_covered, "no case has the term {}", term.name());
    }
    let mut problems = Vec::new();
    for Record { case, pixel, align_corners, share, loss } in &records {
        let mut inputs = vec![tensor("logits"), labels.clone()];
        inputs.extend(pixel.weighted.then(|| tensor("weights")));
        let share = Data::F32(vec![*share, 0.0, 0.0, 0.0]);
        inputs.extend(pixel.mined.then(|| Tensor::from_data(Shape::vector(4), share).unwrap()));
        let op: Arc<dyn Op> =
            Arc::new(SegmentationLoss { align_corners: *align_corners, ..(*pixel).into() });
        let gradient: Vec<f64> =
            floats(&file, &format!("{case}.gradient")).1.into_iter().map(f64::from).collect();
        for device in devices() {
            for (label, got) in run_op(&device, &op, &inputs).unwrap() {
                let what = format!("{case} on {device}, {label}");
                // As in `loss.rs`; some hundred pixels are summed.
                problems.extend(
                    allclose(&format!("{what}: loss"), &got[0], &[*loss], 2e-6, 1e-5).err(),
                );
                problems.extend(
                    allclose(&format!("{what}: gradient"), &got[1], &gradient, 1e-6, 1e-4).err(),
                );
            }
        }
    }
    assert!(
        records.len() >= 10 && problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
}
