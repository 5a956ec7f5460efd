//! Masks in BMP files: the indices of one with a palette, else the colors.

use super::{Data, Stored, check_size, check_table, widened};
use crate::error::{Error, ErrorKind, Result, error};
use crate::memory;
use image::ImageDecoder;
use image::codecs::bmp::BmpDecoder;
use std::io::Cursor;

pub(super) fn read(file: &[u8], has_table: bool) -> Result<Stored> {
    let damaged = |e| Error::new(ErrorKind::Image, "could not decode the mask as BMP").source(e);
    let mut decoder = BmpDecoder::new(Cursor::new(file)).map_err(damaged)?;
    let palette = decoder.get_palette().map(<[_]>::to_vec);
    let (width, height) = decoder.dimensions();
    let size = check_size(width.into(), height.into())?;
    if palette.is_none() {
        check_table("color", has_table)?;
    }
    // The decoder's indices are right only where each has a byte of its own.
    let has_indices = palette.is_some() && has_plain_bytes(file);
    decoder.set_indexed_color(has_indices);
    let channels = usize::from(decoder.color_type().bytes_per_pixel());
    let mut bytes = memory::zeros(size.pixels() * channels)?;
    decoder.read_image(&mut bytes).map_err(damaged)?;
    let data = match palette {
        Some(palette) if has_indices => Data::Indices { values: widened(&bytes)?, palette },
        Some(palette) => Data::Indices { values: indices(&bytes, channels, &palette)?, palette },
        None => Data::Colors { bytes, channels },
    };
    Ok(Stored { size, data })
}

/// Whether a file has 8 uncompressed bits for each pixel.
fn has_plain_bytes(file: &[u8]) -> bool {
    let number = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?));
    // The header's size, the bits of a pixel after the planes, and the compression.
    let fields = (number(14), number(28).map(|bits| bits & 0xffff), number(30));
    matches!(fields, (Some(40..), Some(8), Some(0)))
}

/// Returns the indices of decoded colors.
fn indices(bytes: &[u8], channels: usize, palette: &[[u8; 3]]) -> Result<Vec<u16>> {
    // The decoder adds black entries at the end.
    let unused = palette.iter().rev().take_while(|&&color| color == [0; 3]).count();
    let used = &palette[..(palette.len() - unused).max(2)];
    let mut labels = memory::with_capacity(bytes.len() / channels)?;
    for pixel in bytes.chunks_exact(channels) {
        let mut found = (0..).zip(used).filter(|(_, color)| color[..] == pixel[..3]);
        match (found.next(), found.next()) {
            (Some((index, _)), None) => labels.push(index),
            _ => {
                let [r, g, b] = [pixel[0], pixel[1], pixel[2]];
                return Err(error!(
                    Image,
                    "which entry of the palette {r} {g} {b} is, is not clear"
                )
                .advice("save the mask as PNG"));
            }
        }
    }
    Ok(labels)
}
