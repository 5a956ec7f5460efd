//! Settings of a recipe that depend on the data, completed when a run starts.

use super::class_weights::ClassWeights;
use super::data::TrainingData;
use super::recipe::Recipe;
use crate::error::Result;

impl Recipe {
    /// Times that all training masks are read before a run with this recipe starts.
    pub fn mask_passes(&self) -> usize {
        let weighed = matches!(self.data.class_weights, Some(ClassWeights::Rule(_)));
        usize::from(weighed) + usize::from(self.data.oversample)
    }

    /// Replaces what depends on the data by what it is for this data: rules for class weights,
    /// oversampling, then epochs. What is replaced already stays. Calls `on_mask` after each mask
    /// that is read, from any thread. Returns lines about it for people.
    ///
    /// # Errors
    /// Returns an error that names the file if a mask cannot be read, or an error if the epochs are
    /// no valid length.
    pub fn resolve(
        &mut self,
        data: &mut TrainingData,
        on_mask: impl Fn() + Sync,
    ) -> Result<Vec<String>> {
        let weights = self.resolve_class_weights(data, &on_mask)?;
        let oversampling = data.oversample(self, &on_mask)?;
        let length = self.resolve_epochs(data.training.len())?;
        Ok([weights, oversampling, length].into_iter().flatten().collect())
    }
}
