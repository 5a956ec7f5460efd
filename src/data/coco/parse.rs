//! Parsing of COCO's instances into compact shapes.

use crate::data::annotations::{IGNORED, Outline, Shape, coco, json, names};
use crate::error::{Error, Result, error};
use crate::geometry::Size;
use crate::image::ClassTable;
use crate::text::{count, excerpt};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// What a file contains.
pub(super) struct Instances {
    pub(super) images: Vec<Image>,
    pub(super) classes: ClassTable,
    pub(super) notes: Vec<String>,
}

/// An image with its shapes.
pub(super) struct Image {
    /// Path relative to the directory of the images.
    pub(super) path: PathBuf,
    pub(super) size: Option<Size>,
    pub(super) shapes: Vec<Shape>,
}

#[derive(Deserialize)]
struct File {
    images: Vec<ImageEntry>,
    #[serde(default)]
    annotations: Vec<Entry>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct ImageEntry {
    id: i64,
    file_name: String,
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
    supercategory: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    id: Option<u64>,
    image_id: i64,
    category_id: i64,
    #[serde(default)]
    iscrowd: u8,
    segmentation: Option<Segmentation>,
}

/// Reads a file.
///
/// # Errors
/// Returns an error that names the file, the image and the annotation.
pub(super) fn read(path: &Path) -> Result<Instances> {
    let bytes = json::read(path)?;
    let file: File = json::parse(&bytes, path)?;
    drop(bytes);
    instances(file).map_err(|e| e.file(path))
}

fn instances(mut file: File) -> Result<Instances> {
    let mut notes = Vec::new();
    let (classes, numbers) = classes(&mut file.categories, &mut notes)?;
    let mut images = Vec::with_capacity(file.images.len());
    let mut places = HashMap::with_capacity(file.images.len());
    for entry in file.images {
        let name = excerpt(&entry.file_name);
        let size = entry.width.zip(entry.height);
        let size = size.map(|(width, height)| Size::new(width as usize, height as usize));
        if places.insert(entry.id, images.len()).is_some() {
            return Err(error!(Data, "image {} is listed twice", entry.id).at(name));
        }
        let path = json::relative(&entry.file_name).map_err(|e| e.at(name))?;
        images.push(Image { path, size, shapes: Vec::new() });
    }
    let (all, mut left_out) = (file.annotations.len(), LeftOut::default());
    for (number, entry) in (1..).zip(file.annotations) {
        let id = entry.id.unwrap_or(number);
        let address = |e: Error| e.at(format!("annotation {id}"));
        let Some(image) = places.get(&entry.image_id).map(|&at| &mut images[at]) else {
            return Err(address(error!(Data, "no image has the id {}", entry.image_id)));
        };
        let address = |e| address(e).at(format!("image {}", crate::text::path(&image.path)));
        let Some(&class) = numbers.get(&entry.category_id) else {
            let unknown = error!(Data, "no category has the id {}", entry.category_id);
            return Err(address(unknown.advice("list it in `categories`")));
        };
        let label = if entry.iscrowd == 0 { class } else { IGNORED };
        let outlines = outlines(entry.segmentation, image.size, &mut left_out).map_err(address)?;
        image.shapes.extend(outlines.into_iter().map(|outline| Shape { label, id, outline }));
    }
    if all > 0 && left_out.without_area == all {
        return Err(error!(Data, "the annotations have boxes, but no `segmentation`")
            .advice("this is a data set for detection; export polygons or masks instead"));
    }
    notes.extend(left_out.notes());
    // What is a crowd where no instance is.
    images.iter_mut().for_each(|image| image.shapes.sort_by_key(|shape| shape.label != IGNORED));
    Ok(Instances { images, classes, notes })
}

/// Returns the classes, in the order of the categories' ids, and the class of each id.
fn classes(
    categories: &mut Vec<Category>,
    notes: &mut Vec<String>,
) -> Result<(ClassTable, HashMap<i64, u16>)> {
    categories.sort_by_key(|category| category.id);
    // Roboflow lists the name of the project first, as the parent of all.
    if let [first, others @ ..] = &categories[..]
        && !others.is_empty()
        && first.supercategory.as_deref() == Some("none")
        && others.iter().all(|other| other.supercategory.as_ref() == Some(&first.name))
    {
        notes.push(format!(
            "`{}` is the parent of all categories and no class",
            excerpt(&first.name)
        ));
        categories.remove(0);
    }
    let names: Vec<String> = categories.iter().map(|category| category.name.clone()).collect();
    let table = names::table(&names).map_err(|e| e.at("categories"))?;
    let mut numbers = HashMap::new();
    for (number, category) in (1..).zip(categories) {
        if numbers.insert(category.id, number).is_some() {
            return Err(error!(Data, "category {} is listed twice", category.id));
        }
    }
    Ok((table, numbers))
}

/// Counts of what is left out.
#[derive(Default)]
struct LeftOut {
    without_area: usize,
    short: usize,
}

impl LeftOut {
    fn notes(&self) -> impl Iterator<Item = String> {
        let without = (self.without_area > 0).then(|| {
            let annotations = count(self.without_area, "annotation");
            format!("{annotations} without a `segmentation` are left out")
        });
        let short = (self.short > 0).then(|| {
            format!("{} of fewer than three points are left out", count(self.short, "polygon"))
        });
        without.into_iter().chain(short)
    }
}

/// Returns the parts of an annotation, which are drawn one over the other: their union.
fn outlines(
    segmentation: Option<Segmentation>,
    size: Option<Size>,
    left_out: &mut LeftOut,
) -> Result<Vec<Outline>> {
    let Some(segmentation) = segmentation else {
        left_out.without_area += 1;
        return Ok(Vec::new());
    };
    match segmentation {
        Segmentation::Parts(parts) => {
            left_out.without_area += usize::from(parts.is_empty());
            let mut outlines = Vec::with_capacity(parts.len());
            for part in parts {
                match part {
                    Part::Points(points) => outlines.push(Outline::Coco(points)),
                    Part::Short => left_out.short += 1,
                    Part::Malformed(problem) => return Err(error!(Data, "{problem}")),
                }
            }
            Ok(outlines)
        }
        Segmentation::Runs { size: stated, counts } => {
            let stated = Size::new(stated[1] as usize, stated[0] as usize);
            if size.is_some_and(|size| size != stated) {
                let size = size.unwrap_or(stated);
                return Err(error!(Data, "the runs are for {stated} pixels, the image has {size}")
                    .advice("`size` is height and width; export the annotations again"));
            }
            Ok(vec![match counts {
                Counts::Plain(counts) => Outline::Runs(counts),
                Counts::Text(text) => Outline::Packed(text),
            }])
        }
    }
}

/// The area of an annotation.
enum Segmentation {
    Parts(Vec<Part>),
    /// Height and width, and runs.
    Runs {
        size: [u32; 2],
        counts: Counts,
    },
}

/// A polygon of an annotation.
enum Part {
    Points(Box<[[i32; 2]]>),
    Short,
    Malformed(&'static str),
}

enum Counts {
    Plain(Box<[u32]>),
    Text(Box<[u8]>),
}

impl<'de> Deserialize<'de> for Segmentation {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Segmentation;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of polygons, or an object with `size` and `counts`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Segmentation, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = list.next_element()? {
                    parts.push(part);
                }
                Ok(Segmentation::Parts(parts))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Segmentation, A::Error> {
                #[derive(Deserialize)]
                struct Runs {
                    size: [u32; 2],
                    counts: Counts,
                }
                let map = serde::de::value::MapAccessDeserializer::new(map);
                let Runs { size, counts } = Runs::deserialize(map)?;
                Ok(Segmentation::Runs { size, counts })
            }
        }
        from.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Reader {
            const FLAT: Part = Part::Malformed("the polygon is not in a list of polygons");
        }
        impl<'de> Visitor<'de> for Reader {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of coordinates")
            }

            fn visit_u64<E>(self, _: u64) -> Result<Part, E> {
                Ok(Self::FLAT)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Part, E> {
                Ok(Self::FLAT)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Part, E> {
                Ok(Self::FLAT)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Part, A::Error> {
                let (mut points, mut x) = (Vec::new(), None);
                let mut is_absurd = false;
                while let Some(number) = list.next_element::<f64>()? {
                    let number = coco::fifths(number);
                    is_absurd |= number.is_none();
                    match x.take() {
                        None => x = Some(number.unwrap_or(0)),
                        Some(x) => points.push([x, number.unwrap_or(0)]),
                    }
                }
                Ok(match (is_absurd, x, points.len()) {
                    (true, ..) => Part::Malformed("a coordinate is far outside the image"),
                    (_, Some(_), _) => Part::Malformed("an odd number of coordinates"),
                    (_, _, 0..3) => Part::Short,
                    _ => Part::Points(points.into()),
                })
            }
        }
        from.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Counts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of run lengths, or their text form")
            }

            fn visit_str<E>(self, text: &str) -> Result<Counts, E> {
                Ok(Counts::Text(text.as_bytes().into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Counts, A::Error> {
                let mut counts = Vec::new();
                while let Some(run) = list.next_element()? {
                    counts.push(run);
                }
                Ok(Counts::Plain(counts.into()))
            }
        }
        from.deserialize_any(Reader)
    }
}
