//! Sample images with truth and prediction, embedded in the page.

use super::{ReportData, Sample, escape, percent, swatch};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::image::{ClassTable, Image, LabelMap, resample};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeSet;

/// Maximum length of an image's longer side on the page, in pixels.
const LONGEST: usize = 480;

pub(super) fn section(data: &ReportData) -> Result<String> {
    if data.samples.is_empty() {
        return Ok(String::new());
    }
    let ignored = data.table.ignored_values();
    let mut shown = BTreeSet::new();
    let mut cards = String::new();
    for sample in &data.samples {
        shown.extend(sample.truth.labels.iter().chain(&sample.prediction.labels).copied());
        cards += &card(sample, &data.table, &ignored)
            .map_err(|e| e.at(format!("sample `{}`", sample.name)))?;
    }
    let entry = |&label: &u16| format!("<li>{}</li>", swatch(&data.table, label.into()));
    let legend: String = shown.iter().map(entry).collect();
    Ok(format!(
        "<h2>Samples</h2><ul class=\"legend\">{legend}</ul><div class=\"samples\">{cards}</div>"
    ))
}

fn card(sample: &Sample, table: &ClassTable, ignored: &[u32]) -> Result<String> {
    let size = sample.image.size();
    for (kind, map) in [("truth", &sample.truth), ("prediction", &sample.prediction)] {
        if map.size() != size {
            let got = map.size();
            return Err(error!(Usage, "the {kind} has {got} pixels, but the image has {size}"));
        }
    }
    let counts = |t: &u16| !ignored.contains(&u32::from(*t)) && usize::from(*t) < table.len();
    let labels =
        || sample.truth.labels.iter().zip(&sample.prediction.labels).filter(|(t, _)| counts(t));
    let (total, correct) = labels()
        .fold((0u64, 0u64), |(total, correct), (t, p)| (total + 1, correct + u64::from(t == p)));
    let accuracy = (total > 0).then(|| correct as f64 / total as f64);
    let to = shrunk(size, LONGEST);
    let photo = Image::new(to, resample(&sample.image.rgb, size, to)?.into_owned())?;
    let images = [
        ("image", photo.jpeg()?, "jpeg"),
        ("truth", mask(&sample.truth, to, table)?.png()?, "png"),
        ("prediction", mask(&sample.prediction, to, table)?.png()?, "png"),
    ];
    let name = escape(&sample.name);
    let figures: String = images
        .iter()
        .map(|(kind, bytes, format)| {
            let data = BASE64_STANDARD.encode(bytes);
            let Size { width, height } = to;
            format!(
                "<figure><img width=\"{width}\" height=\"{height}\" alt=\"{kind} of {name}\" src=\"data:image/{format};base64,{data}\">\
                 <figcaption>{kind}</figcaption></figure>"
            )
        })
        .collect();
    Ok(format!(
        "<div class=\"card sample\"><h3>{name}</h3><p class=\"pale\">pixel accuracy {}</p><div class=\"triple\">{figures}</div></div>",
        percent(accuracy)
    ))
}

fn shrunk(size: Size, longest: usize) -> Size {
    let long = size.width.max(size.height);
    if long <= longest { size } else { size.map(|side| (side * longest / long).max(1)) }
}

/// Draws the image, the truth and the prediction side by side, as a JPEG file, with sides of at most
/// `longest` pixels each.
pub(in crate::report) fn triple(
    sample: &Sample,
    table: &ClassTable,
    longest: usize,
) -> Result<(Size, Vec<u8>)> {
    let (from, to) = (sample.image.size(), shrunk(sample.image.size(), longest));
    let photo = Image::new(to, resample(&sample.image.rgb, from, to)?.into_owned())?;
    let images = [photo, mask(&sample.truth, to, table)?, mask(&sample.prediction, to, table)?];
    let row = 3 * to.width;
    let rows = (0..to.height)
        .flat_map(|y| images.iter().flat_map(move |image| &image.rgb[y * row..][..row]));
    let size = Size::new(3 * to.width, to.height);
    Ok((size, Image::new(size, rows.copied().collect())?.jpeg()?))
}

/// Draws labels in the classes' colors, sampled at pixel centers.
fn mask(map: &LabelMap, size: Size, table: &ClassTable) -> Result<Image> {
    let Size { width: w, height: h } = size;
    let center = |i: usize, of: usize, from: usize| ((2 * i + 1) * from / (2 * of)).min(from - 1);
    let at = |x: usize, y: usize| {
        map.labels[center(y, h, map.height) * map.width + center(x, w, map.width)]
    };
    let rgb = (0..w * h).flat_map(|i| table.color(at(i % w, i / w).into())).collect();
    Image::new(size, rgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_shrink_without_new_labels() {
        let labels = (0..1000 * 4).map(|i| if i % 1000 < 500 { 1 } else { 2 }).collect();
        let map = LabelMap::new(Size::new(1000, 4), labels).unwrap();
        let table = ClassTable::voc();
        let to = shrunk(Size::new(1000, 4), LONGEST);
        assert_eq!(to, Size::new(480, 1));
        let small = mask(&map, to, &table).unwrap();
        let colors: Vec<&[u8]> = small.rgb.chunks_exact(3).collect();
        assert_eq!(colors[..240], vec![&table.color(1)[..]; 240]);
        assert_eq!(colors[240..], vec![&table.color(2)[..]; 240]);
    }
}
