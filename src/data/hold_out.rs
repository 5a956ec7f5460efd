//! A part that is kept back for validation.

use super::Listing;
use super::draw::{Draw, Purpose};
use crate::error::{Result, error};
use crate::random::fnv1a_64;

impl Listing {
    /// Two listings of one: what is left to train on, and `share` of the pairs (rounded, at least
    /// one) to validate with, each in the listing's order.
    ///
    /// Which pairs those are depends on their names and the seed alone: not on their order, and
    /// hardly on the other pairs. Frames of one video are near-copies of each other, so for videos
    /// it is better to hold out whole ones, in a part of their own.
    ///
    /// Errors where `share` is not between 0 and 1, or one of the two would be empty.
    pub fn hold_out(self, share: f64, seed: u64) -> Result<(Listing, Listing)> {
        if !(share > 0.0 && share < 1.0) {
            return Err(error!(
                Usage,
                "a share of {share} to validate with is not between 0 and 1"
            ));
        }
        let count = ((self.pairs.len() as f64 * share).round() as usize).max(1);
        if count >= self.pairs.len() {
            let n = self.pairs.len();
            return Err(error!(
                Data,
                "of {n} pairs, {count} to validate with would leave none to train on"
            )
            .file(&self.root));
        }
        let rank = |name: &str| Draw::new(seed, Purpose::HoldOut, fnv1a_64(name)).unit();
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
