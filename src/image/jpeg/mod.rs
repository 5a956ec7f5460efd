//! A decoder for three-component JPEGs that is bit-identical to libjpeg. Networks were trained on
//! libjpeg's pixels, and the common Rust decoder upsamples chroma differently, by up to 4 of 255.
//!
//! Supports baseline, extended and progressive Huffman-coded files in YCbCr with 8 bits per sample.
//! All other files (gray, CMYK, arithmetic coding, lossless) and damaged ones are left to the
//! decoder of the `image` crate, which is more lenient.

mod huffman;
mod idct;
mod scan;
mod upsample;

use crate::geometry::Size;
use crate::memory;
use huffman::{Table, Unsupported};
use rayon::prelude::*;

/// Row-major position of each coefficient in zigzag order.
#[rustfmt::skip]
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56,
    57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Maximum number of scans. Encoders write about ten; each costs a pass over the whole image,
/// however few bytes it has.
const MAX_SCANS: usize = 100;

/// The samples of one component.
struct Plane {
    samples: Vec<u8>,
    /// Samples from one row to the next, a multiple of the block size.
    stride: usize,
    /// Columns and rows inside the image.
    width: usize,
    height: usize,
    /// Pixels per sample.
    factors: Size,
}

/// A color component of a frame.
struct Component {
    id: u8,
    sampling: Size,
    quantization: usize,
    /// Blocks per row and per column, padded to whole MCUs.
    blocks: Size,
    plane: Plane,
    /// 64 for each block in progressive files, else empty.
    coefficients: Vec<i16>,
}

struct Frame {
    progressive: bool,
    width: usize,
    height: usize,
    components: [Component; 3],
    /// Largest sampling factors of all components.
    max_sampling: Size,
}

/// Tables defined by segments, valid for the scans that follow.
#[derive(Default)]
struct Tables {
    quantization: [Option<[u16; 64]>; 4],
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    restart_interval: usize,
}

/// Decodes into `out`, `[height, width, 3]`. Returns `false` if this decoder does not support the
/// file; the content of `out` is then unspecified.
pub(super) fn decode(bytes: &[u8], size: Size, out: &mut [u8]) -> bool {
    decode_into(bytes, size, out).is_ok()
}

fn decode_into(bytes: &[u8], size: Size, out: &mut [u8]) -> Result<(), Unsupported> {
    let mut tables = Tables::default();
    let mut frame: Option<Frame> = None;
    let (mut jfif, mut adobe) = (false, None);
    if out.len() != 3 * size.pixels() {
        return Err(Unsupported);
    }
    let (mut seen, mut scans) = (0u8, 0);
    let mut at = 2;
    loop {
        let marker = next_marker(bytes, &mut at)?;
        if marker == 0xd9 {
            break;
        }
        let length = usize::from(u16::from_be_bytes([
            *bytes.get(at).ok_or(Unsupported)?,
            *bytes.get(at + 1).ok_or(Unsupported)?,
        ]));
        let segment = bytes.get(at + 2..at + length.max(2)).ok_or(Unsupported)?;
        at += length.max(2);
        match marker {
            0xc0..=0xc2 if frame.is_none() => {
                frame = Some(Frame::new(segment, marker == 0xc2, size)?);
            }
            0xc4 => define_huffman(segment, &mut tables)?,
            // Unsupported: lossless, hierarchical or arithmetic coding, a second frame, or a height
            // defined after the first scan.
            0xc0..=0xcf | 0xdc => return Err(Unsupported),
            0xdb => define_quantization(segment, &mut tables)?,
            0xdd => {
                tables.restart_interval =
                    usize::from(u16::from_be_bytes(segment.try_into().map_err(|_| Unsupported)?))
            }
            0xe0 if segment.starts_with(b"JFIF\0") => jfif = true,
            0xee if segment.starts_with(b"Adobe") => adobe = segment.get(11).copied(),
            0xda => {
                let frame = frame.as_mut().ok_or(Unsupported)?;
                scans += 1;
                if !is_ycbcr(frame, jfif, adobe) || scans > MAX_SCANS {
                    return Err(Unsupported);
                }
                let used;
                (at, used) = scan::scan(bytes, at, segment, frame, &tables)?;
                // A component that occurs twice in a baseline file is damage, and so is one that
                // never occurs (checked below).
                if !frame.progressive && seen & used != 0 {
                    return Err(Unsupported);
                }
                seen |= used;
            }
            _ => {}
        }
    }
    let frame = frame.filter(|_| seen == 0b111).ok_or(Unsupported)?;
    upsample::to_rgb(&planes(frame, &tables)?, size.width, out);
    Ok(())
}

/// Reads the marker at `at` and moves `at` past it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Result<u8, Unsupported> {
    // Fill bytes may precede a marker; anything else is damage.
    while bytes.get(*at..*at + 2).ok_or(Unsupported)? == [0xff, 0xff] {
        *at += 1;
    }
    let [0xff, marker] = bytes[*at..*at + 2] else { return Err(Unsupported) };
    *at += 2;
    Ok(marker)
}

/// Returns the samples of the three components, once all scans are read.
fn planes(frame: Frame, tables: &Tables) -> Result<[Plane; 3], Unsupported> {
    let (quantization, progressive) = (&tables.quantization, frame.progressive);
    let mut planes = Vec::with_capacity(3);
    for component in frame.components {
        if progressive {
            let table = quantization[component.quantization].as_ref().ok_or(Unsupported)?;
            planes.push(transform(component, table));
        } else {
            planes.push(component.plane);
        }
    }
    planes.try_into().map_err(|_| Unsupported)
}

/// Transforms the coefficients of a progressive component to samples, once all its scans are read.
fn transform(component: Component, quantization: &[u16; 64]) -> Plane {
    let Component { mut plane, coefficients, blocks, .. } = component;
    let rows = plane
        .samples
        .par_chunks_exact_mut(8 * plane.stride)
        .zip(coefficients.par_chunks_exact(64 * blocks.width));
    rows.for_each(|(rows, blocks)| {
        for (x, block) in blocks.as_chunks::<64>().0.iter().enumerate() {
            idct::block(block, quantization, &mut rows[8 * x..], plane.stride);
        }
    });
    plane
}

/// Returns whether the components are YCbCr, by libjpeg's rule (`jdapimin.c`,
/// `default_decompress_parms`).
fn is_ycbcr(frame: &Frame, jfif: bool, adobe: Option<u8>) -> bool {
    let ids = [0, 1, 2].map(|i| frame.components[i].id);
    match adobe {
        _ if jfif => true,
        Some(transform) => transform != 0,
        None => ids != *b"RGB",
    }
}

impl Frame {
    /// Parses the frame header. The frame must be of `size`, which was checked against the limits,
    /// so memory is bounded.
    fn new(segment: &[u8], progressive: bool, size: Size) -> Result<Self, Unsupported> {
        let &[8, h0, h1, w0, w1, 3, ref rest @ ..] = segment else { return Err(Unsupported) };
        let (height, width) =
            (usize::from(u16::from_be_bytes([h0, h1])), usize::from(u16::from_be_bytes([w0, w1])));
        let specs = rest.as_chunks::<3>().0;
        if specs.len() != 3 || width == 0 || height == 0 || Size::new(width, height) != size {
            return Err(Unsupported);
        }
        let sampling =
            |spec: &[u8; 3]| Size::new(usize::from(spec[1] >> 4), usize::from(spec[1] & 15));
        let max_sampling =
            specs.iter().map(sampling).fold(Size::square(1), |max, s| max.zip(s, usize::max));
        let mcus = size.zip(max_sampling, |side, sampling| side.div_ceil(8 * sampling));
        let component = |spec: &[u8; 3]| {
            let factor = sampling(spec);
            let Size { width: across, height: down } = factor;
            if !(1..=4).contains(&across) || !(1..=4).contains(&down) || spec[2] > 3 {
                return Err(Unsupported);
            }
            // Non-integer sampling ratios are left to the other decoder.
            let factors = max_sampling.zip(factor, usize::div_ceil);
            if factors.zip(factor, |n, by| n * by) != max_sampling {
                return Err(Unsupported);
            }
            let blocks = mcus.zip(factor, |mcus, factor| mcus * factor);
            let plane = Plane {
                samples: zeros(64 * blocks.pixels())?,
                stride: 8 * blocks.width,
                width: (width * across).div_ceil(max_sampling.width),
                height: (height * down).div_ceil(max_sampling.height),
                factors,
            };
            let coefficients = if progressive { zeros(64 * blocks.pixels())? } else { Vec::new() };
            let (id, quantization) = (spec[0], usize::from(spec[2]));
            Ok(Component { id, sampling: factor, quantization, blocks, plane, coefficients })
        };
        let components = [component(&specs[0])?, component(&specs[1])?, component(&specs[2])?];
        Ok(Self { progressive, width, height, components, max_sampling })
    }
}

/// Allocates zeros. If memory runs out, the other decoder reports it.
fn zeros<T: bytemuck::Zeroable>(len: usize) -> Result<Vec<T>, Unsupported> {
    memory::zeros(len).map_err(|_| Unsupported)
}

fn define_quantization(mut segment: &[u8], tables: &mut Tables) -> Result<(), Unsupported> {
    while let [head, rest @ ..] = segment {
        let (wide, table) =
            (head >> 4, tables.quantization.get_mut(usize::from(head & 15)).ok_or(Unsupported)?);
        let bytes = if wide == 0 { 64 } else { 128 };
        let values = rest.get(..bytes).ok_or(Unsupported)?;
        let mut natural = [0; 64];
        for (i, &place) in ZIGZAG.iter().enumerate() {
            let value = if wide == 0 {
                values[i].into()
            } else {
                u16::from_be_bytes([values[2 * i], values[2 * i + 1]])
            };
            natural[usize::from(place)] = value;
        }
        *table = Some(natural);
        segment = &rest[bytes..];
    }
    Ok(())
}

fn define_huffman(mut segment: &[u8], tables: &mut Tables) -> Result<(), Unsupported> {
    while let [head, rest @ ..] = segment {
        let counts: &[u8; 16] = rest.first_chunk().ok_or(Unsupported)?;
        let table = Table::new(counts, &rest[16..])?;
        let used = counts.iter().map(|&n| usize::from(n)).sum::<usize>();
        let kind = if head >> 4 == 0 { &mut tables.dc } else { &mut tables.ac };
        *kind.get_mut(usize::from(head & 15)).ok_or(Unsupported)? = Some(table);
        segment = &rest[16 + used..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;

    #[derive(serde::Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        file: String,
        fnv1a64: String,
    }

    struct Sample {
        name: String,
        bytes: Vec<u8>,
        size: Size,
        /// FNV-1a checksum of libjpeg's pixels.
        sum: String,
    }

    /// Test files written by tests/golden/jpeg.py.
    fn golden() -> Vec<Sample> {
        let golden: Golden =
            serde_json::from_str(include_str!("../../../tests/golden/images/jpeg.json")).unwrap();
        let each = golden.cases.into_iter().map(|case| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(case.file).unwrap();
            let frame = bytes
                .windows(4)
                .position(|w| {
                    w[0] == 0xff && matches!(w[1], 0xc0..=0xc2) && w[2] == 0 && w[3] == 17
                })
                .unwrap();
            let number = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
            let size = Size::new(number(frame + 7), number(frame + 5));
            Sample { name: case.name, bytes, size, sum: case.fnv1a64 }
        });
        each.collect()
    }

    #[test]
    fn subsampled_colors_are_interpolated_as_libjpeg_does_to_the_byte() {
        let golden = golden();
        assert!(golden.len() > 30);
        for Sample { name, bytes, size, sum } in golden {
            let mut out = vec![0; 3 * size.pixels()];
            assert!(decode(&bytes, size, &mut out), "{name} is not supported");
            let state = out.iter().fold(0xCBF2_9CE4_8422_2325u64, |s, &b| {
                (s ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3)
            });
            assert_eq!(format!("{state:016x}"), sum, "{name}");
        }
    }

    /// Damaged files are decoded or declined, without a panic.
    #[test]
    fn damaged_files_never_panic() {
        let mut state = 1u64;
        let mut random = |n: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        for Sample { bytes, size, .. } in golden() {
            let mut out = vec![0; 3 * size.pixels()];
            for _ in 0..60 {
                let mut damaged = bytes.clone();
                for _ in 0..1 + random(4) {
                    let at = 2 + random(bytes.len() - 2);
                    damaged[at] = random(256) as u8;
                }
                decode(&damaged, size, &mut out);
                damaged.truncate(random(bytes.len()));
                decode(&damaged, size, &mut out);
            }
            assert!(
                !decode(&bytes, Size { width: size.width + 1, ..size }, &mut out),
                "another size"
            );
        }
    }
}
