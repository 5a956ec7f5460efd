//! Whether the masks of a training have anything to learn besides the background.

use super::Problem;
use crate::data::{MaskValues, Pair};
use crate::error::{Error, Result, error};
use crate::image::ClassTable;
use rayon::prelude::*;
use std::collections::BTreeSet;

/// Checks that some mask has a pixel of a class other than 0. Masks are read on all cores until one
/// has. Masks without any counted pixel, and those that cannot be read, are left to the training.
///
/// # Errors
/// Returns an error in the words of [`Problem`] if all counted pixels are of class 0.
pub fn check_foreground(pairs: &[Pair], table: &ClassTable, ignore: u32) -> Result<()> {
    let is_class = |label: u16| {
        let label = u32::from(label);
        (label as usize) < table.len()
            && label != ignore
            && !table.ignored_values().contains(&label)
    };
    let learns = |labels: &Option<BTreeSet<u16>>| match labels {
        Some(labels) => labels.iter().any(|&label| label != 0 && is_class(label)),
        None => true,
    };
    if pairs.par_iter().map(|pair| labels(pair, table)).find_any(learns).is_some() {
        return Ok(());
    }
    let all: BTreeSet<u16> =
        pairs.par_iter().flat_map_iter(|pair| labels(pair, table).unwrap_or_default()).collect();
    if all.contains(&0) && is_class(0) { Err(only_background(&all, table)) } else { Ok(()) }
}

/// Returns the labels of a mask, `None` if it cannot be read.
fn labels(pair: &Pair, table: &ClassTable) -> Option<BTreeSet<u16>> {
    let (map, by_color) = pair.mask.read(Some(table)).ok()?;
    let meaning = if by_color { MaskValues::CLASSES } else { pair.values };
    let mut seen = vec![false; 1 << 16];
    map.labels.iter().for_each(|&value| seen[usize::from(value)] = true);
    let values = (0..=u16::MAX).filter(|&value| seen[usize::from(value)]);
    Some(values.map(|value| meaning.class(value)).collect())
}

fn only_background(labels: &BTreeSet<u16>, table: &ClassTable) -> Error {
    const MAX_LISTED: usize = 6;
    let nothing = format!("every pixel of the training masks that counts is {}", table.name(0));
    let others: Vec<String> =
        labels.iter().filter(|&&label| label != 0).map(u16::to_string).collect();
    if *labels == BTreeSet::from([0, 255]) {
        let problem = Problem::ZeroAnd255;
        return error!(Data, "{}: {nothing}", problem.title()).advice(problem.advice());
    }
    let problem = if others.is_empty() { Problem::EmptyClass } else { Problem::OutOfRange };
    let listed = match &others[..] {
        [] => String::new(),
        others => {
            let more = if others.len() > MAX_LISTED { ", ..." } else { "" };
            format!(" ({}{more})", others[..others.len().min(MAX_LISTED)].join(", "))
        }
    };
    error!(Data, "{}{listed}: {nothing}", problem.title()).advice(problem.advice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::test_files::pairs;

    #[test]
    fn masks_in_which_only_the_background_counts_are_refused_as_doctor_says_it() {
        let directory = tempfile::tempdir().unwrap();
        let table = ClassTable::generic(2);
        for (masks, problem, advice) in [
            (&[[0, 255], [0, 0]][..], "masks with only 0 and 255", "use 1 for the foreground"),
            (&[[0, 7], [0, 0]], "not a class (7)", "classes.txt"),
            (&[[0, 0]], "classes that are in no mask", "label images"),
        ] {
            let pairs = pairs(directory.path(), masks);
            let error = check_foreground(&pairs, &table, 255).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains(advice), "{error}");
        }
        // Masks that are all ignored stop the training elsewhere.
        for masks in [&[[0, 255], [0, 1]][..], &[[255, 255]], &[[1, 1]]] {
            check_foreground(&pairs(directory.path(), masks), &table, 255).unwrap();
        }
        let mut unreadable = pairs(directory.path(), &[[0, 255]]);
        unreadable[0].mask = directory.path().join("missing.png").into();
        check_foreground(&unreadable, &table, 255).unwrap();
    }
}
