//! Areas painted with Label Studio's brush: RGBA pixels in the run-length code of the npm package
//! `@thi.ng/rle-pack`, as label-studio-converter decodes them (`brush.py`).

use super::canvas::Canvas;
use crate::error::{Error, Result, error};

/// Channels of a pixel, of which the last, opacity, is the area.
const CHANNELS: usize = 4;

/// Draws the pixels that are not completely transparent.
///
/// # Errors
/// Returns an error if the code ends early or is not for exactly the image's pixels.
pub(super) fn draw(canvas: &mut Canvas, bytes: &[u8], label: u16) -> Result<()> {
    let mut bits = Bits { bytes, at: 0 };
    let (values, pixels) = (bits.read(32)? as usize, canvas.size().pixels());
    if Some(values) != pixels.checked_mul(CHANNELS) {
        let size = canvas.size();
        return Err(error!(
            Data,
            "the brush has {values} values, not four for each of {size} pixels"
        )
        .advice("export the annotations again"));
    }
    let word = bits.read(5)? + 1;
    let mut lengths = [0; 4];
    for length in &mut lengths {
        *length = bits.read(4)? + 1;
    }
    let mut at = 0;
    while at < values {
        let is_run = bits.read(1)? == 1;
        let length = lengths[bits.read(2)? as usize];
        let end = at + bits.read(length)? as usize + 1;
        if end > values {
            return Err(damaged());
        }
        canvas.spend((end - at) as u64)?;
        let mut value = 0;
        for index in at..end {
            if index == at || !is_run {
                value = bits.read(word)?;
            }
            if index % CHANNELS == CHANNELS - 1 && value > 0 {
                canvas.set(index / CHANNELS, label);
            }
        }
        at = end;
    }
    Ok(())
}

/// Bits of bytes, the highest first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits that were read.
    at: usize,
}

impl Bits<'_> {
    /// Reads a number of up to 32 bits.
    fn read(&mut self, bits: u32) -> Result<u32> {
        let mut value = 0;
        for _ in 0..bits {
            let byte = self.bytes.get(self.at / 8).ok_or_else(damaged)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }
}

fn damaged() -> Error {
    error!(Data, "the code of the brush ends early or is damaged")
        .advice("export the annotations again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;

    /// A code for 2 x 1 pixels: words of 8 bits, a run of seven zeros, and one value.
    fn code(values: u32, last: u8) -> Vec<u8> {
        let mut bits = format!("{values:032b}{:05b}", 7);
        bits += &"0010".repeat(4);
        bits += &format!("1{:02b}{:03b}{:08b}", 0, 6, 0);
        bits += &format!("0{:02b}{:03b}{last:08b}", 0, 0);
        while bits.len() % 8 > 0 {
            bits.push('0');
        }
        let byte = |at: usize| u8::from_str_radix(&bits[at..at + 8], 2).unwrap();
        (0..bits.len()).step_by(8).map(byte).collect()
    }

    #[test]
    fn pixels_with_opacity_have_the_label() {
        let mut canvas = Canvas::new(Size::new(2, 1)).unwrap();
        draw(&mut canvas, &code(8, 200), 3).unwrap();
        assert_eq!(canvas.finish().unwrap().labels, [0, 3]);
    }

    #[test]
    fn codes_for_other_sizes_or_that_end_early_are_refused() {
        let refused = |bytes: &[u8]| {
            let mut canvas = Canvas::new(Size::new(2, 1)).unwrap();
            draw(&mut canvas, bytes, 3).unwrap_err().to_string()
        };
        assert!(refused(&code(u32::MAX, 0)).contains("4294967295 values"));
        let whole = code(8, 200);
        assert!((0..whole.len()).all(|len| refused(&whole[..len]).contains("ends early")));
    }
}
