//! Masks in TIFF files, of whole numbers in any sample format, or of colors.

use super::{
    Data, SAMPLES_ADVICE, Stored, check_size, check_table, label, label_of_float, unpack, widened,
};
use crate::error::{Error, ErrorKind, Result, error};
use crate::image::decode::MAX_BYTES;
use crate::image::probe;
use crate::memory;
use std::io::Cursor;
use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

pub(super) fn read(mut bytes: Vec<u8>, has_table: bool) -> Result<Stored> {
    let damaged = |e| Error::new(ErrorKind::Image, "could not decode the mask as TIFF").source(e);
    // The decoder refuses palettes. Their indices are stored like gray values.
    let is_indexed = probe::tiff_palette_as_gray(&mut bytes);
    let file_bytes = bytes.len() as u64;
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_BYTES as usize;
    limits.intermediate_buffer_size = MAX_BYTES as usize;
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(damaged)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(damaged)?;
    let size = check_size(width.into(), height.into())?;
    let color = decoder.colortype().map_err(damaged)?;
    let unsupported = |what| Err(error!(Image, "unsupported mask: {what}").advice(SAMPLES_ADVICE));
    match color {
        ColorType::Gray(_) => {}
        ColorType::RGB(8) | ColorType::RGBA(8) => check_table("color", has_table)?,
        ColorType::Multiband { num_samples, .. } => {
            return unsupported(format!("{num_samples} bands"));
        }
        other => return unsupported(format!("{other:?}")),
    }
    let layout = decoder.image_buffer_layout().map_err(damaged)?;
    if layout.planes > 1 {
        return unsupported("planes of one color each".to_owned());
    }
    memory::check(file_bytes.saturating_add(layout.len as u64), "reading a mask")?;
    let mut result = DecodingResult::U8(Vec::new());
    decoder.read_image_to_buffer(&mut result).map_err(damaged)?;
    if let (ColorType::RGB(_) | ColorType::RGBA(_), DecodingResult::U8(bytes)) =
        (color, &mut result)
    {
        let channels = usize::from(color.num_samples());
        return Ok(Stored { size, data: Data::Colors { bytes: std::mem::take(bytes), channels } });
    }
    let values = match (color, &result) {
        (ColorType::Gray(bits @ (1 | 2 | 4)), DecodingResult::U8(bytes)) => {
            let stride = size.width.div_ceil(8 / usize::from(bits));
            let rows = bytes.chunks_exact(stride);
            let value = |row, x| unpack(row, x, bits.into());
            let labels = rows.flat_map(|row| (0..size.width).map(move |x| value(row, x)));
            memory::collect(size.pixels(), labels)?
        }
        (_, result) => labels(result)?,
    };
    if values.len() != size.pixels() {
        let bits = color.bit_depth();
        return unsupported(format!("{bits} bits for each value"));
    }
    let colors = decoder.find_tag_unsigned_vec::<u16>(Tag::ColorMap).map_err(damaged)?;
    let data = match colors.filter(|_| is_indexed) {
        Some(colors) => Data::Indices { values, palette: palette(&colors) },
        None => Data::Values(values),
    };
    Ok(Stored { size, data })
}

/// Converts decoded numbers to labels.
fn labels(decoded: &DecodingResult) -> Result<Vec<u16>> {
    fn all<T: Copy>(values: &[T], label: impl Fn(T) -> Result<u16>) -> Result<Vec<u16>> {
        let mut labels = memory::with_capacity(values.len())?;
        for &value in values {
            labels.push(label(value)?);
        }
        Ok(labels)
    }
    match decoded {
        DecodingResult::U8(values) => widened(values),
        DecodingResult::U16(values) => all(values, |v| label(v.into())),
        DecodingResult::U32(values) => all(values, |v| label(v.into())),
        DecodingResult::U64(values) => all(values, |v| label(v.try_into().unwrap_or(i64::MAX))),
        DecodingResult::I8(values) => all(values, |v| label(v.into())),
        DecodingResult::I16(values) => all(values, |v| label(v.into())),
        DecodingResult::I32(values) => all(values, |v| label(v.into())),
        DecodingResult::I64(values) => all(values, label),
        DecodingResult::F16(values) => all(values, |v| label_of_float(v.into())),
        DecodingResult::F32(values) => all(values, |v| label_of_float(v.into())),
        DecodingResult::F64(values) => all(values, label_of_float),
    }
}

/// Returns the colors of a color map, which has all reds before all greens before all blues, in 16
/// bits each.
fn palette(map: &[u16]) -> Vec<[u8; 3]> {
    let len = map.len() / 3;
    let channel = |color: usize, index: usize| (map[color * len + index] >> 8) as u8;
    (0..len).map(|index| [0, 1, 2].map(|color| channel(color, index))).collect()
}
