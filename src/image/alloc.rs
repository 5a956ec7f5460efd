//! Allocations whose size depends on an image: an error with advice instead of an abort that would
//! end a whole batch.

use crate::error::{Error, ErrorKind, Result};

/// Allocates an empty vector with capacity for `len` elements; `what` describes them in the error.
pub(crate) fn with_capacity<T>(len: usize, what: &str) -> Result<Vec<T>> {
    let mut values = Vec::new();
    match values.try_reserve_exact(len) {
        Ok(()) => Ok(values),
        Err(e) => {
            let mib = len.saturating_mul(size_of::<T>()) as f64 / f64::from(1 << 20);
            let message = format!("could not allocate {mib:.1} MiB for {what}");
            Err(Error::new(ErrorKind::OutOfMemory, message)
                .source(e)
                .advice("scale the image down first"))
        }
    }
}

/// Allocates a vector of `len` copies of `value`.
pub(crate) fn filled<T: Clone>(value: T, len: usize, what: &str) -> Result<Vec<T>> {
    let mut values = with_capacity(len, what)?;
    values.resize(len, value);
    Ok(values)
}

/// Allocates a copy of `values`.
pub(crate) fn copied<T: Copy>(values: &[T], what: &str) -> Result<Vec<T>> {
    let mut copy = with_capacity(values.len(), what)?;
    copy.extend_from_slice(values);
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_does_not_exist_is_an_error_and_no_abort() {
        for len in [usize::MAX / 8, usize::MAX] {
            let error = filled(0u32, len, "labels").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
            assert!(
                error.to_string().contains("MiB for labels")
                    && error.to_string().contains("scale the image down"),
                "{error}"
            );
        }
        assert_eq!(filled(7u8, 3, "bytes").unwrap(), [7; 3]);
        assert_eq!(copied(&[1u8, 2], "bytes").unwrap(), [1, 2]);
    }
}
