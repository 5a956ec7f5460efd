//! Masks of a foreground in 0 and 255, as drawing programs and OpenCV write them.

use super::{MaskValues, Pair};
use crate::image::{ClassTable, voc_color};
use crate::models::BACKGROUND;
use rayon::prelude::*;
use std::path::PathBuf;

/// Masks that are read before all are: in another data set one of them has a class.
const PROBED: usize = 8;

/// 0 is the background, 255 the foreground.
const ZERO_AND_255: MaskValues =
    MaskValues::new("0 and 255", |value| if value == 255 { 1 } else { value });

/// Whether the foreground of a pair's mask is 255.
pub(super) fn is_binary(pair: &Pair) -> bool {
    pair.values == ZERO_AND_255
}

/// Classes of masks in 0 and 255 that nothing names.
pub(super) fn classes() -> ClassTable {
    let names = vec![BACKGROUND.to_owned(), "foreground".to_owned()];
    ClassTable::new(names, vec![voc_color(0), voc_color(1)]).expect("invariant: two of each")
}

/// What masks have.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Only 0 and 255.
    All,
    /// Only 0 and 255 in those that were read first, but not in this one.
    AllBut(PathBuf),
    /// Something else.
    Other,
}

/// Sets the meaning of the masks' values if all of them have only 0 and 255, and one has both.
///
/// Values that mean anything but classes stay, and so do those of a data set whose classes are not
/// two, or whose class table declares 255 ignored.
pub(super) fn adopt(pairs: &mut [Pair], table: Option<&ClassTable>) -> Found {
    let fits = table.is_none_or(|t| t.len() == 2 && !t.ignored_values().contains(&255));
    if !fits || pairs.iter().any(|pair| pair.values != MaskValues::CLASSES) {
        return Found::Other;
    }
    match all_values(pairs, table) {
        Ok(all) if all.iter().any(|values| values.zero && values.foreground) => {
            pairs.iter_mut().for_each(|pair| pair.values = ZERO_AND_255);
            Found::All
        }
        Err(Some(odd)) => Found::AllBut(odd),
        _ => Found::Other,
    }
}

/// Sets the meaning of the masks' values to that of another split, whose foreground is 255. Returns
/// whether they have only 0 and 255.
#[cfg(feature = "training")]
pub(super) fn adopt_from_other_split(pairs: &mut [Pair], table: Option<&ClassTable>) -> bool {
    let fits = all_values(pairs, table).is_ok();
    if fits {
        pairs.iter_mut().for_each(|pair| pair.values = ZERO_AND_255);
    }
    fits
}

/// Returns which values each mask has. The error is a mask with others than 0 and 255, if some that
/// were read first have both of these and no others.
fn all_values(pairs: &[Pair], table: Option<&ClassTable>) -> Result<Vec<Values>, Option<PathBuf>> {
    let every = pairs.len().div_ceil(PROBED).max(1);
    let probed: Vec<_> = pairs.iter().step_by(every).map(|pair| Values::of(pair, table)).collect();
    let binary = probed.iter().flatten().filter(|values| values.zero && values.foreground).count();
    // Most of the probed ones: elsewhere 255 is what does not count.
    if probed.iter().any(Option::is_none) && 2 * binary <= probed.len() {
        return Err(None);
    }
    let odd = |pair: &Pair| (binary > 0).then(|| pair.mask.path().to_owned());
    pairs.par_iter().map(|pair| Values::of(pair, table).ok_or_else(|| odd(pair))).collect()
}

/// Which of 0 and 255 a mask has.
#[derive(Clone, Copy, Default)]
struct Values {
    zero: bool,
    foreground: bool,
}

impl Values {
    /// Reads a mask. `None` if it has other values or colors, or cannot be read.
    fn of(pair: &Pair, table: Option<&ClassTable>) -> Option<Self> {
        let (map, by_color) = pair.mask.read(table).ok()?;
        if by_color {
            return None;
        }
        let mut values = Self::default();
        for &label in &map.labels {
            match label {
                0 => values.zero = true,
                255 => values.foreground = true,
                _ => return None,
            }
        }
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::test_files::pairs;

    #[test]
    fn a_foreground_of_255_is_class_1_where_no_mask_has_another_value() {
        let directory = tempfile::tempdir().unwrap();
        for (masks, expected) in [
            (&[[0, 255], [0, 0], [255, 255]][..], true),
            // Void alone, as in a data set of which this split has no class.
            (&[[255, 255], [0, 0]], false),
            (&[[0, 255], [0, 1]], false),
            (&[[0, 255], [254, 255]], false),
            (&[], false),
        ] {
            let mut pairs = pairs(directory.path(), masks);
            let found = adopt(&mut pairs, Some(&classes())) == Found::All;
            assert_eq!(found, expected, "{masks:?}");
            let mapped = pairs.iter().all(|pair| pair.values.class(255) == 1);
            assert_eq!(mapped, expected || masks.is_empty(), "{masks:?}");
        }
    }

    #[test]
    fn declared_classes_decide_what_255_is() {
        let directory = tempfile::tempdir().unwrap();
        for (table, expected) in [
            (None, true),
            (Some("0 background\n1 crack\n"), true),
            (Some("0 background\n1 crack\n255 ignore\n"), false),
            (Some("0 a\n1 b\n2 c\n"), false),
        ] {
            let mut pairs = pairs(directory.path(), &[[0, 255]]);
            let parsed = table.map(|text| ClassTable::parse(text).unwrap());
            let found = adopt(&mut pairs, parsed.as_ref()) == Found::All;
            assert_eq!(found, expected, "{table:?}");
        }
        let mut pairs = pairs(directory.path(), &[[0, 255]]);
        pairs[0].values = MaskValues::new("other", |value| value);
        assert_eq!(adopt(&mut pairs, None), Found::Other);
    }

    /// One such mask made 255 ignored in all others, and nothing said so.
    #[test]
    fn the_one_mask_that_differs_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut pairs = pairs(directory.path(), &[[0, 255], [0, 255], [0, 1], [255, 0]]);
        let found = adopt(&mut pairs, None);
        assert_eq!(found, Found::AllBut(pairs[2].mask.path().to_owned()));
    }
}
