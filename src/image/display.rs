//! The colors in which classes are drawn over images.

use super::colors::{Seen, distinct, srgb_of};
use std::sync::LazyLock;

/// Least lightness of a color over an image, in OKLab.
const LIGHT: f64 = 0.6;
/// Least chroma of a color over an image: gray looks like the image itself.
const SATURATED: f64 = 0.1;
/// Distance in OKLab from which two colors are easy to distinguish.
const APART: f64 = 0.1;
/// Largest distance of a shade from the color that a name suggests.
const SHADE: f64 = 0.16;
/// Classes whose colors are chosen; further ones have colors of an endless sequence.
const CHOSEN: usize = 256;

/// Words of class names, in the singular, and the colors that they suggest.
const NAMED: &[(&[&str], [u8; 3])] = &[
    (&["sky"], [124, 200, 255]),
    (&["water", "sea", "river", "lake", "pool", "ocean"], [47, 155, 255]),
    (
        &["vegetation", "tree", "plant", "pottedplant", "palm", "bush", "forest", "flower"],
        [53, 192, 90],
    ),
    (&["grass", "terrain", "field", "lawn"], [166, 216, 74]),
    (&["road", "street", "runway", "highway", "lane"], [181, 138, 224]),
    (&["sidewalk", "pavement", "path", "crosswalk"], [240, 139, 230]),
    (&["building", "house", "skyscraper"], [217, 160, 107]),
    (&["person", "pedestrian", "human", "man", "woman", "child", "foreground"], [255, 77, 109]),
    (&["rider", "bicyclist", "cyclist"], [255, 138, 61]),
    (&["car", "vehicle"], [255, 200, 46]),
    (&["bicycle", "bike", "motorcycle", "motorbike"], [0, 191, 168]),
    (&["earth", "ground", "sand", "soil"], [200, 162, 122]),
    (&["sign", "signsymbol", "signboard"], [247, 240, 82]),
];

/// Colors to choose from, which are light and saturated.
static CANDIDATES: LazyLock<Vec<Display>> = LazyLock::new(|| {
    let mut colors = Vec::new();
    for lightness in [0.55, 0.62, 0.69, 0.76, 0.83, 0.9] {
        for chroma in [0.1, 0.14, 0.18, 0.22, 0.26] {
            let hues = (0..36).map(|step| 10.0 * f64::from(step));
            colors.extend(hues.filter_map(|hue| srgb_of(lightness, chroma, hue)).map(Display::of));
        }
    }
    colors
});

/// A color, and how people see it.
#[derive(Debug, Clone, Copy)]
struct Display {
    color: [u8; 3],
    seen: Seen,
}

impl Display {
    fn of(color: [u8; 3]) -> Self {
        Self { color, seen: Seen::of(color) }
    }
}

/// Returns the colors of classes over images, by their names and the colors that they have in masks.
/// That of the background stays.
pub(super) fn display_colors(
    names: &[String],
    own: &[[u8; 3]],
    background: Option<usize>,
) -> Vec<[u8; 3]> {
    let mut colors: Vec<[u8; 3]> = (0..names.len()).map(distinct).collect();
    if let Some(background) = background {
        colors[background] = own[background];
    }
    let mut open: Vec<usize> =
        (0..names.len().min(CHOSEN)).filter(|&class| background != Some(class)).collect();
    let mut taken: Vec<Display> = Vec::new();
    let mut choose = |pick: &dyn Fn(usize, &[Display]) -> Option<Display>| {
        open.retain(|&class| match pick(class, &taken) {
            Some(picked) => {
                colors[class] = picked.color;
                taken.push(picked);
                false
            }
            None => true,
        });
    };
    choose(&|class, taken| {
        let own = Display::of(own[class]);
        let fits = own.seen.lightness() >= LIGHT && own.seen.chroma() >= SATURATED;
        (fits && apart(own, taken) >= APART).then_some(own)
    });
    choose(&|class, taken| shade(named(&names[class])?, taken));
    choose(&|_, taken| Some(unlike(taken)));
    colors
}

/// Returns the most saturated of the colors that are far from all others.
fn unlike(taken: &[Display]) -> Display {
    /// How near to the farthest color.
    const NEARLY: f64 = 0.85;
    let distances: Vec<(f64, Display)> =
        CANDIDATES.iter().map(|&color| (apart(color, taken), color)).collect();
    let farthest = distances.iter().map(|(distance, _)| *distance).fold(0.0, f64::max);
    let far = distances.into_iter().filter(|(distance, _)| *distance >= NEARLY * farthest);
    let most = far.max_by(|(_, a), (_, b)| a.seen.chroma().total_cmp(&b.seen.chroma()));
    most.expect("invariant: the farthest is one of them").1
}

/// Returns the distance of a color to the nearest of others.
fn apart(color: Display, taken: &[Display]) -> f64 {
    let distances = taken.iter().map(|other| color.seen.least_distance(other.seen));
    distances.fold(f64::INFINITY, f64::min)
}

/// Returns the color that a name suggests.
fn named(name: &str) -> Option<Display> {
    let name = name.to_lowercase();
    // The last word says what it is: a tree house is a house.
    let words = name.split(|c: char| !c.is_alphanumeric()).rev();
    let color = |word: &str| {
        let singular = word.strip_suffix('s').unwrap_or(word);
        let is_listed = |words: &[&str]| words.contains(&word) || words.contains(&singular);
        NAMED.iter().find(|(words, _)| is_listed(words)).map(|(_, color)| Display::of(*color))
    };
    words.into_iter().find_map(color)
}

/// Returns the nearest shade of a color that is unlike those taken.
fn shade(color: Display, taken: &[Display]) -> Option<Display> {
    let shades = [color].into_iter().chain(CANDIDATES.iter().copied());
    shades
        .map(|shade| (shade.seen.distance(color.seen), shade))
        .filter(|(distance, shade)| *distance < SHADE && apart(*shade, taken) >= APART)
        .min_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, shade)| shade)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ClassTable;

    /// The least distance between two colors, and their classes.
    fn least(table: &ClassTable, background: Option<usize>) -> (f64, String) {
        let seen: Vec<Seen> = table.colors.iter().map(|&color| Seen::of(color)).collect();
        let mut least = (f64::INFINITY, String::new());
        for i in (0..seen.len()).filter(|i| background != Some(*i)) {
            for j in (0..i).filter(|j| background != Some(*j)) {
                let distance = seen[i].least_distance(seen[j]);
                if distance < least.0 {
                    least = (distance, format!("{} and {}", table.names[i], table.names[j]));
                }
            }
        }
        least
    }

    /// VOC's person and bicycle were both purple.
    #[test]
    fn classes_are_told_apart_also_without_red_and_green() {
        for (table, distance) in [
            (ClassTable::voc(), 0.06),
            (ClassTable::cityscapes(), 0.06),
            (ClassTable::for_classes(150), 0.01),
            (ClassTable::generic(12), 0.09),
        ] {
            let vivid = table.vivid();
            let (found, classes) = least(&vivid, vivid.background());
            assert!(found >= distance, "{found:.3}: {classes}");
            let dull = |color: &[u8; 3]| Seen::of(*color).lightness() < 0.5;
            let dull = (0..vivid.len()).filter(|&c| dull(&vivid.colors[c]));
            assert_eq!(dull.collect::<Vec<_>>(), Vec::from_iter(vivid.background()));
        }
    }

    #[test]
    fn names_say_the_color_and_own_light_colors_stay() {
        let text = "0 Trees 64 64 0\n1 sky 128 128 128\n2 tool 250 90 220\n3 tool case 250 90 210\n4 traffic signs 1 1 1\n";
        let vivid = ClassTable::parse(text).unwrap().vivid();
        for (class, color) in [(0, [53, 192, 90]), (1, [124, 200, 255]), (4, [247, 240, 82])] {
            let distance = Seen::of(vivid.colors[class]).distance(Seen::of(color));
            assert!(distance < SHADE, "{class}: {:?}", vivid.colors[class]);
        }
        assert_eq!(vivid.colors[2], [250, 90, 220]);
        assert!(Seen::of(vivid.colors[3]).distance(Seen::of([250, 90, 210])) > APART);
    }

    #[test]
    fn the_background_and_ignored_labels_keep_their_colors() {
        let (voc, vivid) = (ClassTable::voc(), ClassTable::voc().vivid());
        assert_eq!(
            (&vivid.names, vivid.color(0), vivid.color(255)),
            (&voc.names, [0; 3], [224, 224, 192])
        );
        let many = ClassTable::generic(1000).vivid();
        assert_eq!((many.len(), many.colors[999]), (1000, distinct(999)));
    }
}
