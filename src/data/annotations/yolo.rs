//! Label files of YOLO: a line for each polygon, with coordinates from 0 to 1.

use super::canvas::Canvas;
use super::{MAX_CLASSES, opencv};
use crate::error::{Error, Result, error};
use crate::files::read_text;
use crate::geometry::Size;
use crate::text::excerpt;
use std::path::Path;

/// Distance by which coordinates may leave the range from 0 to 1, as in Ultralytics' check.
const TOLERANCE: f32 = 0.01;

/// A polygon in pixels, truncated.
struct Polygon {
    label: u16,
    line: usize,
    points: Vec<[i32; 2]>,
    /// Twice the area, in pixels.
    area: f64,
}

/// Draws the polygons of a label file; none if there is no file.
///
/// # Errors
/// Returns an error with the line if the file cannot be read, a line is malformed or of no class,
/// or a polygon is too complex.
pub(super) fn draw(file: &Path, classes: usize, canvas: &mut Canvas) -> Result<()> {
    if !file.exists() {
        return Ok(());
    }
    let text = read_text(file)?;
    let mut polygons = Vec::new();
    for (line, content) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let parsed = parse(content, classes, canvas.size());
        let (label, points) = parsed.map_err(|e| e.at(format!("line {line}")))?;
        let area = twice_the_area(&points);
        polygons.push(Polygon { label, line, points, area });
    }
    polygons.sort_by(|a, b| b.area.total_cmp(&a.area));
    polygons.iter().try_for_each(|polygon| {
        opencv::polygon(canvas, &polygon.points, polygon.label)
            .map_err(|e| e.at(format!("line {}", polygon.line)))
    })
}

/// Parses a line into a label and points in pixels.
fn parse(line: &str, classes: usize, size: Size) -> Result<(u16, Vec<[i32; 2]>)> {
    let malformed = || -> Error {
        error!(Data, "expected `CLASS X Y X Y ..`, found `{}`", excerpt(line))
            .advice("each line is a class and the points of a polygon, from 0 to 1")
    };
    let mut words = line.split_whitespace();
    let class = words.next().and_then(|word| word.parse::<f64>().ok());
    // Some tools write `0.0`.
    let class =
        class.filter(|class| class.fract() == 0.0 && *class >= 0.0).ok_or_else(malformed)?;
    if class as usize >= classes.min(MAX_CLASSES) {
        return Err(error!(Data, "class {class} is not one of the {classes} in data.yaml"));
    }
    let numbers: Option<Vec<f32>> = words.map(|word| word.parse().ok()).collect();
    let numbers = numbers.ok_or_else(malformed)?;
    if numbers.len() == 4 {
        return Err(error!(Data, "the line is a box, not a polygon")
            .advice("this is a data set for detection; export it for segmentation (polygons)"));
    }
    if numbers.len() < 6 || numbers.len() % 2 == 1 {
        return Err(malformed());
    }
    let is_normal = |number: &f32| (-TOLERANCE..=1.0 + TOLERANCE).contains(number);
    if let Some(odd) = numbers.iter().find(|number| !is_normal(number)) {
        return Err(error!(Data, "the coordinate {odd} is not between 0 and 1")
            .advice("coordinates are fractions of the image's width and height"));
    }
    // In the precision of Ultralytics, which truncates to pixels after it.
    let (width, height) = (size.width as f32, size.height as f32);
    let pairs = numbers.as_chunks::<2>().0.iter();
    Ok((class as u16 + 1, pairs.map(|[x, y]| [(x * width) as i32, (y * height) as i32]).collect()))
}

fn twice_the_area(points: &[[i32; 2]]) -> f64 {
    let sides = points.iter().zip(points.iter().cycle().skip(1));
    let cross = |([x0, y0], [x1, y1]): (&[i32; 2], &[i32; 2])| {
        f64::from(*x0) * f64::from(*y1) - f64::from(*x1) * f64::from(*y0)
    };
    sides.map(cross).sum::<f64>().abs()
}
