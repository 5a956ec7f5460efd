//! Element types of weight files, and their conversion to and from f32.

use half::{bf16, f16};
use std::fmt;

/// Element type of a tensor in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoredDType {
    /// 64-bit floating point.
    F64,
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point, IEEE half precision.
    F16,
    /// 16-bit floating point with the exponent range of f32.
    BF16,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 16-bit signed integer.
    I16,
    /// 8-bit signed integer.
    I8,
    /// 64-bit unsigned integer.
    U64,
    /// 32-bit unsigned integer.
    U32,
    /// 16-bit unsigned integer.
    U16,
    /// 8-bit unsigned integer.
    U8,
    /// Boolean, one byte: 0 or 1.
    Bool,
}

impl StoredDType {
    /// Returns the size of an element in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Returns whether the type is floating point. Only these can be read as f32.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// Decodes little-endian elements and appends them to `out` as f32; f64 and large integers are
    /// rounded. Appends nothing for the integer types that no format quantizes to.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F64 => {
                out.extend(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32))
            }
            Self::F32 => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            Self::F16 => {
                out.extend(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()))
            }
            Self::BF16 => {
                out.extend(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()))
            }
            Self::I8 => out.extend(bytes.iter().map(|&b| f32::from(b as i8))),
            Self::U8 => out.extend(bytes.iter().map(|&b| f32::from(b))),
            Self::I16 => {
                out.extend(bytes.as_chunks().0.iter().map(|b| f32::from(i16::from_le_bytes(*b))))
            }
            Self::I32 => {
                out.extend(bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b) as f32))
            }
            _ => debug_assert!(false, "the caller has checked the type"),
        }
    }
}

impl fmt::Display for StoredDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U64 => "U64",
            Self::U32 => "U32",
            Self::U16 => "U16",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        })
    }
}

/// Element type of the weights in a written file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FloatDType {
    /// 32-bit floating point, exact.
    #[default]
    F32,
    /// 16-bit IEEE half precision: 11 significant bits, values up to 65,504.
    F16,
    /// 16-bit brain floating point: 8 significant bits, the range of f32.
    BF16,
}

impl FloatDType {
    /// Encodes `values` as little-endian, rounded to nearest even, and appends them to `out`.
    pub(super) fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Self::F16 => out.extend(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes())),
            Self::BF16 => out.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes())),
        }
    }

    /// Returns whether a value is finite after conversion to this type.
    pub(super) fn can_represent(self, value: f32) -> bool {
        match self {
            Self::F32 => value.is_finite(),
            Self::F16 => f16::from_f32(value).is_finite(),
            Self::BF16 => bf16::from_f32(value).is_finite(),
        }
    }
}

impl From<FloatDType> for StoredDType {
    fn from(dtype: FloatDType) -> Self {
        match dtype {
            FloatDType::F32 => Self::F32,
            FloatDType::F16 => Self::F16,
            FloatDType::BF16 => Self::BF16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_type_decodes_its_little_endian_bytes() {
        let mut out = Vec::new();
        StoredDType::F64.decode(&(-1.5f64).to_le_bytes(), &mut out);
        StoredDType::F32.decode(&[0x00, 0x00, 0x20, 0x40], &mut out);
        StoredDType::F16.decode(&[0x00, 0x3c, 0x00, 0xc0], &mut out);
        StoredDType::BF16.decode(&[0x80, 0x3f], &mut out);
        assert_eq!(out, [-1.5, 2.5, 1.0, -2.0, 1.0]);
    }

    #[test]
    fn written_types_round_to_nearest_and_know_their_range() {
        let mut bytes = Vec::new();
        FloatDType::F16.encode(&[1.0 + 1.0 / 4096.0], &mut bytes);
        assert_eq!(bytes, [0x00, 0x3c]);
        let [f32, f16, bf16] = [FloatDType::F32, FloatDType::F16, FloatDType::BF16];
        assert!(f16.can_represent(65_504.0) && !f16.can_represent(70_000.0));
        assert!(bf16.can_represent(70_000.0) && !bf16.can_represent(f32::MAX));
        assert!(f32.can_represent(f32::MAX) && !f32.can_represent(f32::NAN));
    }
}
