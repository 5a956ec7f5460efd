//! One mask: what its values are, and what they look like.

use super::finding::{Finding, Problem};
use crate::data::{MaskValues, Pair};
use crate::error::{Error, ErrorKind, Result};
use crate::files::open_regular;
use crate::image::{ClassTable, LabelMap, decode, voc_color};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufReader;
use std::path::Path;

/// Values and colors that a finding spells out.
const SPELLED_OUT: usize = 6;

/// Share of steps between areas that go over a value in between, from which a mask counts as
/// smoothed. Crisp masks have a few where a thin thing of a number in between stands: 0.02 in the
/// worst of CamVid's. Scaled bilinearly, up or down, its masks and VOC's have more than 0.4.
const SMOOTH: f64 = 0.12;

/// What a mask holds: sizes, and pixels by class (or value that is none).
pub(super) struct Mask {
    pub(super) size: (usize, usize),
    /// Whether its classes were found by their colors.
    pub(super) by_color: bool,
    pub(super) counts: BTreeMap<u16, u64>,
}

/// Reads a pair's mask and adds what is off with it. `None` where it cannot be read as classes.
///
/// `classes` is the number of classes, where it is known, with the values that are ignored.
pub(super) fn check(
    pair: &Pair,
    table: Option<&ClassTable>,
    findings: &mut Vec<Finding>,
) -> Option<Mask> {
    let file = &pair.mask;
    let (map, by_color) = match LabelMap::read_by_value_or_color(file, table) {
        Ok(read) => read,
        Err(error) => {
            findings.push(unread(file, table, &error));
            return None;
        }
    };
    let values = count(map.labels.iter().copied());
    // Colors are those of classes, whatever values mean.
    let ids = if by_color { MaskValues::Classes } else { pair.ids };
    let cause = cause(file, ids, &map, &values, table);
    let mut counts = BTreeMap::new();
    for (&value, &n) in &values {
        *counts.entry(ids.class(value)).or_insert(0) += n;
    }
    let outside: Vec<(u16, u64)> =
        counts.iter().filter(|(l, _)| !known(**l, table)).map(|(l, n)| (*l, *n)).collect();
    let ignored = |label: u16| {
        label == 255 || table.is_some_and(|t| t.ignored_values().contains(&label.into()))
    };
    match cause {
        // One cause, told once: values that are no class follow from it.
        Some(finding) => findings.push(finding),
        None if !outside.is_empty() => {
            let list = outside.iter().map(|(label, n)| format!("{label} ({n} px)"));
            findings.push(Finding::fault(Problem::OutOfRange, file, spell_out(list)));
        }
        None if counts.keys().all(|&l| ignored(l)) => {
            findings.push(Finding::fault(Problem::AllIgnored, file, ""))
        }
        None => {}
    }
    Some(Mask { size: (map.width, map.height), by_color, counts })
}

/// Whether a label is a class or one that is ignored on purpose.
fn known(label: u16, table: Option<&ClassTable>) -> bool {
    let in_table =
        |t: &ClassTable| usize::from(label) < t.len() || t.ignored_values().contains(&label.into());
    label == 255 || table.is_none_or(in_table)
}

/// What makes a readable mask wrong as a whole.
fn cause(
    file: &Path,
    ids: MaskValues,
    map: &LabelMap,
    values: &BTreeMap<u16, u64>,
    table: Option<&ClassTable>,
) -> Option<Finding> {
    use png::ColorType::{Rgb, Rgba};
    let stored = stored(file).ok()?;
    let share = in_between(map);
    if share > SMOOTH && !matches!(stored.color, Rgb | Rgba) {
        let detail = format!(
            "{:.0} % of the steps go over values in between; {} values",
            100.0 * share,
            values.len()
        );
        return Some(Finding::fault(Problem::Smoothed, file, detail));
    }
    let table = table?;
    let colors: HashSet<[u8; 3]> =
        table.colors.iter().copied().chain(table.ignored.iter().map(|i| i.color)).collect();
    let strange: Vec<u16> =
        values.keys().copied().filter(|&v| !known(ids.class(v), Some(table))).collect();
    if stored.color == png::ColorType::Grayscale && strange.len() > 1 {
        // Pillow's and OpenCV's gray, whose roundings differ by one.
        let gray = |[r, g, b]: [u8; 3]| {
            (0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b)).round()
        };
        let grays: Vec<f64> = colors.iter().map(|&c| gray(c)).collect();
        if strange.iter().all(|&v| grays.iter().any(|g| (g - f64::from(v)).abs() <= 1.0)) {
            let list = spell_out(strange.iter().map(u16::to_string));
            return Some(Finding::fault(
                Problem::ColoredMask,
                file,
                format!("{list} are the grays of classes' colors"),
            ));
        }
    }
    if let Some(palette) = stored.palette {
        let used: Vec<(u16, [u8; 3])> =
            values.keys().filter_map(|&v| Some((v, *palette.get(usize::from(v))?))).collect();
        let standard = used.iter().all(|&(v, color)| color == voc_color(v.into()));
        let ours = used.iter().all(|(_, color)| colors.contains(color));
        let moved = used.iter().find(|&&(v, color)| table.color(ids.class(v).into()) != color);
        if let (true, false, Some((index, [r, g, b]))) = (ours, standard, moved) {
            let class = table.colors.iter().position(|c| c == &[*r, *g, *b]);
            let class = class.map_or("an ignored label".to_owned(), |class| table.name(class));
            let detail =
                format!("index {index} has the color {r} {g} {b}, which is that of {class}");
            return Some(Finding::fault(Problem::PaletteOrder, file, detail));
        }
    }
    None
}

/// Why a mask could not be read as classes.
fn unread(file: &Path, table: Option<&ClassTable>, error: &Error) -> Finding {
    use png::ColorType::{GrayscaleAlpha, Rgb, Rgba};
    let unreadable = || Finding::fault(Problem::Unreadable, file, cause_of(error, file));
    let not_plain = |what: &str| {
        Finding::fault(
            Problem::ColoredMask,
            file,
            format!("{what}; save it without alpha, with 8 bits a channel"),
        )
    };
    match stored(file).map(|s| (s.color, s.depth)) {
        Ok((Rgb | Rgba, png::BitDepth::Sixteen)) => {
            return not_plain("colors of 16 bits a channel");
        }
        Ok((Rgb | Rgba, _)) => {}
        Ok((GrayscaleAlpha, _)) => return not_plain("gray with transparency"),
        _ => return unreadable(),
    }
    let Ok(image) = decode(file) else { return unreadable() };
    // What shows through are no colors of the mask's.
    if image.alpha.is_some() {
        return not_plain("colors with transparency");
    }
    let found = count(image.rgb.chunks_exact(3).map(|p| [p[0], p[1], p[2]]));
    let known = |color: &[u8; 3]| {
        table.is_some_and(|t| {
            t.colors.contains(color) || t.ignored.iter().any(|i| i.color == *color)
        })
    };
    let mut strange: Vec<([u8; 3], u64)> =
        found.into_iter().filter(|(color, _)| !known(color)).collect();
    strange.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let list = spell_out(strange.iter().map(|([r, g, b], n)| format!("{r} {g} {b} ({n} px)")));
    match table {
        None => {
            Finding::fault(Problem::ColoredMask, file, format!("{} colors: {list}", strange.len()))
        }
        // All colors are known, so it is something else.
        Some(_) if strange.is_empty() => unreadable(),
        Some(_) => Finding::fault(
            Problem::UnknownColors,
            file,
            format!("{} colors: {list}", strange.len()),
        ),
    }
}

/// An error's text without the file's name, which stands beside it anyway.
pub(super) fn cause_of(error: &Error, file: &Path) -> String {
    error.to_string().replace(&format!("{}: ", crate::text::path(file)), "")
}

/// What the header of a PNG says.
struct Stored {
    color: png::ColorType,
    depth: png::BitDepth,
    palette: Option<Vec<[u8; 3]>>,
}

fn stored(file: &Path) -> Result<Stored> {
    let damaged =
        |e: png::DecodingError| Error::new(ErrorKind::Image, "is no readable PNG").source(e);
    let mut decoder = png::Decoder::new(BufReader::new(open_regular(file, "a mask")?));
    // Neither counts here, and both can inflate to a thousand times their size.
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_ignore_text_chunk(true);
    let reader = decoder.read_info().map_err(damaged)?;
    let info = reader.info();
    let palette =
        info.palette.as_ref().map(|p| p.chunks_exact(3).map(|c| [c[0], c[1], c[2]]).collect());
    Ok(Stored { color: info.color_type, depth: info.bit_depth, palette })
}

/// Of all steps from one value to another that is not next to it, over three pixels in a row or
/// column, the share whose middle lies strictly between. 0 where there are too few steps to tell.
fn in_between(map: &LabelMap) -> f64 {
    let (mut steps, mut between) = (0u64, 0u64);
    let mut look = |a: u16, middle: u16, b: u16| {
        let (low, high) = (a.min(b), a.max(b));
        steps += u64::from(high - low > 1);
        between += u64::from(low < middle && middle < high);
    };
    let (w, labels) = (map.width, &map.labels);
    for row in labels.chunks_exact(w) {
        row.windows(3).for_each(|p| look(p[0], p[1], p[2]));
    }
    (2 * w..labels.len()).for_each(|at| look(labels[at - 2 * w], labels[at - w], labels[at]));
    if steps < 40 { 0.0 } else { between as f64 / steps as f64 }
}

fn count<T: std::hash::Hash + Ord>(values: impl Iterator<Item = T>) -> BTreeMap<T, u64> {
    let mut counts = HashMap::new();
    values.for_each(|v| *counts.entry(v).or_insert(0) += 1);
    counts.into_iter().collect()
}

fn spell_out(list: impl Iterator<Item = String>) -> String {
    // A photo in place of a mask has a million colors: only those that are shown are spelled out.
    let list: Vec<String> = list.take(SPELLED_OUT + 1).collect();
    let more = if list.len() > SPELLED_OUT { ", ..." } else { "" };
    format!("{}{more}", list[..list.len().min(SPELLED_OUT)].join(", "))
}
