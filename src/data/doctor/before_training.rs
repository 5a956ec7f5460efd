//! The checks before the first step of a training: they take seconds, and read a sample of large data
//! sets.

use super::{Finding, Problem, Severity, mask};
use crate::data::Pair;
use crate::error::{Error, Result, error};
use crate::geometry::Size;
use crate::image::{ClassTable, decode, dimensions, upright_dimensions};
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
    match image_of(pair, mask.as_ref().map(|mask| mask.size)) {
        Err(e) => {
            let detail = mask::cause_of(&e, &pair.image);
            faults.push(Finding::fault(Problem::Unreadable, &pair.image, detail));
        }
        Ok(image) => {
            faults.extend(mask.as_ref().and_then(|mask| mask.other_size(pair, image)));
        }
    }
    faults.retain(|finding| finding.severity == Severity::Fault);
    // Image and mask can have the same one.
    faults.sort_by_key(|finding| finding.problem);
    faults.dedup_by_key(|finding| finding.problem);
    let has_foreground = labels.iter().any(|&l| l > 0 && usize::from(l) < table.len());
    Checked { faults, has_foreground }
}

/// Returns the size of a pair's image, and whether its EXIF orientation turned it. Reads more than
/// headers only where the mask fits the image turned otherwise: some files tell at their end.
fn image_of(pair: &Pair, mask: Option<Size>) -> Result<(Size, bool)> {
    let (stored, upright) = (dimensions(&pair.image)?, upright_dimensions(&pair.image)?);
    let is_turned = |mask| mask != upright && [stored, stored.transposed()].contains(&mask);
    let size = if mask.is_some_and(is_turned) { decode(&pair.image)?.size() } else { upright };
    Ok((size, size != stored))
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

    /// Nothing noticed it before the first step, since headers alone do not tell.
    #[test]
    fn a_mask_of_a_photo_before_it_was_turned_upright_is_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let table = ClassTable::parse(TABLE).unwrap();
        let mut pairs = pairs(directory.path(), &[GOOD]);
        let path = directory.path().join("photo.jpg");
        image::RgbImage::new(12, 8).save(&path).unwrap();
        let plain = std::fs::read(&path).unwrap();
        // A quarter turn.
        let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let length = (exif.len() as u16 + 2).to_be_bytes();
        let turned = [&plain[..2], b"\xff\xe1", &length, exif, &plain[2..]].concat();
        std::fs::write(&path, turned).unwrap();
        pairs[0].image = path;
        let error = check_before_training("training", &pairs, &table).unwrap_err().to_string();
        assert!(error.contains("but the EXIF orientation turns the image to 8x12"), "{error}");
        let upright = directory.path().join("upright.png");
        image::GrayImage::from_fn(8, 12, |_, y| image::Luma([u8::from(y > 3)]))
            .save(&upright)
            .unwrap();
        pairs[0].mask = upright.into();
        check_before_training("training", &pairs, &table).unwrap();
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
