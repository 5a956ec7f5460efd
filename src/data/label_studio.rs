//! Data sets exported from Label Studio as JSON: a list of tasks with polygons and brush strokes.

use super::Pair;
use super::annotations::json::{self, Kind};
use super::annotations::names::Names;
use super::annotations::{Annotation, Content, DRAWN, Outline, Shape, coco};
use super::layout::{Contents, Layout};
use super::mask::Mask;
use super::pairing::{Matched, Mismatch, MismatchKind};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::text::{self, count, excerpt};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `NAME.json`, a list of tasks, with the images beside it or in `images/`.
///
/// Pixels of no region are background, class 0, and later regions cover earlier ones. Polygons have
/// the pixels of pycocotools, which label-studio-converter draws them with; a brush covers what is
/// not completely transparent. The classes are those of `labels.txt`, or else all labels in order.
pub(super) struct LabelStudio;

impl Layout for LabelStudio {
    fn name(&self) -> &'static str {
        "label_studio"
    }

    fn title(&self) -> &'static str {
        "Label Studio (JSON)"
    }

    fn directories(&self) -> &'static str {
        "NAME.json of Label Studio beside its images or images/"
    }

    fn detect(&self, root: &Path) -> Result<bool> {
        Ok(!json::of_kind(root, Kind::LabelStudio).is_empty())
    }

    fn splits(&self, root: &Path) -> Result<Vec<String>> {
        let files = json::of_kind(root, Kind::LabelStudio);
        let several = files.iter().filter(|_| files.len() > 1);
        Ok(several.map(|path| json::stem(path).to_owned()).collect())
    }

    fn undivided(&self) -> Option<&'static str> {
        Some("the tasks of a single export")
    }

    fn matched(&self, root: &Path, split: Option<&str>) -> Result<Matched> {
        self.contents(root, split).map(|contents| contents.matched)
    }

    fn contents(&self, root: &Path, split: Option<&str>) -> Result<Contents> {
        let (mut chosen, mut labels) = (None, BTreeSet::new());
        for path in json::of_kind(root, Kind::LabelStudio) {
            let tasks: Vec<Task> = json::parse(&json::read(&path)?, &path)?;
            labels.extend(tasks.iter().flat_map(Task::labels).map(str::to_owned));
            if split.is_none_or(|split| json::stem(&path) == split) {
                chosen.get_or_insert((path, tasks));
            }
        }
        let Some((file, tasks)) = chosen else {
            return Err(error!(Data, "has no export of this split").file(root));
        };
        let names = Names::new(&[root], labels)?;
        let classes = names.table().map_err(|e| e.file(&file))?;
        let mut reader = Reader {
            root,
            file: file.as_path().into(),
            names: &names,
            matched: Matched::default(),
            taken: HashSet::new(),
            left_out: BTreeMap::new(),
        };
        for task in tasks {
            let id = task.id.unwrap_or_default();
            reader.add(task).map_err(|e| e.at(format!("task {id}")).file(&file))?;
        }
        let counted =
            reader.left_out.iter().map(|(what, n)| format!("{}{what}", count(*n, "item")));
        let notes = names.note().into_iter().chain(counted).collect();
        Ok(Contents { matched: reader.matched, classes: Some(classes), notes })
    }
}

#[derive(Deserialize)]
struct Task {
    id: Option<u64>,
    #[serde(default)]
    data: BTreeMap<String, serde_json::Value>,
    annotations: Option<Vec<Labeling>>,
}

/// The work of one annotator on a task.
#[derive(Deserialize)]
struct Labeling {
    #[serde(default)]
    was_cancelled: bool,
    #[serde(default)]
    result: Vec<Region>,
}

#[derive(Deserialize)]
struct Region {
    #[serde(rename = "type")]
    kind: Option<String>,
    original_width: Option<u32>,
    original_height: Option<u32>,
    value: Option<Value>,
}

#[derive(Deserialize)]
struct Value {
    points: Option<Vec<[f64; 2]>>,
    polygonlabels: Option<Vec<String>>,
    rle: Option<Vec<u8>>,
    brushlabels: Option<Vec<String>>,
}

impl Task {
    /// Returns the labeling that is used: the first that was not cancelled.
    fn labeling(&self) -> Option<&Labeling> {
        self.annotations.iter().flatten().find(|labeling| !labeling.was_cancelled)
    }

    fn labels(&self) -> impl Iterator<Item = &str> {
        let regions = self.labeling().into_iter().flat_map(|labeling| &labeling.result);
        regions.filter_map(|region| region.value.as_ref()?.label())
    }

    /// Returns the address of the image: `image`, or else the first text that ends like one.
    fn image(&self) -> Option<&str> {
        let ends_like_one = |text: &&str| {
            let end = Path::new(file_name(text)).extension().and_then(|e| e.to_str());
            end.is_some_and(|end| super::pairing::IMAGES.contains(&&*end.to_ascii_lowercase()))
        };
        let named = self.data.get("image").and_then(|value| value.as_str());
        named.or_else(|| self.data.values().filter_map(|value| value.as_str()).find(ends_like_one))
    }
}

impl Value {
    /// Returns the first label.
    fn label(&self) -> Option<&str> {
        let labels = self.polygonlabels.as_ref().or(self.brushlabels.as_ref());
        labels.and_then(|labels| labels.first()).map(String::as_str)
    }
}

/// Returns what follows the last slash of an address or a path, without a query.
fn file_name(address: &str) -> &str {
    let name = address.rsplit(['/', '\\']).next().unwrap_or_default();
    // `/data/local-files/?d=a.jpg`
    name.strip_prefix("?d=").unwrap_or_else(|| name.split('?').next().unwrap_or_default())
}

/// Returns a name without the prefix that Label Studio adds to uploads: `1a2b3c4d-`.
fn without_prefix(name: &str) -> Option<&str> {
    let (prefix, rest) = name.split_once('-')?;
    let is_hash = prefix.len() == 8 && prefix.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then_some(rest).filter(|rest| !rest.is_empty())
}

/// Returns a text with `%20` and the like decoded, if that is valid.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let code = others.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Pairs in progress.
struct Reader<'a> {
    root: &'a Path,
    file: Arc<Path>,
    names: &'a Names,
    matched: Matched,
    /// Images of earlier tasks.
    taken: HashSet<PathBuf>,
    /// What was left out, by the end of its note.
    left_out: BTreeMap<String, usize>,
}

impl Reader<'_> {
    fn add(&mut self, task: Task) -> Result<()> {
        let Some(labelings) = &task.annotations else {
            return Err(error!(Data, "has no `annotations`").advice(
                "export as JSON, not as JSON-MIN, which lacks the sizes and types of regions",
            ));
        };
        if labelings.iter().filter(|labeling| !labeling.was_cancelled).count() > 1 {
            self.leave_out(" with several annotations: the first is used");
        }
        let address = task.image().map(str::to_owned);
        let Some(labeling) = task.annotations.into_iter().flatten().find(|l| !l.was_cancelled)
        else {
            self.leave_out(" without an annotation are left out");
            return Ok(());
        };
        let address = address.ok_or_else(|| error!(Data, "`data` has no image"))?;
        let Some(image) = self.find(&address)? else {
            self.matched.mismatches.push(Mismatch {
                kind: MismatchKind::NoImage,
                name: excerpt(file_name(&address)),
                file: self.file.to_path_buf(),
                partner: self.root.to_owned(),
            });
            return Ok(());
        };
        if !self.taken.insert(image.clone()) {
            return Err(error!(Data, "{} belongs to an earlier task", text::path(&image)));
        }
        let (mut size, mut shapes) = (None, Vec::new());
        for (id, region) in (1..).zip(labeling.result) {
            let stated = region.original_width.zip(region.original_height);
            let stated = stated.map(|(width, height)| Size::new(width as usize, height as usize));
            let shape = self.shape(id, region, stated);
            if let Some(shape) = shape.map_err(|e| e.at(format!("region {id}")))? {
                if size.is_some() && size != stated {
                    return Err(error!(Data, "its regions state different sizes of the image"));
                }
                size = stated;
                shapes.push(shape);
            }
        }
        let name = json::stem(&image).to_owned();
        let (file, content) = (self.file.clone(), Content::Shapes(shapes));
        let annotation = Annotation { file, image: image.clone(), size, noun: "region", content };
        let mask = Mask::Shapes(Arc::new(annotation));
        self.matched.pairs.push(Pair { name, image, mask, values: DRAWN });
        Ok(())
    }

    fn leave_out(&mut self, what: impl Into<String>) {
        *self.left_out.entry(what.into()).or_default() += 1;
    }

    /// Finds the file of an image beside the export or in `images/`.
    fn find(&self, address: &str) -> Result<Option<PathBuf>> {
        let name = decoded(file_name(address));
        // A decoded name may have slashes again.
        let name = file_name(&name);
        let mut names = vec![name];
        names.extend(without_prefix(name));
        let directories = [self.root.to_owned(), self.root.join("images")];
        for name in names {
            let name = json::relative(name)?;
            let places = directories.iter().map(|directory| directory.join(&name));
            if let Some(found) = places.into_iter().find(|path| path.is_file()) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Returns the shape of a region; `None` if it has no area.
    fn shape(&mut self, id: u64, region: Region, size: Option<Size>) -> Result<Option<Shape>> {
        let Some(value) = region.value else { return Ok(None) };
        let kind = region.kind.unwrap_or_default();
        let Some(name) = value.label().map(str::to_owned) else {
            let kind = excerpt(&kind);
            self.leave_out(format!(" of the type {kind} without a label are left out"));
            return Ok(None);
        };
        let label = self.names.number(&name)?;
        let size =
            size.ok_or_else(|| error!(Data, "has no `original_width` and `original_height`"))?;
        let outline = match (value.points, value.rle) {
            (Some(points), _) => polygon(&points, size)?,
            (None, Some(rle)) => Outline::Brush(rle.into()),
            (None, None) => return Err(error!(Data, "has neither `points` nor `rle`")),
        };
        Ok(Some(Shape { label, id, outline }))
    }
}

/// Returns a polygon with points in percent of the image's width and height.
fn polygon(points: &[[f64; 2]], size: Size) -> Result<Outline> {
    if points.len() < 3 {
        return Err(error!(Data, "a polygon of {} points", points.len())
            .advice("a polygon has at least three points: complete or delete the region"));
    }
    let fifths = |percent: f64, pixels: usize| coco::fifths(percent / 100.0 * pixels as f64);
    let point = |[x, y]: &[f64; 2]| Some([fifths(*x, size.width)?, fifths(*y, size.height)?]);
    let points: Option<Box<[[i32; 2]]>> = points.iter().map(point).collect();
    points.map(Outline::Coco).ok_or_else(|| error!(Data, "a coordinate is far outside the image"))
}
