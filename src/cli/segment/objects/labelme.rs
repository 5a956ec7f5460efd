//! The JSON files of labelme, version 5.

use super::paths::{image_path, with_cuts};
use super::{Object, Scene, json};
use crate::error::Result;
use crate::image::Corner;
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of labelme whose fields are written.
const VERSION: &str = "5.5.0";

type Flags = BTreeMap<String, bool>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    version: &'static str,
    flags: Flags,
    shapes: Vec<Shape>,
    image_path: String,
    /// The image itself, in base64: left out.
    image_data: Option<String>,
    image_height: usize,
    image_width: usize,
}

#[derive(Serialize)]
struct Shape {
    label: String,
    points: Vec<Corner>,
    group_id: Option<u32>,
    description: &'static str,
    shape_type: &'static str,
    flags: Flags,
    mask: Option<String>,
}

/// Returns the file of an image.
pub(super) fn text(scene: &Scene) -> Result<String> {
    let shape = |object: &Object| Shape {
        label: scene.table.name(object.exact.class.into()),
        points: with_cuts(&object.outline),
        group_id: None,
        description: "",
        shape_type: "polygon",
        flags: Flags::new(),
        mask: None,
    };
    json(&File {
        version: VERSION,
        flags: Flags::new(),
        shapes: scene.objects.iter().map(shape).collect(),
        image_path: image_path(scene),
        image_data: None,
        image_height: scene.size.height,
        image_width: scene.size.width,
    })
}
