//! SVG: a path for each class, in the class's color.

use super::Scene;
use crate::image::Corner;
use std::fmt::Write;

/// Returns the drawing of an image's objects, in pixels.
pub(super) fn text(scene: &Scene) -> String {
    let (w, h) = (scene.size.width, scene.size.height);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\">\n"
    );
    for &class in scene.classes {
        let objects = scene.objects.iter().filter(|o| usize::from(o.exact.class) == class);
        let rings: String = objects.flat_map(|o| o.outline.rings()).map(ring).collect();
        if rings.is_empty() {
            continue;
        }
        let [r, g, b] = scene.table.color(class);
        let name = escaped(&scene.table.name(class));
        writeln!(
            text,
            "<path fill=\"#{r:02x}{g:02x}{b:02x}\" fill-rule=\"evenodd\" d=\"{rings}\"><title>{name}</title></path>"
        )
        .expect("invariant: a String takes any text");
    }
    text + "</svg>\n"
}

fn ring(corners: &[Corner]) -> String {
    let mut path = String::new();
    for (i, Corner { x, y }) in corners.iter().enumerate() {
        let command = if i == 0 { 'M' } else { 'L' };
        write!(path, "{command}{x} {y}").expect("invariant: a String takes any text");
    }
    path + "Z"
}

/// Returns text without characters that have a meaning in XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
