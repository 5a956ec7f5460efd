//! Scoring, looked at before the first step: it comes hours later, when it would be late to learn
//! that it cannot be done.

use super::init::InitialModel;
use super::run::RunContext;
use super::trainer::Trainer;
use crate::data::Pair;
use crate::error::Result;
use crate::exec::Device;
use crate::graph::Weights;
use crate::image::{ClassTable, SizeRule, dimensions};
use crate::models::{Config, Outputs};
use crate::plan::Plan;
use crate::segmenter::{Model, Segmenter};
use crate::tensor::Shape;
use std::fmt;
use std::path::{Path, PathBuf};

/// What it takes to score the largest of the validation images, beside the training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Scoring {
    /// Columns of that image.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes of the network's activations and folded weights at that size.
    pub bytes: u64,
}

impl Scoring {
    /// For the largest of these images, whose headers alone are read. `None` where there are none.
    ///
    /// # Errors
    /// Where a header cannot be read (the error names the file), or the network does not take so
    /// small an image.
    pub fn new(
        device: &Device,
        beginning: &InitialModel,
        validation: &[Pair],
    ) -> Result<Option<Self>> {
        let Some(Largest { width, height, .. }) = Largest::of(validation)? else { return Ok(None) };
        let model = model(beginning.config.clone(), beginning.weights.clone(), PathBuf::new());
        let outputs = Outputs { image: Some((height, width)), ..Outputs::default() };
        let graph = model.graph(Shape::new(1, height, width, 3), &outputs)?;
        Ok(Some(Self {
            width,
            height,
            bytes: device.activation_bytes(&graph) + Plan::new(&graph).param_bytes,
        }))
    }
}

impl fmt::Display for Scoring {
    /// `41 MiB more while images of up to 480x360 are scored`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{mib:.0} MiB more while images of up to {}x{} are scored",
            self.width, self.height
        )
    }
}

/// A segmenter of the network as it is now; errors call it `path`.
pub(super) fn segmenter(trainer: &Trainer, path: PathBuf) -> Result<Segmenter> {
    Segmenter::with_device(
        model(trainer.config().clone(), trainer.weights()?, path),
        trainer.device(),
    )
}

/// Segments the largest image once, as it will be scored, and reads its mask.
///
/// # Errors
/// What an evaluation would have failed with: a header that cannot be read, an image past the
/// device's limits, a mask of another size.
pub(super) fn rehearse(
    trainer: &Trainer,
    validation: &[Pair],
    table: &ClassTable,
    path: &Path,
    setting: RunContext,
) -> Result<()> {
    let (pairs, table) = (validation.to_vec(), table.clone());
    // Reading may wait for a disk, and a large image takes the processor minutes; a stop waits for
    // neither.
    let read = move || {
        let Some(Largest { pair, .. }) = Largest::of(&pairs)? else { return Ok(None) };
        pair.load(Some(&table)).map(|(image, _)| Some((image, pair.image.clone())))
    };
    let Some((image, name)) = setting.wait_for(read)? else { return Ok(()) };
    let segmenter = segmenter(trainer, path.to_owned())?;
    let segment = move || {
        let done = segmenter.segment(&image, SizeRule::Native);
        done.map(drop).map_err(|e| e.at(format!("scoring {}", name.display())))
    };
    // A device is quick, and must not be at work any more when the process ends.
    if trainer.device().is_cpu() { setting.wait_for(segment) } else { segment() }
}

fn model(config: Config, weights: Weights, path: PathBuf) -> Model {
    Model { config, weights, dialect: "atrous", path }
}

/// The image with the most pixels.
struct Largest<'a> {
    pair: &'a Pair,
    width: usize,
    height: usize,
}

impl<'a> Largest<'a> {
    /// The first such image. Only headers are read; errors name the file.
    fn of(pairs: &'a [Pair]) -> Result<Option<Self>> {
        let mut largest: Option<Self> = None;
        for pair in pairs {
            let (width, height) = dimensions(&pair.image)?;
            if largest
                .as_ref()
                .is_none_or(|l| width as u64 * height as u64 > l.width as u64 * l.height as u64)
            {
                largest = Some(Self { pair, width, height });
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
        Pair { name: name.to_owned(), image, mask, ids: MaskValues::Classes }
    }

    #[test]
    fn the_largest_image_decides_and_headers_that_cannot_be_read_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut pairs: Vec<Pair> = [("a", (40, 30)), ("b", (65, 33)), ("c", (33, 65))]
            .map(|(name, size)| pair(directory.path(), name, size))
            .into();
        let network =
            NetworkRecipe { backbone: Some("mobilenet_v2_0.1".into()), ..NetworkRecipe::default() };
        let beginning = InitialModel::new(&network, &ClassTable::generic(3), 1, None).unwrap();
        let found = Scoring::new(&Device::Cpu, &beginning, &pairs).unwrap().unwrap();
        assert_eq!((found.width, found.height), (65, 33));
        let small = Scoring::new(&Device::Cpu, &beginning, &pairs[..1]).unwrap().unwrap();
        assert!(small.bytes < found.bytes, "{small:?} {found:?}");
        assert_eq!(Scoring::new(&Device::Cpu, &beginning, &[]).unwrap(), None);

        let options = Recipe { network, batch: 1, ..Recipe::default() }.options().unwrap();
        let trainer =
            Trainer::new(&Device::Cpu, &beginning.config, &beginning.weights, options).unwrap();
        let setting = RunContext { device: &Device::Cpu, workers: 1, command: "", stop: None };
        let rehearse = |pairs: &[Pair]| {
            super::rehearse(&trainer, pairs, &ClassTable::generic(3), Path::new("run"), setting)
        };
        rehearse(&pairs).unwrap();
        image::GrayImage::new(64, 33).save(&pairs[1].mask).unwrap();
        let text = rehearse(&pairs).unwrap_err().to_string();
        assert!(text.contains("b.mask.png"), "{text}");

        std::fs::write(&pairs[2].image, b"no image").unwrap();
        let error = Scoring::new(&Device::Cpu, &beginning, &pairs).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Image && error.to_string().contains("c.image.png"),
            "{error}"
        );
        pairs[0].image = directory.path().join("not there.png");
        assert_eq!(rehearse(&pairs).unwrap_err().kind(), ErrorKind::Io);
    }
}
