//! Data sets as labelme stores them: a JSON file with shapes beside each image.

use super::Pair;
use super::annotations::json::{self, Kind};
use super::annotations::names::Names;
use super::annotations::{Annotation, Content, DRAWN, Outline, Shape};
use super::layout::{Contents, Layout};
use super::mask::Mask;
use super::pairing::{Matched, Mismatch, MismatchKind, count_images, directories};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::text::{self, count};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rayon::prelude::*;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Maximum distance of a point from the origin, in pixels.
const MAX_COORDINATE: f64 = (1 << 20) as f64;

/// `NAME.json` beside `NAME.jpg`, in one directory or in one for each split.
///
/// Pixels of no shape are background, class 0, and later shapes cover earlier ones, as in
/// `labelme2voc`. The classes are those of `labels.txt`, or else the labels of all splits in order.
pub(super) struct Labelme;

impl Layout for Labelme {
    fn name(&self) -> &'static str {
        "labelme"
    }

    fn title(&self) -> &'static str {
        "labelme"
    }

    fn directories(&self) -> &'static str {
        "NAME.json of labelme beside NAME.jpg (in train/ and val/, or in one directory)"
    }

    fn detect(&self, root: &Path) -> Result<bool> {
        Ok(has_shapes(root) || !self.splits(root)?.is_empty())
    }

    fn splits(&self, root: &Path) -> Result<Vec<String>> {
        if has_shapes(root) {
            return Ok(Vec::new());
        }
        let names = directories(root)?.into_iter();
        Ok(names.filter(|name| has_shapes(&root.join(name))).collect())
    }

    fn undivided(&self) -> Option<&'static str> {
        Some("images and annotations")
    }

    fn matched(&self, root: &Path, split: Option<&str>) -> Result<Matched> {
        self.contents(root, split).map(|contents| contents.matched)
    }

    fn contents(&self, root: &Path, split: Option<&str>) -> Result<Contents> {
        let splits = self.splits(root)?;
        let others = splits.iter().filter(|other| Some(other.as_str()) != split);
        let directory = root.join(split.unwrap_or_default());
        let files = read_all(&directory)?;
        let mut labels = files.iter().flat_map(File::labels).collect::<BTreeSet<String>>();
        for other in others {
            labels.extend(read_all(&root.join(other))?.iter().flat_map(File::labels));
        }
        let names = Names::new(&[&directory, root], labels)?;
        let classes = names.table().map_err(|e| e.file(root))?;
        let mut notes: Vec<String> = names.note().into_iter().collect();
        let images = count_images(&directory);
        let mut left_out = BTreeMap::<String, usize>::new();
        let mut matched = Matched::default();
        for file in files {
            match file.image(root)? {
                Ok(image) => matched.pairs.push(file.pair(image, &names, &mut left_out)?),
                Err(mismatch) => matched.mismatches.push(mismatch),
            }
        }
        for (kind, shapes) in left_out {
            notes.push(format!("{} of the type {kind} are left out", count(shapes, "shape")));
        }
        if let Some(without) = images.checked_sub(matched.pairs.len()).filter(|n| *n > 0) {
            notes.push(format!("{} without annotations are left out", count(without, "image")));
        }
        Ok(Contents { matched, classes: Some(classes), notes })
    }
}

/// Whether a directory has annotations of labelme: whether the first JSON file is one.
fn has_shapes(directory: &Path) -> bool {
    let first = json::json_files(directory).into_iter().next();
    first.is_some_and(|path| json::kind(&path) == Kind::Labelme)
}

/// Reads the annotations of a directory, on all cores.
fn read_all(directory: &Path) -> Result<Vec<File>> {
    json::of_kind(directory, Kind::Labelme).par_iter().map(|path| File::read(path)).collect()
}

/// What a file contains, without the image.
struct File {
    path: PathBuf,
    entry: Entry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    shapes: Vec<ShapeEntry>,
    image_path: Option<String>,
    image_data: Option<Presence>,
    image_width: Option<u32>,
    image_height: Option<u32>,
}

#[derive(Deserialize)]
struct ShapeEntry {
    label: String,
    #[serde(default)]
    points: Vec<[f64; 2]>,
    shape_type: Option<String>,
    mask: Option<String>,
}

/// Whether a long text is there; it is not stored.
struct Presence(bool);

impl<'de> Deserialize<'de> for Presence {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Presence;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an image in base64")
            }

            fn visit_str<E>(self, text: &str) -> Result<Presence, E> {
                Ok(Presence(!text.is_empty()))
            }

            fn visit_unit<E>(self) -> Result<Presence, E> {
                Ok(Presence(false))
            }
        }
        from.deserialize_any(Reader)
    }
}

impl File {
    fn read(path: &Path) -> Result<Self> {
        let bytes = json::read(path)?;
        Ok(Self { path: path.to_owned(), entry: json::parse(&bytes, path)? })
    }

    fn labels(&self) -> impl Iterator<Item = String> + '_ {
        self.entry.shapes.iter().map(|shape| shape.label.clone())
    }

    /// Finds the image: the path that the file states, if it is in the data set, or else the image
    /// of that name or of the file's name beside it.
    fn image(&self, root: &Path) -> Result<Result<PathBuf, Mismatch>> {
        let directory = self.path.parent().unwrap_or(Path::new(""));
        let stem = json::stem(&self.path);
        let stated = self.entry.image_path.as_deref().unwrap_or_default().replace('\\', "/");
        let inside = json::relative(&stated).ok().map(|path| directory.join(path));
        // Beside the directory of the annotations, such as `../images/a.jpg`.
        let beside = stated.strip_prefix("../").and_then(|path| json::relative(path).ok());
        let beside = beside.filter(|_| directory != root).zip(directory.parent());
        let beside = beside.map(|(path, parent)| parent.join(path));
        let here = Path::new(&stated).file_name().map(|name| directory.join(name));
        let found = [inside, beside, here].into_iter().flatten().find(|path| path.is_file());
        if let Some(image) = found.or_else(|| json::image_named(directory, stem)) {
            return Ok(Ok(image));
        }
        if self.entry.image_data.as_ref().is_some_and(|data| data.0) {
            let stated = text::excerpt(&stated);
            return Err(error!(
                Data,
                "the image `{stated}` is missing, except for the copy in this file"
            )
            .file(&self.path)
            .advice("write the image beside the file, for example with `labelme_export_json`"));
        }
        Ok(Err(Mismatch {
            kind: MismatchKind::NoImage,
            name: stem.to_owned(),
            file: self.path.clone(),
            partner: directory.to_owned(),
        }))
    }

    fn pair(
        self,
        image: PathBuf,
        names: &Names,
        left_out: &mut BTreeMap<String, usize>,
    ) -> Result<Pair> {
        let mut shapes = Vec::with_capacity(self.entry.shapes.len());
        for (id, shape) in (1..).zip(self.entry.shapes) {
            let address = |e: crate::Error| e.at(format!("shape {id}")).file(&self.path);
            let kind = shape.shape_type.clone();
            match shape.outline().map_err(address)? {
                Some(outline) => {
                    let label = names.number(&shape.label).map_err(address)?;
                    shapes.push(Shape { label, id, outline });
                }
                None => *left_out.entry(text::excerpt(&kind.unwrap_or_default())).or_default() += 1,
            }
        }
        let size = self.entry.image_width.zip(self.entry.image_height);
        let annotation = Annotation {
            file: self.path.as_path().into(),
            image: image.clone(),
            size: size.map(|(width, height)| Size::new(width as usize, height as usize)),
            noun: "shape",
            content: Content::Shapes(shapes),
        };
        let name = json::stem(&self.path).to_owned();
        Ok(Pair { name, image, mask: Mask::Shapes(Arc::new(annotation)), values: DRAWN })
    }
}

impl ShapeEntry {
    /// Returns the area; `None` for a shape that has none.
    fn outline(&self) -> Result<Option<Outline>> {
        let points: Vec<[f64; 2]> = self.points.clone();
        if points.iter().flatten().any(|c| c.abs() > MAX_COORDINATE) {
            return Err(error!(Data, "a coordinate is far outside the image"));
        }
        // Truncated, as Pillow does.
        let pixels = |[x, y]: [f64; 2]| [x as i32, y as i32];
        let two = || match points[..] {
            [a, b] => Ok([a, b]),
            _ => Err(error!(Data, "expected 2 points, found {}", points.len())),
        };
        Ok(Some(match self.shape_type.as_deref() {
            None | Some("polygon" | "oriented_rectangle") => {
                if points.len() < 3 {
                    return Err(error!(Data, "a polygon of {} points", points.len()).advice(
                        "a polygon has at least three points: complete or delete the shape",
                    ));
                }
                Outline::Polygon(points.into_iter().map(pixels).collect())
            }
            Some("rectangle") => {
                let [[x0, y0], [x1, y1]] = two()?.map(pixels);
                Outline::Rectangle([x0.min(x1), y0.min(y1), x0.max(x1), y0.max(y1)])
            }
            Some("circle") => {
                let [[x, y], [on_x, on_y]] = two()?;
                let radius = ((x - on_x).powi(2) + (y - on_y).powi(2)).sqrt();
                let frame = [x - radius, y - radius, x + radius, y + radius];
                Outline::Ellipse(frame.map(|c| c as i32))
            }
            Some("mask") => {
                let [[x0, y0], [x1, y1]] = two()?.map(pixels);
                let text = self.mask.as_deref().unwrap_or_default();
                let png = BASE64_STANDARD
                    .decode(text)
                    .map_err(|e| error!(Data, "the mask is not valid base64").source(e))?;
                Outline::Bitmap([x0, y0, x1, y1], png.into())
            }
            Some(_) => return Ok(None),
        }))
    }
}
