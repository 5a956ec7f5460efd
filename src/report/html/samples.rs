//! Images with truth and prediction, inside the page.

use super::{ReportData, Sample, escape, percent, swatch};
use crate::error::{Result, error};
use crate::image::{ClassTable, Image, LabelMap, resample};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeSet;

/// Images on the page are scaled down to this many pixels on the long side.
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
    let size = (sample.image.width, sample.image.height);
    for (what, map) in [("truth", &sample.truth), ("prediction", &sample.prediction)] {
        if (map.width, map.height) != size {
            return Err(error!(
                Usage,
                "the {what} has {} x {} pixels, the image {} x {}",
                map.width,
                map.height,
                size.0,
                size.1
            ));
        }
    }
    let counts = |t: &u16| !ignored.contains(&u32::from(*t)) && usize::from(*t) < table.len();
    let labels =
        || sample.truth.labels.iter().zip(&sample.prediction.labels).filter(|(t, _)| counts(t));
    let (all, right) =
        labels().fold((0u64, 0u64), |(all, right), (t, p)| (all + 1, right + u64::from(t == p)));
    let accuracy = (all > 0).then(|| right as f64 / all as f64);
    let to = shrunk(size);
    let photo = Image::new(to.0, to.1, resample(&sample.image.rgb, size, to)?.into_owned())?;
    let images = [
        ("image", photo.jpeg()?, "jpeg"),
        ("truth", mask(&sample.truth, to, table)?.png()?, "png"),
        ("prediction", mask(&sample.prediction, to, table)?.png()?, "png"),
    ];
    let name = escape(&sample.name);
    let figures: String = images
        .iter()
        .map(|(what, bytes, kind)| {
            let data = BASE64_STANDARD.encode(bytes);
            let (w, h) = to;
            format!(
                "<figure><img width=\"{w}\" height=\"{h}\" alt=\"{what} of {name}\" src=\"data:image/{kind};base64,{data}\">\
                 <figcaption>{what}</figcaption></figure>"
            )
        })
        .collect();
    Ok(format!(
        "<div class=\"card sample\"><h3>{name}</h3><p class=\"pale\">{} of its pixels are right</p><div class=\"triple\">{figures}</div></div>",
        percent(accuracy)
    ))
}

fn shrunk((w, h): (usize, usize)) -> (usize, usize) {
    let long = w.max(h);
    if long <= LONGEST {
        (w, h)
    } else {
        ((w * LONGEST / long).max(1), (h * LONGEST / long).max(1))
    }
}

/// The classes' colors, each pixel the one in the middle of those that it stands for.
fn mask(map: &LabelMap, (w, h): (usize, usize), table: &ClassTable) -> Result<Image> {
    let middle = |i: usize, of: usize, from: usize| ((2 * i + 1) * from / (2 * of)).min(from - 1);
    let at = |(x, y): (usize, usize)| {
        map.labels[middle(y, h, map.height) * map.width + middle(x, w, map.width)]
    };
    let rgb = (0..w * h).flat_map(|i| table.color(at((i % w, i / w)).into())).collect();
    Image::new(w, h, rgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_shrink_to_labels_that_are_there() {
        let labels = (0..1000 * 4).map(|i| if i % 1000 < 500 { 1 } else { 2 }).collect();
        let map = LabelMap::new(1000, 4, labels).unwrap();
        let table = ClassTable::voc();
        let to = shrunk((1000, 4));
        assert_eq!(to, (480, 1));
        let small = mask(&map, to, &table).unwrap();
        let colors: Vec<&[u8]> = small.rgb.chunks_exact(3).collect();
        assert_eq!(colors[..240], vec![&table.color(1)[..]; 240]);
        assert_eq!(colors[240..], vec![&table.color(2)[..]; 240]);
    }
}
