//! The label files of Ultralytics' YOLO for segmentation: a line for each object, with its class and
//! its outline in fractions of the image's sides.

use super::Scene;
use super::paths::with_cuts;
use crate::image::ClassTable;
use std::fmt::Write;

/// Returns the file of an image. Classes are numbered from 0 in the order of [`names`].
pub(super) fn text(scene: &Scene) -> String {
    let mut text = String::new();
    let (width, height) = (scene.size.width as f64, scene.size.height as f64);
    for object in &scene.objects {
        let class = usize::from(object.exact.class);
        let number = scene.classes.iter().position(|&kept| kept == class).unwrap_or(0);
        write!(text, "{number}").expect("invariant: a String takes any text");
        for corner in with_cuts(&object.outline) {
            let (x, y) = (f64::from(corner.x) / width, f64::from(corner.y) / height);
            write!(text, " {x:.6} {y:.6}").expect("invariant: a String takes any text");
        }
        text.push('\n');
    }
    text
}

/// Returns the names of the classes, as the `data.yaml` of a data set has them.
pub(super) fn names(classes: &[usize], table: &ClassTable) -> String {
    let mut text = "# Classes of the .txt files in this directory\nnames:\n".to_owned();
    for (number, &class) in classes.iter().enumerate() {
        // A JSON string is a YAML string, whatever its characters mean.
        let name = serde_json::Value::String(table.name(class));
        writeln!(text, "  {number}: {name}").expect("invariant: a String takes any text");
    }
    text
}
