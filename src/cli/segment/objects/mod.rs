//! `--format`: the objects of an image as polygons, in the files of annotation tools.

mod coco;
mod geojson;
mod labelme;
mod paths;
mod svg;
mod yolo;

pub(super) use paths::names_file;

use super::inputs::Job;
use super::stream::{self, is_stream};
use super::write::make_directory;
use super::{Args, Tools};
use crate::error::{Error, ErrorKind, Result};
use crate::files::atomic_write;
use crate::geometry::Size;
use crate::image::{ClassTable, LabelMap, Polygon, Polygons};
use crate::text;
use coco::Document;
use std::io::Write;
use std::path::Path;

/// Default of `--tolerance`, in pixels.
const TOLERANCE: f64 = 1.0;

/// Default of `--min-area`, in pixels.
const MIN_AREA: u64 = 16;

const OBJECTS: &str = "Objects";

/// Options of objects as polygons.
#[derive(Debug, clap::Args)]
pub(super) struct ObjectArgs {
    /// Write the outlines of objects (connected pixels of one class) instead of an image, of the
    /// classes of --keep [default: all but the background]
    #[arg(
        long,
        value_name = "FORMAT",
        conflicts_with_all = ["style", "opacity", "hard_edge", "binary", "extension"],
        help_heading = OBJECTS
    )]
    pub format: Option<ObjectFormat>,

    /// Distance in pixels by which a simplified outline may differ from the pixels' own, 0 or more;
    /// 0 keeps every corner [default: 1]
    #[arg(long, value_name = "PIXELS", requires = "format", value_parser = tolerance, help_heading = OBJECTS)]
    tolerance: Option<f64>,

    /// Leave out objects of fewer pixels [default: 16]
    #[arg(long, value_name = "PIXELS", requires = "format", help_heading = OBJECTS)]
    min_area: Option<u64>,
}

/// Format of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ObjectFormat {
    /// COCO's JSON, one file for all images; objects with holes are exact run lengths (RLE)
    Coco,
    /// A JSON file of labelme for each image; cuts join holes to the outline
    Labelme,
    /// A .txt file of Ultralytics' YOLO for each image, and names.yaml; cuts join holes to the
    /// outline
    Yolo,
    /// GeoJSON in pixels, y down, one file for each image
    Geojson,
    /// SVG, one path for each class
    Svg,
}

impl ObjectFormat {
    /// Returns the file extension.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Coco | Self::Labelme => "json",
            Self::Yolo => "txt",
            Self::Geojson => "geojson",
            Self::Svg => "svg",
        }
    }

    /// Whether one file holds the objects of all images.
    pub(super) fn is_shared(self) -> bool {
        self == Self::Coco
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && x >= 0.0 => Ok(x),
        _ => Err("must be a number of pixels, 0 or more".to_owned()),
    }
}

/// An object, and its outline with fewer corners.
struct Object {
    exact: Polygon,
    outline: Polygon,
}

/// The objects of an image.
struct Scene<'a> {
    job: &'a Job,
    size: Size,
    objects: Vec<Object>,
    table: &'a ClassTable,
    /// Classes that become objects, in order.
    classes: &'a [usize],
}

/// Writes the objects of the images of a call.
pub(super) struct ObjectWriter<'a> {
    format: ObjectFormat,
    tracer: Tracer<'a>,
    document: Document,
}

/// Finds the objects of images.
struct Tracer<'a> {
    tolerance: f64,
    min_area: u64,
    table: &'a ClassTable,
    /// Classes that become objects, in order.
    classes: Vec<usize>,
}

impl Tracer<'_> {
    fn scene<'s>(&'s self, job: &'s Job, labels: &LabelMap) -> Result<Scene<'s>> {
        let is_wanted = |class: u16| self.classes.binary_search(&usize::from(class)).is_ok();
        let found = Polygons::trace(labels, is_wanted, self.min_area)?;
        if found.dropped > 0 {
            log::info!(
                "{}: left out {} of fewer than {} pixels",
                job.input.display(),
                text::count(found.dropped, "object"),
                self.min_area
            );
        }
        let simplified = |exact: Polygon| {
            let outline = exact.simplified(self.tolerance)?;
            Ok(Object { exact, outline })
        };
        Ok(Scene {
            job,
            size: labels.size(),
            objects: found.polygons.into_iter().map(simplified).collect::<Result<_>>()?,
            table: self.table,
            classes: &self.classes,
        })
    }
}

impl<'a> ObjectWriter<'a> {
    /// Creates the writer, if the arguments request objects.
    pub(super) fn new(args: &Args, tools: &'a Tools) -> Option<Self> {
        let ObjectArgs { format, tolerance, min_area } = args.objects;
        let mut classes = tools.keep.clone();
        classes.sort_unstable();
        classes.dedup();
        Some(Self {
            format: format?,
            document: Document::new(&classes, &tools.table),
            tracer: Tracer {
                tolerance: tolerance.unwrap_or(TOLERANCE),
                min_area: min_area.unwrap_or(MIN_AREA),
                table: &tools.table,
                classes,
            },
        })
    }

    /// Writes the objects of an image, or adds them to the file of all images. Returns notes.
    pub(super) fn add(&mut self, job: &Job, labels: &LabelMap) -> Result<Vec<String>> {
        let scene = self.tracer.scene(job, labels).map_err(|e| e.file(&job.input))?;
        let text = match self.format {
            ObjectFormat::Coco => {
                self.document.add(&scene);
                None
            }
            ObjectFormat::Labelme => Some(labelme::text(&scene)?),
            ObjectFormat::Yolo => Some(yolo::text(&scene)),
            ObjectFormat::Geojson => Some(geojson::text(&scene)?),
            ObjectFormat::Svg => Some(svg::text(&scene)),
        };
        if let Some(text) = text {
            put(&job.output, text.as_bytes())?;
        }
        Ok(vec![text::count(scene.objects.len(), "object")])
    }

    /// Writes the files that all images share: that of COCO to `output`, the names of YOLO's classes
    /// to `names`. Without any segmented image there are none.
    pub(super) fn finish(self, output: &Path, names: Option<&Path>) -> Result<()> {
        match (self.format, names) {
            (ObjectFormat::Coco, _) if !self.document.is_empty() => {
                put(output, self.document.text()?.as_bytes())
            }
            (ObjectFormat::Yolo, Some(names)) => {
                put(names, yolo::names(&self.tracer.classes, self.tracer.table).as_bytes())
            }
            _ => Ok(()),
        }
    }
}

/// Writes a file atomically, or to standard output.
fn put(output: &Path, bytes: &[u8]) -> Result<()> {
    if is_stream(output) {
        return stream::write(bytes);
    }
    make_directory(output)?;
    atomic_write(output, |writer| writer.write_all(bytes))
}

/// Returns a value as JSON on one line.
fn json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string(value)
        .map_err(|e| Error::new(ErrorKind::Io, "could not write the objects as JSON").source(e))?;
    Ok(text + "\n")
}
