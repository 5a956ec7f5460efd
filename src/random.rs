//! Deterministic pseudo-random numbers and hashes: the same on every machine and in every version.

/// The splitmix64 generator (Steele, Lea and Flood 2014), with its state.
pub(crate) struct SplitMix64(pub u64);

impl SplitMix64 {
    /// Returns the next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a uniform value in [-1, 1).
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }
}

/// FNV-1a hash of a text, 64 bits.
pub(crate) fn fnv1a_64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// FNV-1a hash of a text, 32 bits. The seed is XORed into the offset basis.
pub(crate) fn fnv1a_32(seed: u32, text: &str) -> u32 {
    text.bytes()
        .fold(0x811c_9dc5 ^ seed, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_reference_sequence() {
        let mut random = SplitMix64(1_234_567);
        let bits: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(
            bits,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn hashes_match_the_published_test_vectors() {
        assert_eq!((fnv1a_64(""), fnv1a_64("a")), (0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c));
        assert_eq!((fnv1a_32(0, ""), fnv1a_32(0, "a")), (0x811c_9dc5, 0xe40c_292c));
        assert_ne!(fnv1a_32(1, "a"), fnv1a_32(0, "a"));
    }
}
