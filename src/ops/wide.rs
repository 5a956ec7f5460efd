//! Loops over memory, compiled for the vectors that the processor has.

/// Numbers of a task that goes over memory once.
pub(super) const CHUNK: usize = 1 << 14;

/// Defines functions that are compiled once more for AVX2, for processors that have it. Products
/// and sums are not fused, so their numbers do not depend on the processor.
///
/// This is a macro because a closure that is called from both versions would be compiled once, for
/// neither.
macro_rules! wide {
    ($($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$attribute])*
        $visibility fn $name($($argument: $type),*) {
            #[inline(always)]
            fn each($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($argument: $type),*) {
                each($($argument),*);
            }

            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the feature that the function is compiled with was just found on this
                // processor.
                return unsafe { avx2($($argument),*) };
            }
            each($($argument),*);
        }
    )*};
}
pub(super) use wide;
