//! Decoding of a scan: the interleaved blocks of its components (ITU-T T.81, annexes A, F and G).

use super::huffman::{Bits, Table, Unsupported};
use super::{Frame, Tables, ZIGZAG, idct};
use crate::geometry::{Position, Size};

/// A component of a scan: its index in the frame and the indices of its tables.
struct ScanComponent {
    component: usize,
    dc: usize,
    ac: usize,
}

/// The coefficients of a scan, and which of their bits it holds (progressive files).
struct Band {
    first: usize,
    last: usize,
    /// The bit position of the previous pass; 0 for the first pass.
    high: u32,
    /// The bit position of this pass.
    low: u32,
}

/// Decoder state carried from block to block.
struct State {
    /// DC prediction of each component.
    dc: [i32; 3],
    /// Number of following blocks without coefficients in the band (EOBRUN).
    eob_run: u32,
}

/// Decodes a scan whose header is `segment` and whose data begins at `at`. Returns the position
/// after the scan and a bit mask of its components.
pub(super) fn scan(
    bytes: &[u8],
    at: usize,
    segment: &[u8],
    frame: &mut Frame,
    tables: &Tables,
) -> Result<(usize, u8), Unsupported> {
    let (components, band) = header(segment, frame)?;
    let mut bits = Bits::new(bytes, at);
    let mut state = State { dc: [0; 3], eob_run: 0 };
    let mut done = 0usize;
    let mut before_unit = |bits: &mut Bits, state: &mut State| {
        let interval = tables.restart_interval;
        if interval > 0 && done > 0 && done.is_multiple_of(interval) {
            bits.restart(((done / interval - 1) % 8) as u8)?;
            *state = State { dc: [0; 3], eob_run: 0 };
        }
        done += 1;
        Ok(())
    };
    if let [part] = components.as_slice() {
        // A single component is not interleaved: its blocks come in rows, and only those inside the
        // image.
        let plane = &frame.components[part.component].plane;
        for y in 0..plane_blocks(plane.height) {
            for x in 0..plane_blocks(frame.components[part.component].plane.width) {
                before_unit(&mut bits, &mut state)?;
                unit(&mut bits, &mut state, part, &band, frame, tables, Position { x, y })?;
            }
        }
    } else {
        let size = Size::new(frame.width, frame.height);
        let mcus = size.zip(frame.max_sampling, |side, sampling| side.div_ceil(8 * sampling));
        for my in 0..mcus.height {
            for mx in 0..mcus.width {
                before_unit(&mut bits, &mut state)?;
                for part in &components {
                    let factor = frame.components[part.component].sampling;
                    for i in 0..factor.pixels() {
                        let (x, y) = (i % factor.width, i / factor.width);
                        let at = Position::new(mx * factor.width + x, my * factor.height + y);
                        unit(&mut bits, &mut state, part, &band, frame, tables, at)?;
                    }
                }
            }
        }
    }
    let used = components.iter().fold(0, |used, part| used | 1 << part.component);
    Ok((bits.end()?, used))
}

fn plane_blocks(side: usize) -> usize {
    side.div_ceil(8)
}

fn header(segment: &[u8], frame: &Frame) -> Result<(Vec<ScanComponent>, Band), Unsupported> {
    let count = usize::from(*segment.first().ok_or(Unsupported)?);
    let (list, rest) = segment[1..].split_at_checked(2 * count).ok_or(Unsupported)?;
    let &[first, last, bits] = rest else { return Err(Unsupported) };
    let part = |pair: &[u8; 2]| {
        let component = frame.components.iter().position(|c| c.id == pair[0]).ok_or(Unsupported)?;
        let (dc, ac) = (usize::from(pair[1] >> 4), usize::from(pair[1] & 15));
        if dc > 3 || ac > 3 { Err(Unsupported) } else { Ok(ScanComponent { component, dc, ac }) }
    };
    let components = list.as_chunks::<2>().0.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    let has_duplicates = components
        .iter()
        .enumerate()
        .any(|(i, p)| components[..i].iter().any(|q| q.component == p.component));
    let band = if frame.progressive {
        Band {
            first: first.into(),
            last: last.into(),
            high: u32::from(bits >> 4),
            low: u32::from(bits & 15),
        }
    } else {
        Band { first: 0, last: 63, high: 0, low: 0 }
    };
    let is_dc = band.first == 0;
    let is_valid = band.first <= band.last
        && band.last < 64
        && band.low < 14
        && (band.high == 0 || band.high == band.low + 1);
    // A progressive scan holds either the DC coefficients of any number of components, or AC
    // coefficients of one.
    let is_allowed =
        !frame.progressive || if is_dc { band.last == 0 } else { components.len() == 1 };
    if components.is_empty() || has_duplicates || !is_valid || !is_allowed {
        Err(Unsupported)
    } else {
        Ok((components, band))
    }
}

fn unit(
    bits: &mut Bits,
    state: &mut State,
    part: &ScanComponent,
    band: &Band,
    frame: &mut Frame,
    tables: &Tables,
    Position { x, y }: Position,
) -> Result<(), Unsupported> {
    let component = &mut frame.components[part.component];
    if !frame.progressive {
        let mut block = [0; 64];
        let dc = tables.dc[part.dc].as_ref().ok_or(Unsupported)?;
        let ac = tables.ac[part.ac].as_ref().ok_or(Unsupported)?;
        block[0] = dc_coefficient(bits, &mut state.dc[part.component], dc)? as i16;
        baseline(bits, ac, &mut block)?;
        let table = tables.quantization[component.quantization].as_ref().ok_or(Unsupported)?;
        let stride = component.plane.stride;
        idct::block(&block, table, &mut component.plane.samples[8 * (y * stride + x)..], stride);
        return Ok(());
    }
    let at = 64 * (y * component.blocks.width + x);
    let block: &mut [i16; 64] =
        component.coefficients[at..].first_chunk_mut().ok_or(Unsupported)?;
    match (band.first, band.high) {
        (0, 0) => {
            let dc = tables.dc[part.dc].as_ref().ok_or(Unsupported)?;
            block[0] =
                (dc_coefficient(bits, &mut state.dc[part.component], dc)? << band.low) as i16;
            Ok(())
        }
        (0, _) => {
            block[0] |= (bits.take(1) << band.low) as i16;
            Ok(())
        }
        (_, high) => {
            let ac = tables.ac[part.ac].as_ref().ok_or(Unsupported)?;
            let pass = if high == 0 { first_pass } else { refine };
            pass(bits, ac, &mut state.eob_run, band, block)
        }
    }
}

/// Decodes a DC coefficient, coded as the difference to that of the previous block.
fn dc_coefficient(bits: &mut Bits, last: &mut i32, table: &Table) -> Result<i32, Unsupported> {
    let size = u32::from(bits.symbol(table)?);
    if size > 15 {
        return Err(Unsupported);
    }
    *last = last.wrapping_add(bits.signed(size));
    Ok(*last)
}

fn baseline(bits: &mut Bits, table: &Table, block: &mut [i16; 64]) -> Result<(), Unsupported> {
    let mut k = 1;
    while k < 64 {
        let symbol = bits.symbol(table)?;
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if run < 15 {
                break;
            }
            k += 16;
            continue;
        }
        k += run;
        let value = bits.signed(size);
        *block.get_mut(usize::from(*ZIGZAG.get(k).ok_or(Unsupported)?)).ok_or(Unsupported)? =
            value as i16;
        k += 1;
    }
    Ok(())
}

/// Decodes the first pass of a band: the highest bits (T.81, G.1.2.2).
fn first_pass(
    bits: &mut Bits,
    table: &Table,
    empty: &mut u32,
    band: &Band,
    block: &mut [i16; 64],
) -> Result<(), Unsupported> {
    if *empty > 0 {
        *empty -= 1;
        return Ok(());
    }
    let mut k = band.first;
    while k <= band.last {
        let symbol = bits.symbol(table)?;
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if run < 15 {
                *empty = (1 << run) - 1 + bits.take(run);
                break;
            }
            k += 16;
            continue;
        }
        k += run as usize;
        let value = bits.signed(size) << band.low;
        block[usize::from(*ZIGZAG.get(k).ok_or(Unsupported)?)] = value as i16;
        k += 1;
    }
    Ok(())
}

/// Decodes a refinement pass of a band: one bit for each nonzero coefficient, run lengths for the
/// zero ones (T.81, G.1.2.3).
fn refine(
    bits: &mut Bits,
    table: &Table,
    empty: &mut u32,
    band: &Band,
    block: &mut [i16; 64],
) -> Result<(), Unsupported> {
    let bit = 1i16 << band.low;
    // Refines the nonzero coefficients from `k` on until `zeros` zeros are skipped. Returns the
    // position of the next zero.
    let refine_nonzero = |bits: &mut Bits, block: &mut [i16; 64], mut k: usize, mut zeros: u32| {
        while k <= band.last {
            let value = &mut block[usize::from(ZIGZAG[k])];
            if *value == 0 {
                if zeros == 0 {
                    break;
                }
                zeros -= 1;
            } else if bits.take(1) == 1 && *value & bit == 0 {
                *value = value.wrapping_add(if *value > 0 { bit } else { -bit });
            }
            k += 1;
        }
        k
    };
    let mut k = band.first;
    if *empty == 0 {
        while k <= band.last {
            let symbol = bits.symbol(table)?;
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            let value = match size {
                0 if run < 15 => {
                    *empty = (1 << run) + bits.take(run);
                    break;
                }
                0 => 0,
                1 if bits.take(1) == 1 => bit,
                1 => -bit,
                _ => return Err(Unsupported),
            };
            k = refine_nonzero(bits, block, k, run);
            if k > band.last {
                break;
            }
            if value != 0 {
                block[usize::from(ZIGZAG[k])] = value;
            }
            k += 1;
        }
    }
    if *empty > 0 {
        refine_nonzero(bits, block, k, u32::MAX);
        *empty -= 1;
    }
    Ok(())
}
