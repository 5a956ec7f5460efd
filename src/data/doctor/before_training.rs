//! The checks before the first step of a training: they take seconds, and read a sample of large data
//! sets.

use super::{Finding, Problem, Severity, mask};
use crate::data::Pair;
use crate::error::{Error, Result, error};
use crate::image::{ClassTable, dimensions};
use crate::text;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Pairs of a split that are checked, spread evenly: all of a smaller one.
const SAMPLE: usize = 100;
/// Files that an error names.
const NAMED: usize = 3;

/// Checks the masks of a split, and that they have the sizes of their images.
///
/// # Errors
/// Returns an error in the words of [`Problem`] about the fault that most of the masks have. A mask
/// in which nothing counts is one only if all are so.
pub fn check_before_training(split: &str, pairs: &[Pair], table: &ClassTable) -> Result<()> {
    let sample = sample(pairs);
    let checked: Vec<Checked> = sample.par_iter().map(|pair| check(pair, table)).collect();
    let mut by_problem = BTreeMap::<Problem, Vec<&Finding>>::new();
    for finding in checked.iter().flat_map(|pair| &pair.faults) {
        by_problem.entry(finding.problem).or_default().push(finding);
    }
    // Void alone is usual where other masks have classes.
    let zero_and_255 = by_problem.get(&Problem::ZeroAnd255).map_or(0, Vec::len);
    if zero_and_255 <= checked.iter().filter(|pair| pair.has_foreground).count() {
        by_problem.remove(&Problem::ZeroAnd255);
    }
    if by_problem.get(&Problem::AllIgnored).is_some_and(|all| all.len() < sample.len()) {
        by_problem.remove(&Problem::AllIgnored);
    }
    // The first of equally frequent ones.
    let worst = by_problem.into_iter().rev().max_by_key(|(_, findings)| findings.len());
    match worst {
        None => Ok(()),
        Some((problem, findings)) => Err(refusal(split, problem, &findings, sample.len())),
    }
}

/// Returns some of the pairs, spread evenly, or all of a few.
pub(super) fn sample(pairs: &[Pair]) -> Vec<&Pair> {
    pairs.iter().step_by(pairs.len().div_ceil(SAMPLE).max(1)).collect()
}

/// What was found in a pair.
struct Checked {
    faults: Vec<Finding>,
    /// Whether the mask has a class besides the first.
    has_foreground: bool,
}

fn check(pair: &Pair, table: &ClassTable) -> Checked {
    let mut faults = Vec::new();
    let mask = mask::check(pair, Some(table), &mut faults);
    let counts = mask.as_ref().map(|mask| &mask.counts);
    let labels: Vec<u16> = counts.map_or_else(Vec::new, |counts| counts.keys().copied().collect());
    if labels == [0, 255] && table.len() == 2 && !table.ignored_values().contains(&255) {
        faults.push(Finding::fault(Problem::ZeroAnd255, pair.mask.path(), ""));
    }
    match (dimensions(&pair.image), &mask) {
        (Err(e), _) => {
            let detail = mask::cause_of(&e, &pair.image);
            faults.push(Finding::fault(Problem::Unreadable, &pair.image, detail));
        }
        // The header does not tell whether the image is rotated when it is read.
        (Ok(size), Some(mask)) if ![size, size.transposed()].contains(&mask.size) => {
            let detail = format!("{} pixels, but the image has {size}", mask.size);
            faults.push(Finding::fault(Problem::SizeDiffers, pair.mask.path(), detail));
        }
        _ => {}
    }
    faults.retain(|finding| finding.severity == Severity::Fault);
    // Image and mask can have the same one.
    faults.sort_by_key(|finding| finding.problem);
    faults.dedup_by_key(|finding| finding.problem);
    let has_foreground = labels.iter().any(|&l| l > 0 && usize::from(l) < table.len());
    Checked { faults, has_foreground }
}

fn refusal(split: &str, problem: Problem, findings: &[&Finding], checked: usize) -> Error {
    let mut lines: Vec<String> = findings
        .iter()
        .take(NAMED)
        .map(|finding| match finding.detail.as_str() {
            "" => text::path(&finding.file).to_string(),
            detail => format!("{}: {detail}", text::path(&finding.file)),
        })
        .collect();
    if findings.len() > NAMED {
        lines.push(format!("and {} more", findings.len() - NAMED));
    }
    error!(
        Data,
        "{} of {checked} checked {split} masks are refused: {}",
        findings.len(),
        problem.title()
    )
    .detail(lines.join("\n"))
    .advice(format!("{}; `atrous doctor` lists all, `--no-check` trains anyway", problem.advice()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::MaskValues;
    use std::path::Path;

    const TABLE: &str = "0 ground 0 0 0\n1 car 9 9 9\n2 tree 0 255 0\n";

    /// Writes images of 12 x 8 with these masks, which have their pixels' values in columns.
    fn pairs(directory: &Path, masks: &[(u32, [u8; 4])]) -> Vec<Pair> {
        let write = |(i, &(height, values)): (usize, &(u32, [u8; 4]))| {
            let [image, mask] = ["image", "mask"].map(|d| directory.join(format!("{i}.{d}.png")));
            image::RgbImage::new(12, 8).save(&image).unwrap();
            let value = |x: u32, _| image::Luma([values[x as usize / 3]]);
            image::GrayImage::from_fn(12, height, value).save(&mask).unwrap();
            Pair { name: i.to_string(), image, mask: mask.into(), values: MaskValues::CLASSES }
        };
        masks.iter().enumerate().map(write).collect()
    }

    fn refused(masks: &[(u32, [u8; 4])]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let pairs = pairs(directory.path(), masks);
        let table = ClassTable::parse(TABLE).unwrap();
        let checked = check_before_training("training", &pairs, &table);
        checked.map_or_else(|e| e.to_string(), |()| String::new())
    }

    const GOOD: (u32, [u8; 4]) = (8, [0, 1, 2, 255]);

    #[test]
    fn good_masks_pass_and_some_without_a_label_too() {
        assert_eq!(refused(&[GOOD, (8, [255; 4]), GOOD]), "");
    }

    #[test]
    fn faults_are_refused_with_the_files_and_the_fix() {
        for (masks, parts) in [
            (
                &[GOOD, (8, [0, 1, 7, 9])][..],
                ["1 of 2", "not a class", "classes.txt", "1.mask.png"],
            ),
            (&[(9, [0; 4]), GOOD], ["1 of 2", "different size", "nearest-neighbor", "12x9"]),
            (&[(8, [255; 4])], ["1 of 1", "without labeled pixels", "remove them", "0.mask.png"]),
        ] {
            let error = refused(masks);
            for part in parts.iter().chain(&["--no-check", "checked training masks"]) {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
        let many = refused(&[(8, [0, 1, 7, 9]); 5]);
        assert!(many.contains("and 2 more"), "{many}");
    }

    /// One mask of 0 and 1 among those of 0 and 255 made all of these background.
    #[test]
    fn masks_of_0_and_255_are_refused_where_most_are_so_and_two_classes_are_declared() {
        let directory = tempfile::tempdir().unwrap();
        let (binary, other) = ((8, [0, 255, 0, 0]), (8, [0, 1, 0, 0]));
        for (masks, table, refused) in [
            (&[binary, binary, other][..], "0 a\n1 b\n", true),
            (&[binary, other, other], "0 a\n1 b\n", false),
            (&[binary, binary, other], "0 a\n1 b\n255 ignore\n", false),
            (&[binary, binary, other], "0 a\n1 b\n2 c\n", false),
        ] {
            let pairs = pairs(directory.path(), masks);
            let table = ClassTable::parse(table).unwrap();
            let checked = check_before_training("training", &pairs, &table);
            assert_eq!(checked.is_err(), refused, "{masks:?}: {checked:?}");
        }
    }

    #[test]
    fn files_that_cannot_be_read_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let table = ClassTable::parse(TABLE).unwrap();
        let mut pairs = pairs(directory.path(), &[GOOD, GOOD]);
        std::fs::write(&pairs[0].image, "no image").unwrap();
        pairs[1].mask = directory.path().join("missing.png").into();
        let error = check_before_training("validation", &pairs, &table).unwrap_err().to_string();
        assert!(error.contains("2 of 2 checked validation masks"), "{error}");
        assert!(error.contains("unreadable files"), "{error}");
    }
}
