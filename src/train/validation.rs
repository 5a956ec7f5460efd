//! Validation during training, and its dry run before the first step: the first evaluation comes
//! hours later, too late to find out that it cannot be done.

use super::context::RunContext;
use super::init::InitialModel;
use super::trainer::Trainer;
use crate::data::Pair;
use crate::error::Result;
use crate::exec::Device;
use crate::geometry::Size;
use crate::graph::Weights;
use crate::image::{ClassTable, SizeRule, dimensions};
use crate::models::{Config, Outputs};
use crate::ops::PixelLoss;
use crate::plan::Plan;
use crate::segmenter::{Model, Segmenter, loss_graph};
use crate::tensor::Shape;
use std::fmt;
use std::path::{Path, PathBuf};

/// Memory to score the largest validation image, in addition to the training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct ValidationMemory {
    /// Size of the image.
    pub size: Size,
    /// Bytes of the activations of network and loss, and of folded weights, at that size.
    pub bytes: u64,
}

impl ValidationMemory {
    /// Estimates the memory for the largest of these images. Reads only their headers. Returns
    /// `None` if there are no images.
    ///
    /// # Errors
    /// Returns an error that names the file if a header cannot be read, or an error if the image is
    /// too small for the network.
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn new(
        device: &Device,
        initial: &InitialModel,
        validation: &[Pair],
    ) -> Result<Option<Self>> {
        let Some(Largest { size, .. }) = Largest::of(validation)? else { return Ok(None) };
        let model = model(initial.config.clone(), initial.weights.clone(), PathBuf::new());
        let outputs = Outputs { image: Some(size), background: true, ..Outputs::default() };
        let graph = model.graph(Shape::images(1, size, 3), &outputs)?;
        let logits = graph.shape(graph.outputs()[0].1);
        let labeling = model.network.labeling();
        let labeling = labeling.expect("invariant: a network in training has a head");
        let fit = SizeRule::Native.fit(size);
        let loss = loss_graph(logits, fit, &labeling, PixelLoss::default())?;
        let activations = device.activation_bytes(&graph) + device.activation_bytes(&loss);
        Ok(Some(Self { size, bytes: activations + Plan::new(&graph).param_bytes }))
    }
}

impl fmt::Display for ValidationMemory {
    /// `41 MiB more to evaluate images of up to 480x360`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes as f64 / f64::from(1 << 20);
        write!(f, "{mib:.0} MiB more to evaluate images of up to {}", self.size)
    }
}

/// A segmenter with the weights of the network to evaluate. Errors call the model `path`.
pub(super) fn segmenter(trainer: &Trainer, path: PathBuf) -> Result<Segmenter> {
    Segmenter::with_device(
        model(trainer.config().clone(), trainer.averaged_weights()?, path),
        &trainer.device(),
    )
}

/// Segments the largest image once, as an evaluation does, and reads its mask.
///
/// # Errors
/// Returns the error that an evaluation would fail with: an unreadable header, an image beyond the
/// limits of the device, a mask of a different size.
pub(super) fn dry_run(
    trainer: &Trainer,
    validation: &[Pair],
    table: &ClassTable,
    path: &Path,
    context: RunContext,
) -> Result<()> {
    let (pairs, table) = (validation.to_vec(), table.clone());
    // Reading may block on a disk, and a large image takes minutes on the CPU; a stop request must
    // not wait for either.
    let read = move || {
        let Some(Largest { pair, .. }) = Largest::of(&pairs)? else { return Ok(None) };
        pair.load(Some(&table)).map(|(image, _)| Some((image, pair.image.clone())))
    };
    let Some((image, name)) = context.wait_for(read)? else { return Ok(()) };
    let segmenter = segmenter(trainer, path.to_owned())?;
    let segment = move || {
        let result = segmenter.segment(&image, SizeRule::Native);
        result.map(drop).map_err(|e| e.at(format!("scoring {}", name.display())))
    };
    // A GPU is fast, and must be idle when the process ends.
    if trainer.device().is_cpu() { context.wait_for(segment) } else { segment() }
}

fn model(config: Config, weights: Weights, path: PathBuf) -> Model {
    Model::new(config, weights, path)
}

/// The image with the most pixels.
struct Largest<'a> {
    pair: &'a Pair,
    size: Size,
}

impl<'a> Largest<'a> {
    /// Returns the first such image. Reads only headers; errors name the file.
    fn of(pairs: &'a [Pair]) -> Result<Option<Self>> {
        let mut largest: Option<Self> = None;
        for pair in pairs {
            let size = dimensions(&pair.image)?;
            if largest.as_ref().is_none_or(|l| size.pixels() > l.size.pixels()) {
                largest = Some(Self { pair, size });
            }
        }
        Ok(largest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::MaskValues;
    use crate::error::ErrorKind;
    use crate::train::{NetworkRecipe, Recipe};

    fn pair(directory: &Path, name: &str, size: (u32, u32)) -> Pair {
        let [image, mask] =
            ["image", "mask"].map(|kind| directory.join(format!("{name}.{kind}.png")));
        image::RgbImage::new(size.0, size.1).save(&image).unwrap();
        image::GrayImage::new(size.0, size.1).save(&mask).unwrap();
        Pair { name: name.to_owned(), image, mask: mask.into(), values: MaskValues::CLASSES }
    }

    #[test]
    fn the_largest_image_decides_and_headers_that_cannot_be_read_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut pairs: Vec<Pair> = [("a", (40, 30)), ("b", (65, 33)), ("c", (33, 65))]
            .map(|(name, size)| pair(directory.path(), name, size))
            .into();
        let network =
            NetworkRecipe { backbone: Some("mobilenet_v2_0.1".into()), ..NetworkRecipe::default() };
        let initial = InitialModel::new(&network, &ClassTable::generic(3), 1, None).unwrap();
        let estimate = |pairs: &[Pair]| ValidationMemory::new(&Device::Cpu, &initial, pairs);
        let large = estimate(&pairs).unwrap().unwrap();
        assert_eq!(large.size, Size::new(65, 33));
        let small = estimate(&pairs[..1]).unwrap().unwrap();
        assert!(small.bytes < large.bytes, "{small:?} {large:?}");
        assert_eq!(estimate(&[]).unwrap(), None);

        let options = Recipe { network, batch: 1, ..Recipe::default() }.options().unwrap();
        let trainer =
            Trainer::new(&Device::Cpu, &initial.config, &initial.weights, options).unwrap();
        let context = RunContext { device: &Device::Cpu, workers: 1, command: "", stop: None };
        let dry_run = |pairs: &[Pair]| {
            super::dry_run(&trainer, pairs, &ClassTable::generic(3), Path::new("run"), context)
        };
        dry_run(&pairs).unwrap();
        image::GrayImage::new(64, 33).save(pairs[1].mask.path()).unwrap();
        let text = dry_run(&pairs).unwrap_err().to_string();
        assert!(text.contains("b.mask.png"), "{text}");

        std::fs::write(&pairs[2].image, b"no image").unwrap();
        let error = estimate(&pairs).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Image && error.to_string().contains("c.image.png"),
            "{error}"
        );
        pairs[0].image = directory.path().join("not there.png");
        assert_eq!(dry_run(&pairs).unwrap_err().kind(), ErrorKind::Io);
    }
}
