//! Loops over memory, compiled for the vector instructions of the CPU.

/// Elements per task of an element-wise loop.
pub(super) const CHUNK: usize = 1 << 14;

/// Defines functions that are compiled a second time for AVX2, for CPUs that support it. Products
/// and sums are not fused, so the results do not depend on the CPU.
///
/// This is a macro because a closure called from both versions would be compiled only once, without
/// AVX2.
macro_rules! wide {
    ($($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$attribute])*
        $visibility fn $name($($argument: $type),*) {
            #[inline(always)]
            fn body($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($argument: $type),*) {
                body($($argument),*);
            }

            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the line above has just detected the feature that the function is
                // compiled with.
                return unsafe { avx2($($argument),*) };
            }
            body($($argument),*);
        }
    )*};
}
pub(super) use wide;
