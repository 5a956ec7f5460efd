//! Masks in NumPy's array files (`.npy`), as labelme and many scripts write them. The format is
//! described by `numpy.lib.format`.

use super::{Data, Stored, check_size, label, label_of_float};
use crate::error::{Error, ErrorKind, Result, error};
use crate::geometry::Size;
use crate::memory;
use crate::text::excerpt;
use std::fs::File;
use std::io::{BufReader, Read};

/// The first bytes of a file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header that is read; those of arrays of numbers have about a hundred bytes.
const MAX_HEADER: u64 = 64 << 10;

const DTYPE_ADVICE: &str = "save whole numbers: `np.save(file, mask.astype(np.uint8))`";

pub(super) fn read(file: File) -> Result<Stored> {
    let damaged = |e| Error::new(ErrorKind::Image, "could not read the mask as .npy").source(e);
    let length = file.metadata().map_err(damaged)?.len();
    let mut file = BufReader::new(file);
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(damaged)?;
    // Version 1 counts the header's bytes in 16 bits, later versions in 32.
    let counter = if start[6] == 1 { 2 } else { 4 };
    let mut count = [0; 4];
    file.read_exact(&mut count[..counter]).map_err(damaged)?;
    let count = u64::from(u32::from_le_bytes(count));
    if count > MAX_HEADER {
        return Err(error!(Image, "the header has {count} bytes; at most {MAX_HEADER} are read"));
    }
    let mut header = vec![0; count as usize];
    file.read_exact(&mut header).map_err(damaged)?;
    let header = Header::parse(&String::from_utf8_lossy(&header))?;
    let bytes = header.size.pixels() as u64 * header.number.bytes() as u64;
    let present = length.saturating_sub(8 + counter as u64 + count);
    if present < bytes {
        return Err(error!(Image, "truncated file: it has {present} of {bytes} bytes of numbers")
            .advice("copy or download it again"));
    }
    let mut data = memory::zeros(bytes as usize)?;
    file.read_exact(&mut data).map_err(damaged)?;
    let values = header.labels(&data)?;
    Ok(Stored { size: header.size, data: Data::Values(values) })
}

/// What an array has.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    number: Number,
    is_big_endian: bool,
    /// Columns come one after another, instead of rows.
    is_by_column: bool,
    size: Size,
}

/// The type of an array's numbers, with its bytes where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Bool,
    Unsigned(usize),
    Signed(usize),
    Float(usize),
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        let (kind, bytes) = text.split_at_checked(1)?;
        let bytes = bytes.parse().ok()?;
        match (kind, bytes) {
            ("b", 1) => Some(Self::Bool),
            ("u", 1 | 2 | 4 | 8) => Some(Self::Unsigned(bytes)),
            ("i", 1 | 2 | 4 | 8) => Some(Self::Signed(bytes)),
            ("f", 4 | 8) => Some(Self::Float(bytes)),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Unsigned(bytes) | Self::Signed(bytes) | Self::Float(bytes) => bytes,
        }
    }

    /// Returns the label of a number in little-endian order.
    fn label(self, bytes: &[u8]) -> Result<u16> {
        let bits = bytes.iter().rev().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
        match self {
            Self::Bool => Ok(u16::from(bits != 0)),
            Self::Unsigned(_) => label(i64::try_from(bits).unwrap_or(i64::MAX)),
            Self::Signed(bytes) => {
                let unused = 64 - 8 * bytes as u32;
                label((bits << unused).cast_signed() >> unused)
            }
            Self::Float(4) => label_of_float(f32::from_bits(bits as u32).into()),
            Self::Float(_) => label_of_float(f64::from_bits(bits)),
        }
    }
}

impl Header {
    /// Parses a header, a dictionary in Python's syntax:
    /// `{'descr': '|u1', 'fortran_order': False, 'shape': (480, 640), }`.
    fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| {
            let (_, rest) = text.split_once(&format!("'{name}':"))?;
            Some(rest.trim_start())
        };
        let bad = |what: &str| error!(Image, "the header's {what} is not readable");
        let descr = field("descr").ok_or_else(|| bad("descr"))?;
        let quoted = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
        let dtype = quoted.map_or(descr, |(dtype, _)| dtype);
        let number = dtype.get(1..).and_then(Number::parse);
        let number = number.filter(|_| quoted.is_some()).ok_or_else(|| {
            let found = excerpt(dtype);
            error!(Image, "an array of the type `{found}` is no mask").advice(DTYPE_ADVICE)
        })?;
        let order = field("fortran_order").ok_or_else(|| bad("fortran_order"))?;
        let shape = field("shape")
            .and_then(|rest| rest.strip_prefix('(')?.split_once(')'))
            .ok_or_else(|| bad("shape"))?
            .0;
        let axes = shape.split(',').map(str::trim).filter(|axis| !axis.is_empty());
        let axes: Option<Vec<u64>> = axes.map(|axis| axis.parse().ok()).collect();
        let axes = axes.ok_or_else(|| bad("shape"))?;
        let (height, width) = match axes[..] {
            [height, width] | [height, width, 1] | [1, height, width] => (height, width),
            _ => {
                return Err(error!(Image, "an array of the shape ({shape}) is no mask")
                    .advice("save an array of (height, width) class numbers"));
            }
        };
        Ok(Self {
            number,
            is_big_endian: dtype.starts_with('>'),
            is_by_column: order.starts_with("True"),
            size: check_size(width, height)?,
        })
    }

    fn labels(&self, data: &[u8]) -> Result<Vec<u16>> {
        let Size { width, height } = self.size;
        let bytes = self.number.bytes();
        let number = |index: usize| {
            let mut number = [0; 8];
            number[..bytes].copy_from_slice(&data[index * bytes..][..bytes]);
            if self.is_big_endian {
                number[..bytes].reverse();
            }
            self.number.label(&number[..bytes])
        };
        let mut labels = memory::with_capacity(self.size.pixels())?;
        for y in 0..height {
            for x in 0..width {
                let index = if self.is_by_column { x * height + y } else { y * width + x };
                labels.push(number(index)?);
            }
        }
        Ok(labels)
    }
}
