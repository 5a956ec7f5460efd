//! Source of a step's batches. One batch is in memory at a time, however many are accumulated.

use super::BatchRef;
use crate::error::Result;

/// The batches of one step.
pub(crate) trait BatchSource {
    /// Returns the next batch, in order, or `None` to abandon the step.
    fn next(&mut self) -> Result<Option<BatchRef<'_>>>;

    /// Returns the `i`-th batch again, to find the cause of an error.
    fn replay(&mut self, i: usize) -> Result<BatchRef<'_>>;
}

/// Batches in a slice.
pub(super) struct SliceSource<'b> {
    batches: &'b [BatchRef<'b>],
    next: usize,
}

impl<'b> SliceSource<'b> {
    pub(super) fn new(batches: &'b [BatchRef<'b>]) -> Self {
        Self { batches, next: 0 }
    }
}

impl BatchSource for SliceSource<'_> {
    fn next(&mut self) -> Result<Option<BatchRef<'_>>> {
        let batch = self.batches.get(self.next).copied();
        self.next += 1;
        Ok(batch)
    }

    fn replay(&mut self, i: usize) -> Result<BatchRef<'_>> {
        Ok(self.batches[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Device;
    use crate::image::ClassTable;
    use crate::tensor::{Data, Shape, Tensor};
    use crate::train::{InitialModel, NetworkRecipe, Recipe, Trainer};

    #[test]
    fn a_step_abandoned_between_two_batches_changes_no_bit() {
        let network =
            NetworkRecipe { backbone: Some("mobilenet_v2_0.1".into()), ..NetworkRecipe::default() };
        let initial = InitialModel::new(&network, &ClassTable::generic(3), 1, None).unwrap();
        let mut recipe = Recipe { network, batch: 2, accumulate: 2, ..Recipe::default() };
        recipe.augmentation.crop = crate::Size::square(33);
        let mut trainer = Trainer::new(
            &Device::Cpu,
            &initial.config,
            &initial.weights,
            recipe.options().unwrap(),
        )
        .unwrap();
        let shape = Shape::new(2, 33, 33, 3);
        let images =
            Tensor::new(shape, (0..shape.len()).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect())
                .unwrap();
        let labels = (0..shape.positions()).map(|i| (i % 3) as u32).collect();
        let labels = Tensor::from_data(shape.with_c(1), Data::U32(labels)).unwrap();
        let batch = BatchRef { images: &images, labels: &labels, names: &[] };
        let bits = |trainer: &Trainer| {
            let bits = |t: &Tensor| t.f32().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            trainer
                .weights()
                .unwrap()
                .into_iter()
                .map(|(name, p)| (name, bits(p.tensor())))
                .collect::<Vec<_>>()
        };
        trainer.step(&[batch, batch]).unwrap();
        let before = bits(&trainer);
        assert_eq!(trainer.step_from(&mut SliceSource::new(&[batch])).unwrap(), None);
        assert!(bits(&trainer) == before && trainer.steps_done() == 1);
        trainer.step(&[batch, batch]).unwrap();
        assert!(bits(&trainer) != before);
    }
}
