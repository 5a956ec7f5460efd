//! Keyed random numbers: they depend on their purpose, and not on what was drawn before.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Purpose of a generator. Generators with different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The order of an epoch's images; numbered by epoch.
    Order = 1,
    /// Augmentation of a sample; numbered by sample.
    Sample = 2,
    /// Which pairs are held out; numbered by a hash of the name.
    HoldOut = 3,
}

/// A generator keyed by seed, purpose and number: the seed and the purpose are ChaCha's key, the
/// number is its stream.
pub(super) struct KeyedRng(ChaCha8Rng);

impl KeyedRng {
    pub(super) fn new(seed: u64, purpose: Purpose, number: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8] = purpose as u8;
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(number);
        Self(rng)
    }

    /// Uniform in `[0, 1)`.
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `[low, high)`.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    /// Uniform in `0..n`. The bias of the multiplication is below `n / 2^64`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Returns `true` with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform random permutation of `0..n` (Fisher and Yates).
    pub(super) fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for last in (1..n).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_decide_and_values_never_change() {
        let first = |seed, purpose, number| KeyedRng::new(seed, purpose, number).0.next_u64();
        assert_eq!(first(7, Purpose::Sample, 3), first(7, Purpose::Sample, 3));
        let all = [
            (7, Purpose::Sample, 3),
            (8, Purpose::Sample, 3),
            (7, Purpose::Order, 3),
            (7, Purpose::Sample, 4),
        ];
        let values: std::collections::HashSet<u64> =
            all.iter().map(|k| first(k.0, k.1, k.2)).collect();
        assert_eq!(values.len(), 4);
        // ChaCha8 with an all-zero key and stream 0: from the published test vectors
        // (Strombergson's draft, TC1, 8 rounds).
        assert_eq!(
            ChaCha8Rng::from_seed([0; 32]).next_u64().to_le_bytes(),
            [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6]
        );
    }

    #[test]
    fn draws_are_even_and_in_range() {
        let mut rng = KeyedRng::new(1, Purpose::Sample, 0);
        let mut counts = [0; 5];
        for _ in 0..5000 {
            counts[rng.below(5)] += 1;
            assert!((2.0..3.0).contains(&rng.between(2.0, 3.0)));
        }
        // Five standard deviations of a binomial (n 5000, p 0.2) are 141.
        assert!(counts.iter().all(|c| (859..1141).contains(c)), "{counts:?}");
        assert!(!rng.chance(0.0) && rng.chance(1.0));
    }

    #[test]
    fn permutations_hold_everything_once() {
        for n in [0, 1, 2, 17, 300] {
            let order = KeyedRng::new(3, Purpose::Order, 5).permutation(n);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..n as u32).collect::<Vec<_>>());
            assert!(n < 17 || order != sorted);
        }
    }
}
