//! JPEGs of three colors as libjpeg decodes them, bit for bit: networks were trained on its pixels,
//! and the usual decoder for Rust enlarges color at half size in another way, up to four steps of
//! 255 off.
//!
//! Baseline, extended and progressive Huffman-coded files in YCbCr, 8 bits a sample. All others
//! (gray, CMYK, arithmetic coding, lossless) and all damaged ones are left to the decoder of the
//! `image` crate, which forgives more.

mod huffman;
mod idct;
mod scan;
mod upsample;

use crate::memory;
use huffman::{Table, Unfit};
use rayon::prelude::*;

/// Places of the zigzag's coefficients in rows.
#[rustfmt::skip]
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56,
    57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Encoders write ten scans or so. Each goes over the whole image, however few bytes it has.
const MOST_SCANS: usize = 100;

/// One color's samples.
struct Plane {
    samples: Vec<u8>,
    /// Samples from one row to the next: whole blocks.
    stride: usize,
    /// Columns and rows that belong to the image.
    width: usize,
    height: usize,
    /// Pixels of the image to a sample, across and down.
    factors: (usize, usize),
}

/// One color of a frame.
struct Component {
    id: u8,
    sampling: (usize, usize),
    quantization: usize,
    /// Blocks in a row and a column, of whole MCUs.
    blocks: (usize, usize),
    plane: Plane,
    /// Of a progressive file: 64 for each block.
    coefficients: Vec<i16>,
}

struct Frame {
    progressive: bool,
    width: usize,
    height: usize,
    components: [Component; 3],
    largest: (usize, usize),
}

/// What segments define for the scans behind them.
#[derive(Default)]
struct Tables {
    quantization: [Option<[u16; 64]>; 4],
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    restart_interval: usize,
}

/// Decodes into `out`, `[height, width, 3]`. `false` where this decoder does not take the file;
/// `out` is then of no meaning.
pub(super) fn decode(bytes: &[u8], size: (u32, u32), out: &mut [u8]) -> bool {
    decode_into(bytes, (size.0 as usize, size.1 as usize), out).is_ok()
}

fn decode_into(bytes: &[u8], (width, height): (usize, usize), out: &mut [u8]) -> Result<(), Unfit> {
    let mut tables = Tables::default();
    let mut frame: Option<Frame> = None;
    let (mut jfif, mut adobe) = (false, None);
    if out.len() != 3 * width * height {
        return Err(Unfit);
    }
    let (mut seen, mut scans) = (0u8, 0);
    let mut at = 2;
    loop {
        // Fill bytes may be in front of a marker; anything else is damage.
        while bytes.get(at..at + 2).ok_or(Unfit)? == [0xff, 0xff] {
            at += 1;
        }
        let [0xff, marker] = bytes[at..at + 2] else { return Err(Unfit) };
        at += 2;
        if marker == 0xd9 {
            break;
        }
        let length = usize::from(u16::from_be_bytes([
            *bytes.get(at).ok_or(Unfit)?,
            *bytes.get(at + 1).ok_or(Unfit)?,
        ]));
        let segment = bytes.get(at + 2..at + length.max(2)).ok_or(Unfit)?;
        at += length.max(2);
        match marker {
            0xc0..=0xc2 if frame.is_none() => {
                frame = Some(Frame::new(segment, marker == 0xc2, (width, height))?);
            }
            0xc4 => define_huffman(segment, &mut tables)?,
            // Other frames: lossless, hierarchical, arithmetic; a second one; a height that follows
            // later.
            0xc0..=0xcf | 0xdc => return Err(Unfit),
            0xdb => define_quantization(segment, &mut tables)?,
            0xdd => {
                tables.restart_interval =
                    usize::from(u16::from_be_bytes(segment.try_into().map_err(|_| Unfit)?))
            }
            0xe0 if segment.starts_with(b"JFIF\0") => jfif = true,
            0xee if segment.starts_with(b"Adobe") => adobe = segment.get(11).copied(),
            0xda => {
                let frame = frame.as_mut().ok_or(Unfit)?;
                scans += 1;
                if !is_ycbcr(frame, jfif, adobe) || scans > MOST_SCANS {
                    return Err(Unfit);
                }
                let used;
                (at, used) = scan::scan(bytes, at, segment, frame, &tables)?;
                // A component that comes twice in a baseline file is damage, and so is one that
                // never comes (below).
                if !frame.progressive && seen & used != 0 {
                    return Err(Unfit);
                }
                seen |= used;
            }
            _ => {}
        }
    }
    let frame = frame.filter(|_| seen == 0b111).ok_or(Unfit)?;
    let (quantization, progressive) = (&tables.quantization, frame.progressive);
    let mut planes = Vec::with_capacity(3);
    for component in frame.components {
        if progressive {
            let table = quantization[component.quantization].as_ref().ok_or(Unfit)?;
            planes.push(transformed(component, table));
        } else {
            planes.push(component.plane);
        }
    }
    let planes: [Plane; 3] = planes.try_into().map_err(|_| Unfit)?;
    upsample::to_rgb(&planes, width, out);
    Ok(())
}

/// The samples of a progressive component, once all its scans are read.
fn transformed(component: Component, quantization: &[u16; 64]) -> Plane {
    let Component { mut plane, coefficients, blocks, .. } = component;
    let rows = plane
        .samples
        .par_chunks_exact_mut(8 * plane.stride)
        .zip(coefficients.par_chunks_exact(64 * blocks.0));
    rows.for_each(|(rows, blocks)| {
        for (x, block) in blocks.as_chunks::<64>().0.iter().enumerate() {
            idct::block(block, quantization, &mut rows[8 * x..], plane.stride);
        }
    });
    plane
}

/// As libjpeg decides it (`jdapimin.c`, `default_decompress_parms`).
fn is_ycbcr(frame: &Frame, jfif: bool, adobe: Option<u8>) -> bool {
    let ids = [0, 1, 2].map(|i| frame.components[i].id);
    match adobe {
        _ if jfif => true,
        Some(transform) => transform != 0,
        None => ids != *b"RGB",
    }
}

impl Frame {
    /// From the frame's header. Memory is taken for an image of `size` alone, whose limits were
    /// checked.
    fn new(segment: &[u8], progressive: bool, size: (usize, usize)) -> Result<Self, Unfit> {
        let &[8, h0, h1, w0, w1, 3, ref rest @ ..] = segment else { return Err(Unfit) };
        let (height, width) =
            (usize::from(u16::from_be_bytes([h0, h1])), usize::from(u16::from_be_bytes([w0, w1])));
        let parts = rest.as_chunks::<3>().0;
        if parts.len() != 3 || width == 0 || height == 0 || (width, height) != size {
            return Err(Unfit);
        }
        let sampling = |part: &[u8; 3]| (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        let largest =
            parts.iter().map(sampling).fold((1, 1), |(w, h), (x, y)| (w.max(x), h.max(y)));
        let mcus = (width.div_ceil(8 * largest.0), height.div_ceil(8 * largest.1));
        let component = |part: &[u8; 3]| {
            let (across, down) = sampling(part);
            if !(1..=4).contains(&across) || !(1..=4).contains(&down) || part[2] > 3 {
                return Err(Unfit);
            }
            // Fractions of a pixel are for the other decoder.
            if !largest.0.is_multiple_of(across) || !largest.1.is_multiple_of(down) {
                return Err(Unfit);
            }
            let blocks = (mcus.0 * across, mcus.1 * down);
            let plane = Plane {
                samples: zeros(64 * blocks.0 * blocks.1)?,
                stride: 8 * blocks.0,
                width: (width * across).div_ceil(largest.0),
                height: (height * down).div_ceil(largest.1),
                factors: (largest.0 / across, largest.1 / down),
            };
            let coefficients =
                if progressive { zeros(64 * blocks.0 * blocks.1)? } else { Vec::new() };
            let (id, quantization) = (part[0], usize::from(part[2]));
            Ok(Component {
                id,
                sampling: (across, down),
                quantization,
                blocks,
                plane,
                coefficients,
            })
        };
        let components = [component(&parts[0])?, component(&parts[1])?, component(&parts[2])?];
        Ok(Self { progressive, width, height, components, largest })
    }
}

/// Where memory runs out the other decoder reports it.
fn zeros<T: bytemuck::Zeroable>(len: usize) -> Result<Vec<T>, Unfit> {
    memory::zeros(len).map_err(|_| Unfit)
}

fn define_quantization(mut segment: &[u8], tables: &mut Tables) -> Result<(), Unfit> {
    while let [head, rest @ ..] = segment {
        let (wide, table) =
            (head >> 4, tables.quantization.get_mut(usize::from(head & 15)).ok_or(Unfit)?);
        let bytes = if wide == 0 { 64 } else { 128 };
        let values = rest.get(..bytes).ok_or(Unfit)?;
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

fn define_huffman(mut segment: &[u8], tables: &mut Tables) -> Result<(), Unfit> {
    while let [head, rest @ ..] = segment {
        let counts: &[u8; 16] = rest.first_chunk().ok_or(Unfit)?;
        let table = Table::new(counts, &rest[16..])?;
        let used = counts.iter().map(|&n| usize::from(n)).sum::<usize>();
        let kind = if head >> 4 == 0 { &mut tables.dc } else { &mut tables.ac };
        *kind.get_mut(usize::from(head & 15)).ok_or(Unfit)? = Some(table);
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
        size: (u32, u32),
        /// Checksum of libjpeg's pixels.
        sum: String,
    }

    /// tests/golden/jpeg.py made them.
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
            let number = |at: usize| u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
            let size = (number(frame + 7), number(frame + 5));
            Sample { name: case.name, bytes, size, sum: case.fnv1a64 }
        });
        each.collect()
    }

    #[test]
    fn subsampled_colors_are_interpolated_as_libjpeg_does_to_the_byte() {
        let golden = golden();
        assert!(golden.len() > 30);
        for Sample { name, bytes, size, sum } in golden {
            let mut out = vec![0; 3 * (size.0 * size.1) as usize];
            assert!(decode(&bytes, size, &mut out), "{name} is not taken");
            let state = out.iter().fold(0xCBF2_9CE4_8422_2325u64, |s, &b| {
                (s ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3)
            });
            assert_eq!(format!("{state:016x}"), sum, "{name}");
        }
    }

    /// Whatever is damaged is decoded or declined; nothing panics.
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
            let mut out = vec![0; 3 * (size.0 * size.1) as usize];
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
            assert!(!decode(&bytes, (size.0 + 1, size.1), &mut out), "another size");
        }
    }
}
