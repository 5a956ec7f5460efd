//! Cross entropy, which the other terms change or add to.

/// Below this probability of the other classes, the first two terms of the series of `-ln p` are
/// more exact than the logarithm, which rounds to 0 if little is missing.
pub(super) const SERIES_BELOW: f32 = 1e-3;

/// Returns `-ln p` of the label; `missing` is `1 - p`, and `by_logarithm` is the same as the
/// difference of logarithms. `cross_entropy` in the shader.
pub(super) fn value(missing: f32, by_logarithm: f32) -> f32 {
    if missing < SERIES_BELOW { missing * (1.0 + 0.5 * missing) } else { by_logarithm }
}
