//! Checks of a single mask.

use super::finding::{Finding, Problem};
use crate::data::{MaskValues, Pair};
use crate::error::{Error, ErrorKind, Result};
use crate::files::open_regular;
use crate::geometry::Size;
use crate::image::{ClassTable, LabelMap, MaskFile, MaskPixels, decode, voc_color};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufReader;
use std::path::Path;

/// Maximum number of values or colors that a finding lists.
const MAX_LISTED: usize = 6;

/// Fraction of the steps between regions that pass through an intermediate value, from which a mask
/// counts as smoothed. Crisp masks have a few, at thin objects with an intermediate class number:
/// 0.02 in the worst of CamVid's. Resized bilinearly, up or down, its masks and VOC's have more
/// than 0.4.
const SMOOTH: f64 = 0.12;

/// Contents of a mask.
pub(super) struct Mask {
    pub(super) size: Size,
    /// Whether classes were derived from colors.
    pub(super) by_color: bool,
    /// Pixels by class, or by value that is not a class.
    pub(super) counts: BTreeMap<u16, u64>,
}

impl Mask {
    /// Returns a finding if the mask does not have the size of its image, given with whether its
    /// EXIF orientation turned it.
    pub(super) fn other_size(
        &self,
        pair: &Pair,
        (image, is_turned): (Size, bool),
    ) -> Option<Finding> {
        if self.size == image {
            return None;
        }
        let detail = if is_turned && self.size == image.transposed() {
            let mask = self.size;
            format!("{mask} pixels, but the EXIF orientation turns the image to {image}")
        } else {
            format!("{} pixels, but the image has {image}", self.size)
        };
        Some(Finding::fault(Problem::SizeDiffers, pair.mask.path(), detail))
    }
}

/// Reads a pair's mask and adds its problems to `findings`. Returns `None` if it cannot be read as
/// classes. `table` has the classes and ignored values, if they are known.
pub(super) fn check(
    pair: &Pair,
    table: Option<&ClassTable>,
    findings: &mut Vec<Finding>,
) -> Option<Mask> {
    let file = pair.mask.path();
    let read = match pair.mask.stored() {
        Some(file) => MaskFile::read(file, table),
        None => {
            let drawn = |(map, _)| MaskFile { map, pixels: MaskPixels::Values };
            pair.mask.read(table).map(drawn)
        }
    };
    let mask = match read {
        Ok(mask) => mask,
        Err(error) => {
            findings.push(match pair.mask.stored() {
                Some(file) => unreadable_mask(file, table, &error),
                None => Finding::fault(Problem::Unreadable, file, cause_of(&error, file)),
            });
            return None;
        }
    };
    let (by_color, map) = (mask.is_by_color(), &mask.map);
    let values = count(map.labels.iter().copied());
    // Colors already name classes, whatever the values mean.
    let meaning = if by_color { MaskValues::CLASSES } else { pair.values };
    let stored = pair.mask.stored();
    let cause = stored.and_then(|file| common_cause(file, meaning, &mask, &values, table));
    let mut counts = BTreeMap::new();
    for (&value, &n) in &values {
        *counts.entry(meaning.class(value)).or_insert(0) += n;
    }
    let invalid: Vec<(u16, u64)> =
        counts.iter().filter(|(l, _)| !is_valid(**l, table)).map(|(l, n)| (*l, *n)).collect();
    let ignored = |label: u16| {
        label == 255 || table.is_some_and(|t| t.ignored_values().contains(&label.into()))
    };
    match cause {
        // Report the cause only: invalid values follow from it.
        Some(finding) => findings.push(finding),
        None if !invalid.is_empty() => {
            let list = invalid.iter().map(|(label, n)| format!("{label} ({n} px)"));
            findings.push(Finding::fault(Problem::OutOfRange, file, abbreviated(list)));
        }
        None if counts.keys().all(|&l| ignored(l)) => {
            findings.push(Finding::fault(Problem::AllIgnored, file, ""))
        }
        None => {}
    }
    Some(Mask { size: map.size(), by_color, counts })
}

/// Whether a label is a class or explicitly ignored.
fn is_valid(label: u16, table: Option<&ClassTable>) -> bool {
    let in_table =
        |t: &ClassTable| usize::from(label) < t.len() || t.ignored_values().contains(&label.into());
    label == 255 || table.is_none_or(in_table)
}

/// Finds a problem that affects a readable mask as a whole.
fn common_cause(
    file: &Path,
    meaning: MaskValues,
    mask: &MaskFile,
    values: &BTreeMap<u16, u64>,
    table: Option<&ClassTable>,
) -> Option<Finding> {
    let share = intermediate_share(&mask.map);
    if share > SMOOTH && !mask.is_by_color() {
        let detail = format!(
            "{:.0} % of the steps pass through intermediate values; {} values",
            100.0 * share,
            values.len()
        );
        return Some(Finding::fault(Problem::Smoothed, file, detail));
    }
    let table = table?;
    let colors: HashSet<[u8; 3]> =
        table.colors.iter().copied().chain(table.ignored.iter().map(|i| i.color)).collect();
    let invalid: Vec<u16> =
        values.keys().copied().filter(|&v| !is_valid(meaning.class(v), Some(table))).collect();
    if mask.pixels == MaskPixels::Values && invalid.len() > 1 {
        // Gray as in Pillow and OpenCV, whose rounding differs by one.
        let gray = |[r, g, b]: [u8; 3]| {
            (0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b)).round()
        };
        let grays: Vec<f64> = colors.iter().map(|&c| gray(c)).collect();
        if invalid.iter().all(|&v| grays.iter().any(|g| (g - f64::from(v)).abs() <= 1.0)) {
            let list = abbreviated(invalid.iter().map(u16::to_string));
            return Some(Finding::fault(
                Problem::ColoredMask,
                file,
                format!("{list} are the classes' colors converted to gray"),
            ));
        }
    }
    if let MaskPixels::Indices(palette) = &mask.pixels {
        let used: Vec<(u16, [u8; 3])> =
            values.keys().filter_map(|&v| Some((v, *palette.get(usize::from(v))?))).collect();
        let is_standard = used.iter().all(|&(v, color)| color == voc_color(v.into()));
        let all_known = used.iter().all(|(_, color)| colors.contains(color));
        let moved = used.iter().find(|&&(v, color)| table.color(meaning.class(v).into()) != color);
        if let (true, false, Some((index, [r, g, b]))) = (all_known, is_standard, moved) {
            let class = table.colors.iter().position(|c| c == &[*r, *g, *b]);
            let class = class.map_or("an ignored label".to_owned(), |class| table.name(class));
            let detail =
                format!("index {index} has the color {r} {g} {b}, which belongs to {class}");
            return Some(Finding::fault(Problem::PaletteOrder, file, detail));
        }
    }
    None
}

/// The finding for a mask that could not be read as classes.
fn unreadable_mask(file: &Path, table: Option<&ClassTable>, error: &Error) -> Finding {
    use png::ColorType::{GrayscaleAlpha, Rgb, Rgba};
    let unreadable = || Finding::fault(Problem::Unreadable, file, cause_of(error, file));
    let unsupported = |format: &str| {
        Finding::fault(
            Problem::ColoredMask,
            file,
            format!("{format}; save it without alpha, with 8 bits per channel"),
        )
    };
    match png_type(file) {
        Ok((Rgb | Rgba, png::BitDepth::Sixteen)) => {
            return unsupported("16-bit colors");
        }
        Ok((GrayscaleAlpha, _)) => return unsupported("gray with transparency"),
        Ok((Rgb | Rgba, _)) | Err(_) => {}
        Ok(_) => return unreadable(),
    }
    let Ok(image) = decode(file) else { return unreadable() };
    if image.rgb.as_chunks().0.iter().all(|[r, g, b]| r == g && g == b) {
        return unreadable();
    }
    // The colors of transparent pixels depend on the background.
    if image.alpha.is_some() {
        return unsupported("colors with transparency");
    }
    let colors = count(image.rgb.chunks_exact(3).map(|p| [p[0], p[1], p[2]]));
    let is_known = |color: &[u8; 3]| {
        table.is_some_and(|t| {
            t.colors.contains(color) || t.ignored.iter().any(|i| i.color == *color)
        })
    };
    let mut unknown: Vec<([u8; 3], u64)> =
        colors.into_iter().filter(|(color, _)| !is_known(color)).collect();
    unknown.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let list = abbreviated(unknown.iter().map(|([r, g, b], n)| format!("{r} {g} {b} ({n} px)")));
    match table {
        None => {
            Finding::fault(Problem::ColoredMask, file, format!("{} colors: {list}", unknown.len()))
        }
        // All colors are known, so the problem is a different one.
        Some(_) if unknown.is_empty() => unreadable(),
        Some(_) => Finding::fault(
            Problem::UnknownColors,
            file,
            format!("{} colors: {list}", unknown.len()),
        ),
    }
}

/// Text of an error without the file's name, which the finding contains anyway.
pub(super) fn cause_of(error: &Error, file: &Path) -> String {
    error.to_string().replace(&format!("{}: ", crate::text::path(file)), "")
}

/// Reads the type of a PNG file's pixels.
fn png_type(file: &Path) -> Result<(png::ColorType, png::BitDepth)> {
    let damaged =
        |e: png::DecodingError| Error::new(ErrorKind::Image, "not a readable PNG").source(e);
    let mut decoder = png::Decoder::new(BufReader::new(open_regular(file, "a mask")?));
    let header = decoder.read_header_info().map_err(damaged)?;
    Ok((header.color_type, header.bit_depth))
}

/// Fraction of steps with an intermediate value. A step is three pixels in a row or column, of
/// which the outer two differ by more than 1; it has an intermediate value if the middle pixel is
/// strictly between them. Returns 0 if there are too few steps.
fn intermediate_share(map: &LabelMap) -> f64 {
    let (mut steps, mut intermediate) = (0u64, 0u64);
    let mut add = |a: u16, middle: u16, b: u16| {
        let (low, high) = (a.min(b), a.max(b));
        steps += u64::from(high - low > 1);
        intermediate += u64::from(low < middle && middle < high);
    };
    let (w, labels) = (map.width, &map.labels);
    for row in labels.chunks_exact(w) {
        for p in row.windows(3) {
            add(p[0], p[1], p[2]);
        }
    }
    for at in 2 * w..labels.len() {
        add(labels[at - 2 * w], labels[at - w], labels[at]);
    }
    if steps < 40 { 0.0 } else { intermediate as f64 / steps as f64 }
}

fn count<T: std::hash::Hash + Ord>(values: impl Iterator<Item = T>) -> BTreeMap<T, u64> {
    let mut counts = HashMap::new();
    for value in values {
        *counts.entry(value).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

/// Joins a list, and abbreviates a long one.
fn abbreviated(list: impl Iterator<Item = String>) -> String {
    // A photo in place of a mask has a million colors: format only those that are listed.
    let list: Vec<String> = list.take(MAX_LISTED + 1).collect();
    let more = if list.len() > MAX_LISTED { ", ..." } else { "" };
    format!("{}{more}", list[..list.len().min(MAX_LISTED)].join(", "))
}
