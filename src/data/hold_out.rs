//! Holding out a fraction of a data set for validation.

use super::Listing;
use super::rng::{KeyedRng, Purpose};
use crate::error::{Result, error};
use crate::random::fnv1a_64;
use crate::text;

impl Listing {
    /// Splits a listing into training and validation pairs. The latter are `fraction` of all pairs
    /// (rounded, at least one). Both keep the order of the listing.
    ///
    /// The choice depends on the names of the pairs and the seed alone: not on their order, and
    /// hardly on the rest of the pairs. Frames of one video are near-duplicates, so for videos it
    /// is better to hold out whole ones, as a split.
    ///
    /// # Errors
    /// Returns an error if `fraction` is not between 0 and 1, or if one of the results would be
    /// empty.
    pub fn hold_out(self, fraction: f64, seed: u64) -> Result<(Listing, Listing)> {
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(error!(
                Usage,
                "the fraction to hold out must be between 0 and 1, got {fraction}"
            ));
        }
        let count = ((self.pairs.len() as f64 * fraction).round() as usize).max(1);
        if count >= self.pairs.len() {
            let all = text::count(self.pairs.len(), "pair");
            return Err(error!(
                Data,
                "holding out {count} of {all} for validation leaves none to train on"
            )
            .file(&self.root));
        }
        let rank = |name: &str| KeyedRng::new(seed, Purpose::HoldOut, fnv1a_64(name)).unit();
        let mut ranks: Vec<(f64, &str)> =
            self.pairs.iter().map(|p| (rank(&p.name), p.name.as_str())).collect();
        ranks.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
        let held: std::collections::HashSet<String> =
            ranks[..count].iter().map(|r| r.1.to_owned()).collect();
        let (validation, training) =
            self.pairs.iter().cloned().partition(|p| held.contains(&p.name));
        Ok((Listing { pairs: training, ..self.clone() }, Listing { pairs: validation, ..self }))
    }
}
