//! GeoJSON (RFC 7946) in pixels of the image.

use super::paths::with_slashes;
use super::{Object, Scene, json};
use crate::error::Result;
use crate::image::Corner;
use serde::Serialize;

#[derive(Serialize)]
struct Collection {
    r#type: &'static str,
    /// Members that the standard does not define are allowed, and ignored by its readers.
    note: &'static str,
    image: Image,
    features: Vec<Feature>,
}

#[derive(Serialize)]
struct Image {
    file: String,
    width: usize,
    height: usize,
}

#[derive(Serialize)]
struct Feature {
    r#type: &'static str,
    /// Left, top, right and bottom.
    bbox: [usize; 4],
    properties: Properties,
    geometry: Geometry,
}

#[derive(Serialize)]
struct Properties {
    class: u16,
    name: String,
    color: String,
    /// Number of pixels.
    area: u64,
}

#[derive(Serialize)]
struct Geometry {
    r#type: &'static str,
    coordinates: Vec<Vec<Corner>>,
}

/// Returns the file of an image.
pub(super) fn text(scene: &Scene) -> Result<String> {
    let feature = |object: &Object| {
        let exact = &object.exact;
        let [left, top] = [exact.corner.x as usize, exact.corner.y as usize];
        let [r, g, b] = scene.table.color(exact.class.into());
        // A ring ends where it begins.
        let closed = |ring: &[Corner]| ring.iter().chain(ring.first()).copied().collect();
        Feature {
            r#type: "Feature",
            bbox: [left, top, left + exact.size.width, top + exact.size.height],
            properties: Properties {
                class: exact.class,
                name: scene.table.name(exact.class.into()),
                color: format!("#{r:02x}{g:02x}{b:02x}"),
                area: exact.pixels,
            },
            geometry: Geometry {
                r#type: "Polygon",
                coordinates: object.outline.rings().map(closed).collect(),
            },
        }
    };
    json(&Collection {
        r#type: "FeatureCollection",
        note: "coordinates are pixels from the image's upper left corner, x to the right and y down",
        image: Image {
            file: with_slashes(&scene.job.name),
            width: scene.size.width,
            height: scene.size.height,
        },
        features: scene.objects.iter().map(feature).collect(),
    })
}
