//! Memory whose size an image decides: an error with advice where there is none, instead of an
//! abort that ends a whole batch.

use crate::error::{Error, ErrorKind, Result};

/// Room for `len` elements; `what` is the plural of what they are.
pub(crate) fn room<T>(len: usize, what: &str) -> Result<Vec<T>> {
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

/// `len` times `value`.
pub(crate) fn filled<T: Clone>(value: T, len: usize, what: &str) -> Result<Vec<T>> {
    let mut values = room(len, what)?;
    values.resize(len, value);
    Ok(values)
}

/// A copy of `values`.
pub(crate) fn copied<T: Copy>(values: &[T], what: &str) -> Result<Vec<T>> {
    let mut copy = room(values.len(), what)?;
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
