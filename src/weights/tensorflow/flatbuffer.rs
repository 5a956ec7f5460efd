//! Reading FlatBuffers, of which TFLite files consist.
//!
//! The schema of TFLite has 200 tables, of which a dozen fields of ten tables are needed. Generated
//! code would be 20,000 lines, and the accessors of the crate `flatbuffers` are `unsafe`. Here every
//! access checks its bounds, so no verification has to come first, and nothing is allocated.
//!
//! <https://flatbuffers.dev/internals/>

use super::super::dtype::StoredDType;
use crate::error::{Error, Result, error};

/// The bytes of a FlatBuffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffer<'a>(pub &'a [u8]);

/// A table: fields that are found through a list of offsets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    buffer: Buffer<'a>,
    at: usize,
    /// Position and length of the list of offsets.
    offsets: (usize, usize),
}

/// A vector of scalars or of offsets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vector<'a> {
    buffer: Buffer<'a>,
    /// Position of the first element.
    pub start: usize,
    pub len: usize,
}

fn damaged() -> Error {
    error!(Weights, "the FlatBuffer is damaged or truncated")
}

impl<'a> Buffer<'a> {
    fn bytes<const N: usize>(self, at: usize) -> Result<[u8; N]> {
        let end = at.checked_add(N).ok_or_else(damaged)?;
        let bytes = self.0.get(at..end).ok_or_else(damaged)?;
        Ok(bytes.try_into().expect("invariant: the range has N bytes"))
    }

    fn u16(self, at: usize) -> Result<usize> {
        Ok(u16::from_le_bytes(self.bytes(at)?).into())
    }

    fn u32(self, at: usize) -> Result<usize> {
        usize::try_from(u32::from_le_bytes(self.bytes(at)?)).map_err(|_| damaged())
    }

    /// Returns the position that the offset at `at` refers to.
    fn follow(self, at: usize) -> Result<usize> {
        at.checked_add(self.u32(at)?).ok_or_else(damaged)
    }

    /// Returns the root table.
    pub fn root(self) -> Result<Table<'a>> {
        self.table(self.follow(0)?)
    }

    fn table(self, at: usize) -> Result<Table<'a>> {
        let back = i32::from_le_bytes(self.bytes(at)?);
        let offsets = i64::try_from(at).map_err(|_| damaged())? - i64::from(back);
        let offsets = usize::try_from(offsets).map_err(|_| damaged())?;
        let len = self.u16(offsets)?;
        Ok(Table { buffer: self, at, offsets: (offsets, len) })
    }

    fn vector(self, at: usize, element_size: usize) -> Result<Vector<'a>> {
        let (start, len) = (at.checked_add(4).ok_or_else(damaged)?, self.u32(at)?);
        let end = len.checked_mul(element_size).and_then(|bytes| start.checked_add(bytes));
        if end.is_none_or(|end| end > self.0.len()) {
            return Err(damaged());
        }
        Ok(Vector { buffer: self, start, len })
    }
}

impl<'a> Table<'a> {
    /// Returns the position of a field. `None` if the table does not have it.
    fn field(&self, id: usize) -> Result<Option<usize>> {
        let (offsets, len) = self.offsets;
        let slot = 4 + 2 * id;
        if slot + 2 > len {
            return Ok(None);
        }
        let offset = self.buffer.u16(offsets.checked_add(slot).ok_or_else(damaged)?)?;
        if offset == 0 {
            return Ok(None);
        }
        Ok(Some(self.at.checked_add(offset).ok_or_else(damaged)?))
    }

    /// Returns an i32 or u32 field, or its default.
    pub fn int(&self, id: usize, default: i32) -> Result<i32> {
        match self.field(id)? {
            Some(at) => Ok(i32::from_le_bytes(self.buffer.bytes(at)?)),
            None => Ok(default),
        }
    }

    /// Returns a field of one byte: an enum or a flag, with the default 0.
    pub fn byte(&self, id: usize) -> Result<u8> {
        match self.field(id)? {
            Some(at) => Ok(self.buffer.bytes::<1>(at)?[0]),
            None => Ok(0),
        }
    }

    /// Returns a u64 field with the default 0.
    pub fn long(&self, id: usize) -> Result<u64> {
        match self.field(id)? {
            Some(at) => Ok(u64::from_le_bytes(self.buffer.bytes(at)?)),
            None => Ok(0),
        }
    }

    /// Returns a table in a field.
    pub fn table(&self, id: usize) -> Result<Option<Table<'a>>> {
        let Some(at) = self.field(id)? else { return Ok(None) };
        self.buffer.table(self.buffer.follow(at)?).map(Some)
    }

    /// Returns a vector in a field. A missing one is empty.
    pub fn vector(&self, id: usize, element_size: usize) -> Result<Vector<'a>> {
        match self.field(id)? {
            Some(at) => self.buffer.vector(self.buffer.follow(at)?, element_size),
            None => Ok(Vector { buffer: self.buffer, start: 0, len: 0 }),
        }
    }

    /// Returns the tables of a vector of at most `max` ones.
    pub fn tables(&self, id: usize, what: &str, max: usize) -> Result<Vec<Table<'a>>> {
        let vector = self.vector(id, 4)?;
        if vector.len > max {
            let len = vector.len;
            return Err(error!(Weights, "{len} {what}, at most {max} are supported"));
        }
        let table = |i: usize| self.buffer.table(self.buffer.follow(vector.start + 4 * i)?);
        (0..vector.len).map(table).collect()
    }

    /// Returns the text in a field. A missing one is empty.
    pub fn text(&self, id: usize) -> Result<&'a str> {
        std::str::from_utf8(self.vector(id, 1)?.bytes(1))
            .map_err(|e| error!(Weights, "a name is not valid UTF-8").source(e))
    }

    /// Returns the integers in a field, at most `max`.
    pub fn ints(&self, id: usize, max: usize) -> Result<Vec<i32>> {
        let vector = self.vector(id, 4)?;
        check_len(vector.len, max)?;
        Ok(vector.bytes(4).as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect())
    }

    /// Returns the 64-bit integers in a field, at most `max`.
    pub fn longs(&self, id: usize, max: usize) -> Result<Vec<i64>> {
        let vector = self.vector(id, 8)?;
        check_len(vector.len, max)?;
        Ok(vector.bytes(8).as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
    }

    /// Returns the numbers in a field, at most `max`.
    pub fn floats(&self, id: usize, max: usize) -> Result<Vec<f32>> {
        let vector = self.vector(id, StoredDType::F32.size())?;
        check_len(vector.len, max)?;
        Ok(vector.bytes(4).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }
}

impl<'a> Vector<'a> {
    /// Returns the bytes of the elements.
    pub fn bytes(&self, element_size: usize) -> &'a [u8] {
        &self.buffer.0[self.start..self.start + self.len * element_size]
    }
}

fn check_len(len: usize, max: usize) -> Result<()> {
    if len <= max {
        return Ok(());
    }
    Err(error!(Weights, "a list of {len} numbers, at most {max} are supported"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with an i32 of 7 in field 0, nothing in field 1, and a vector of two bytes in field 2.
    fn sample() -> Vec<u8> {
        let mut bytes = vec![16, 0, 0, 0];
        bytes.extend([10, 0, 12, 0, 4, 0, 0, 0, 8, 0, 0, 0]); // The list of offsets, at byte 4.
        bytes.extend([12, 0, 0, 0]); // The table, at byte 16.
        bytes.extend([7, 0, 0, 0]);
        bytes.extend([4, 0, 0, 0]);
        bytes.extend([2, 0, 0, 0, 5, 6]);
        bytes
    }

    #[test]
    fn fields_are_found_and_missing_ones_have_defaults() {
        let bytes = sample();
        let table = Buffer(&bytes).root().unwrap();
        assert_eq!(table.int(0, 1).unwrap(), 7);
        assert_eq!(table.int(1, 3).unwrap(), 3);
        assert_eq!(table.vector(2, 1).unwrap().bytes(1), [5, 6]);
        assert_eq!(table.vector(9, 1).unwrap().len, 0);
    }

    #[test]
    fn every_truncation_and_every_large_offset_is_an_error_or_a_default() {
        let bytes = sample();
        let read = |bytes: &[u8]| -> Result<usize> {
            let table = Buffer(bytes).root()?;
            table.int(0, 0)?;
            Ok(table.vector(2, 1)?.bytes(1).len())
        };
        assert_eq!(read(&bytes).unwrap(), 2);
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "{len}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] = 0xff;
            // Must not panic.
            _ = read(&bytes);
        }
    }
}
