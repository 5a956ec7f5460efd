//! Masks in PNG files, values as stored: the palette is not applied, gray is not scaled.

use super::{Data, SAMPLES_ADVICE, Stored, check_size, check_table, unpack, widened};
use crate::error::{Error, ErrorKind, Result, error};
use crate::memory;
use png::{BitDepth, ColorType};
use std::fs::File;
use std::io::BufReader;

/// Refuses samples that are not classes and colors that cannot be looked up.
fn check_color_type(color_type: (ColorType, BitDepth), has_table: bool) -> Result<()> {
    match color_type {
        (ColorType::Grayscale | ColorType::Indexed, _) => Ok(()),
        (ColorType::Rgb, BitDepth::Eight) => check_table("RGB", has_table),
        (ColorType::Rgba, BitDepth::Eight) => check_table("RGBA", has_table),
        (ColorType::Rgb, _) => {
            Err(error!(Image, "unsupported mask: RGB with 16 bits per channel")
                .advice(SAMPLES_ADVICE))
        }
        (_, BitDepth::Sixteen) => {
            Err(error!(Image, "unsupported mask: alpha with 16 bits per channel")
                .advice(SAMPLES_ADVICE))
        }
        _ => Err(error!(Image, "unsupported mask: gray with alpha").advice(SAMPLES_ADVICE)),
    }
}

pub(super) fn read(file: File, has_table: bool) -> Result<Stored> {
    let damaged = |e: png::DecodingError| {
        Error::new(ErrorKind::Image, "could not decode the mask as PNG").source(e)
    };
    let mut decoder = png::Decoder::new(BufReader::new(file));
    // These chunks are not used, and may inflate a thousandfold.
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(png::Transformations::IDENTITY);
    let info = decoder.read_header_info().map_err(damaged)?;
    let size = check_size(info.width.into(), info.height.into())?;
    let mut reader = decoder.read_info().map_err(damaged)?;
    // Check the color type before allocating memory.
    check_color_type(reader.output_color_type(), has_table)?;
    let length =
        reader.output_buffer_size().ok_or_else(|| error!(Image, "the mask is too large"))?;
    let mut bytes = memory::zeros(length)?;
    let frame = reader.next_frame(&mut bytes).map_err(damaged)?;
    let (width, count) = (size.width, size.pixels());
    let values = match (frame.color_type, frame.bit_depth) {
        (color @ (ColorType::Rgb | ColorType::Rgba), _) => {
            let channels = color.samples();
            return Ok(Stored { size, data: Data::Colors { bytes, channels } });
        }
        // Rows of whole bytes have no padding.
        (_, BitDepth::Eight) => widened(&bytes[..count])?,
        (_, BitDepth::Sixteen) => {
            let pairs = bytes[..2 * count].as_chunks().0;
            memory::collect(count, pairs.iter().map(|&pair| u16::from_be_bytes(pair)))?
        }
        (_, depth) => {
            let rows = bytes.chunks_exact(frame.line_size.max(1)).take(size.height);
            let labels = rows.flat_map(|row| (0..width).map(|x| unpack(row, x, depth as usize)));
            memory::collect(count, labels)?
        }
    };
    let palette = reader.info().palette.as_deref().map(|palette| palette.as_chunks().0.to_vec());
    let data = match palette.filter(|_| frame.color_type == ColorType::Indexed) {
        Some(palette) => Data::Indices { values, palette },
        None => Data::Values(values),
    };
    Ok(Stored { size, data })
}
