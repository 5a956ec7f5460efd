//! Names of images in the files of objects, and outlines without holes.

use super::{ObjectFormat, Scene};
use crate::cli::segment::Args;
use crate::cli::segment::inputs::{Job, is_directory_name};
use crate::cli::segment::stream::is_stream;
use crate::image::{Corner, Polygon};
use std::path::{Component, Path, PathBuf};

/// Returns the path of the file with the names of YOLO's classes: in the directory of the results.
pub(in crate::cli::segment) fn names_file(args: &Args, jobs: &[Job]) -> Option<PathBuf> {
    const NAME: &str = "names.yaml";
    if args.objects.format != Some(ObjectFormat::Yolo) {
        return None;
    }
    let first = jobs.first().filter(|job| !is_stream(&job.output))?;
    let is_inside = jobs.len() > 1 || args.output.as_deref().is_some_and(is_directory_name);
    match args.output.as_deref().filter(|_| is_inside) {
        Some(directory) => Some(directory.join(NAME)),
        None => Some(first.output.with_file_name(NAME)),
    }
}

/// Returns the text of a path with `/` between its components.
pub(super) fn with_slashes(path: &Path) -> String {
    let text = path.to_string_lossy();
    if cfg!(windows) { text.replace('\\', "/") } else { text.into_owned() }
}

/// Returns the path of an image from the directory of a scene's file.
pub(super) fn image_path(scene: &Scene) -> String {
    let Job { input, output, .. } = scene.job;
    if is_stream(input) {
        return with_slashes(&scene.job.name);
    }
    if is_stream(output) {
        return with_slashes(input);
    }
    with_slashes(&relative(input, output.parent().unwrap_or(Path::new(""))))
}

/// Returns a path as seen from a directory; the path itself if they have no root in common.
fn relative(path: &Path, directory: &Path) -> PathBuf {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    // Resolved if they exist: `..` after a symbolic link is not where its name suggests.
    let absolute =
        |path: &Path| path.canonicalize().ok().or_else(|| std::path::absolute(path).ok());
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (Some(from), Some(parent), Some(name)) =
        (absolute(directory), absolute(parent), path.file_name())
    else {
        return path.to_owned();
    };
    let common = from.components().zip(parent.components()).take_while(|(a, b)| a == b).count();
    if common == 0 {
        return path.to_owned();
    }
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(parent.components().skip(common)).collect::<PathBuf>().join(name)
}

/// Maximum number of pairs of corners that are compared to find the nearest.
const MANY: usize = 1 << 24;

/// Returns one ring that encloses a polygon with its holes: each hole is joined to the ring by a cut
/// between their nearest corners, which is passed in both directions.
pub(super) fn with_cuts(polygon: &Polygon) -> Vec<Corner> {
    let mut ring = polygon.outer.clone();
    for hole in &polygon.holes {
        let distance = |a: &Corner, b: &Corner| {
            let (dx, dy) = (u128::from(a.x.abs_diff(b.x)), u128::from(a.y.abs_diff(b.y)));
            dx * dx + dy * dy
        };
        // Of outlines that are noise not all pairs are compared, which would take too long.
        let compared = if ring.len().saturating_mul(hole.len()) > MANY { 1 } else { hole.len() };
        let pairs = ring.iter().enumerate().flat_map(|(i, a)| {
            let corners = hole[..compared].iter().enumerate();
            corners.map(move |(j, b)| (distance(a, b), i, j))
        });
        let Some((_, i, j)) = pairs.min() else { continue };
        let around = hole[j..].iter().chain(&hole[..=j]).copied();
        let tail = ring.split_off(i + 1);
        let start = ring[i];
        ring.extend(around);
        ring.push(start);
        ring.extend(tail);
    }
    ring
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;
    use crate::image::{LabelMap, Polygons};

    #[test]
    fn images_are_named_from_the_directory_of_their_file() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("in/deep")).unwrap();
        std::fs::create_dir_all(at("out")).unwrap();
        for (input, directory, expected) in [
            ("in/a.png", "in", "a.png"),
            ("in/a.png", "out", "../in/a.png"),
            ("in/deep/a.png", "in", "deep/a.png"),
            ("a.png", "in/deep", "../../a.png"),
        ] {
            let path = relative(&at(input), &at(directory));
            assert_eq!(with_slashes(&path), expected, "{input} from {directory}");
        }
        assert_eq!(relative(Path::new("a.png"), Path::new("")), Path::new("a.png"));
    }

    #[test]
    fn cuts_enclose_the_same_area() {
        let rows = [[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]];
        let labels = LabelMap::new(Size::new(5, 3), rows.concat()).unwrap();
        let found = Polygons::trace(&labels, |class| class == 1, 1).unwrap();
        let polygon = &found.polygons[0];
        assert_eq!(polygon.holes.len(), 2);
        let ring = with_cuts(polygon);
        let alone = Polygon { outer: ring.clone(), holes: Vec::new(), ..polygon.clone() };
        assert_eq!(alone.enclosed_area(), 13.0);
        // Each hole adds its corners, and both ends of the cut once more.
        assert_eq!(ring.len(), 4 + 2 * (4 + 2));
    }
}
