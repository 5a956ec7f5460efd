//! Checks of a data set before training.

mod balance;
mod before_training;
mod colors;
mod finding;
mod foreground;
mod mask;
mod sheet;

pub use balance::{ClassCount, count_classes, count_labels};
pub use before_training::check_before_training;
pub use colors::unnamed_colors;
pub use finding::{Finding, Problem, Severity};
pub use foreground::check_foreground;

use super::{DataSource, Listing, Mismatch, MismatchKind, Pair, open_lenient, splits};
use crate::error::Result;
use crate::files::{json_path, refuse_special};
use crate::geometry::Size;
use crate::image::{ClassTable, DecodeOptions, UPRIGHT_NOTE, decode_bytes};
use crate::text::excerpt;
use balance::Sums;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// Images with a shorter side, in pixels, are tiny.
const TINY: usize = 64;

/// Checks a data set.
#[derive(Debug)]
pub struct Doctor {
    root: PathBuf,
    splits: Vec<Listing>,
    mismatches: Vec<(Option<String>, Mismatch)>,
    table: Option<ClassTable>,
}

/// Results of the checks of a data set.
#[derive(Debug, Clone, Serialize)]
pub struct Examination {
    /// Directory of the data set.
    #[serde(serialize_with = "json_path::serialize")]
    pub root: PathBuf,
    /// Problems, most severe first.
    pub findings: Vec<Finding>,
    /// Statistics by split.
    pub splits: Vec<SplitReport>,
    /// Classes; guessed from the masks if they are not defined.
    pub classes: ClassTable,
    /// Results of each pair, by split.
    #[serde(skip)]
    checked: Vec<Vec<CheckedPair>>,
}

/// Statistics of a split.
#[derive(Debug, Clone, Serialize)]
pub struct SplitReport {
    /// Name, if the data set has splits.
    pub name: Option<String>,
    /// Number of pairs of image and mask.
    pub pairs: usize,
    /// Minimum and maximum width and height of the images, in pixels; `None` if none could be read.
    pub sizes: Option<[Size; 2]>,
    /// Statistics by class.
    pub classes: Vec<ClassCount>,
    /// Number of pixels that are ignored or not a class.
    pub ignored: u64,
}

/// Results of one pair.
#[derive(Debug, Clone)]
struct CheckedPair {
    pair: Pair,
    /// Size of the image, if it could be read.
    size: Option<Size>,
    /// Length and hash of the image file.
    content: Option<(u64, u64)>,
    /// Pixels by class, if the mask could be read and fits the image.
    counts: Option<BTreeMap<u16, u64>>,
    /// Whether the classes of the mask were derived from colors.
    by_color: bool,
    findings: Vec<Finding>,
}

impl Doctor {
    /// Lists the splits with these names. By default, these are the splits for training, validation
    /// and test, or all splits if there are none of these. `table` overrides the classes of the
    /// data set.
    ///
    /// # Errors
    /// Returns an error if the layout of the directory is not recognized, there is no such split,
    /// or a list cannot be read.
    pub fn new(
        source: impl Into<DataSource>,
        requested: &[String],
        table: Option<ClassTable>,
    ) -> Result<Self> {
        let source = source.into();
        let names: Vec<Option<String>> = match requested {
            [] => default_splits(splits(&source)?),
            names => names.iter().cloned().map(Some).collect(),
        };
        let mut doctor = Self {
            root: source.directory().into(),
            splits: Vec::new(),
            mismatches: Vec::new(),
            table,
        };
        for name in names {
            let (listing, mismatches) =
                open_lenient(&source, name.as_deref(), doctor.table.as_ref())?;
            doctor.mismatches.extend(mismatches.into_iter().map(|m| (listing.split.clone(), m)));
            doctor.splits.push(listing);
        }
        if doctor.table.is_none() {
            if let Some((first, others)) = doctor.splits.split_first() {
                others.iter().try_for_each(|other| first.check_same_classes(other))?;
            }
            doctor.table = doctor.splits.first().and_then(|split| split.classes.clone());
        }
        Ok(doctor)
    }

    /// Number of pairs to check.
    pub fn pairs(&self) -> usize {
        self.splits.iter().map(|split| split.pairs.len()).sum()
    }

    /// Images and masks to read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let pairs = self.splits.iter().flat_map(|split| &split.pairs);
        pairs.flat_map(|pair| [&*pair.image, pair.mask.path()])
    }

    /// Reads and checks all images and masks, on all cores. Calls `on_pair` after each pair, from
    /// any thread.
    pub fn examine(&self, on_pair: impl Fn() + Sync) -> Examination {
        let table = self.table.as_ref();
        let check = |pair: &Pair| {
            let checked = check_pair(pair, table);
            on_pair();
            checked
        };
        let checked: Vec<Vec<CheckedPair>> =
            self.splits.iter().map(|split| split.pairs.par_iter().map(check).collect()).collect();
        let classes = self.table.clone().unwrap_or_else(|| guess_classes(&checked));
        let mut findings: Vec<Finding> = self
            .mismatches
            .iter()
            .map(|(split, m)| mismatch_finding(m).in_split(split.as_deref()))
            .collect();
        for (split, pairs) in self.splits.iter().zip(&checked) {
            let of_pairs = pairs.iter().flat_map(|pair| &pair.findings);
            findings.extend(of_pairs.map(|f| f.clone().in_split(split.split.as_deref())));
        }
        let splits: Vec<SplitReport> = self
            .splits
            .iter()
            .zip(&checked)
            .map(|(split, pairs)| split_report(split, pairs, &classes))
            .collect();
        self.check_classes(&splits, &checked, &mut findings);
        self.check_duplicates(&checked, &mut findings);
        findings.sort_by(|a, b| {
            (a.severity, a.problem, &a.split, &a.file)
                .cmp(&(b.severity, b.problem, &b.split, &b.file))
        });
        Examination { root: self.root.clone(), findings, splits, classes, checked }
    }

    fn check_classes(
        &self,
        splits: &[SplitReport],
        checked: &[Vec<CheckedPair>],
        findings: &mut Vec<Finding>,
    ) {
        let labels: BTreeSet<u16> = checked
            .iter()
            .flatten()
            .filter_map(|pair| pair.counts.as_ref())
            .flat_map(|counts| counts.keys().copied())
            .collect();
        if labels == BTreeSet::from([0, 255]) || self.mixes_255(checked) {
            findings.push(Finding::fault(Problem::ZeroAnd255, &self.root, ""));
        }
        for split in self.splits.iter().filter(|split| split.is_binary()) {
            let finding = Finding::warning(Problem::ForegroundIs255, &self.root, "");
            findings.push(finding.in_split(split.split.as_deref()));
        }
        if self.table.is_none() {
            findings.push(Finding::warning(
                Problem::NoClasses,
                &self.root,
                "names and number were guessed from the masks",
            ));
        }
        if let Some(table) =
            self.table.as_ref().filter(|_| checked.iter().flatten().any(|pair| pair.by_color))
        {
            findings.extend(same_colors(table, &self.root));
        }
        for split in splits {
            let name = split.name.as_deref();
            let is_training = name.is_none_or(|n| n.starts_with("train")) || splits.len() == 1;
            for class in split.classes.iter().filter(|c| c.pixels == 0) {
                let detail = format!("{} {}", class.class, class.name);
                let finding = if is_training { Finding::fault } else { Finding::warning };
                findings.push(finding(Problem::EmptyClass, &self.root, detail).in_split(name));
            }
        }
    }

    /// Whether most masks of two classes have only 0 and 255, and some have class 1: then 255 is
    /// ignored in all.
    fn mixes_255(&self, checked: &[Vec<CheckedPair>]) -> bool {
        let two = |t: &ClassTable| t.len() == 2 && !t.ignored_values().contains(&255);
        if !self.table.as_ref().is_some_and(two) {
            return false;
        }
        let counts = || checked.iter().flatten().filter_map(|pair| pair.counts.as_ref());
        let zero_and_255 = counts().filter(|labels| labels.keys().eq(&[0, 255])).count();
        zero_and_255 > counts().filter(|labels| labels.contains_key(&1)).count()
    }

    /// Finds images whose files have the same contents.
    fn check_duplicates(&self, checked: &[Vec<CheckedPair>], findings: &mut Vec<Finding>) {
        let mut by_content = HashMap::<(u64, u64), Vec<(usize, &Path)>>::new();
        for (split, pairs) in checked.iter().enumerate() {
            for (content, image) in
                pairs.iter().filter_map(|pair| Some((pair.content?, pair.pair.image.as_path())))
            {
                by_content.entry(content).or_default().push((split, image));
            }
        }
        for group in by_content.into_values().filter(|group| group.len() > 1) {
            let (split, first) = group[0];
            // Compare the bytes, in case hashes collide.
            let bytes = read(first);
            for &(other_split, image) in &group[1..] {
                let is_same =
                    image == first || matches!((&bytes, read(image)), (Ok(a), Ok(b)) if *a == b);
                if !is_same {
                    continue;
                }
                let finding = if split == other_split {
                    let detail = format!("identical to {}", first.display());
                    Finding::warning(Problem::Duplicate, image, detail)
                } else {
                    let name = self.splits[split].split.clone().unwrap_or_default();
                    let detail = format!("identical to {} in {name}", first.display());
                    Finding::fault(Problem::InTwoSplits, image, detail)
                };
                findings.push(finding.in_split(self.splits[other_split].split.as_deref()));
            }
        }
    }
}

impl Examination {
    /// Number of findings that are faults.
    pub fn faults(&self) -> usize {
        self.findings.iter().filter(|f| f.severity == Severity::Fault).count()
    }
}

/// The splits for training, validation and test. Lists of VOC overlap: `trainaug` contains `train`;
/// `trainval` contains `train` and `val`, and is used only if there is no other training split.
pub(in crate::data) fn default_splits(splits: Vec<String>) -> Vec<Option<String>> {
    let exists = |name: &str| splits.iter().any(|split| split == name);
    let training =
        ["trainaug", "train", "training", "trainval"].into_iter().find(|name| exists(name));
    let evaluation = ["val", "validation", "valid", "test"].into_iter().filter(|name| exists(name));
    let default: Vec<Option<String>> =
        training.into_iter().chain(evaluation).map(|name| Some(name.to_owned())).collect();
    if !default.is_empty() {
        default
    } else if !splits.is_empty() {
        splits.into_iter().map(Some).collect()
    } else {
        vec![None]
    }
}

fn mismatch_finding(mismatch: &Mismatch) -> Finding {
    let listed = mismatch.is_listed();
    let partner = mismatch.partner.display();
    let problem = match mismatch.kind {
        MismatchKind::NoMask => Problem::NoMask,
        MismatchKind::NoImage => Problem::NoImage,
        MismatchKind::SameName => Problem::SameName,
    };
    let detail = match mismatch.kind {
        MismatchKind::SameName => format!("and {partner}"),
        _ if listed => format!("lists {}", excerpt(&mismatch.name)),
        _ => format!("none in {partner}"),
    };
    Finding::fault(problem, &mismatch.file, detail)
}

/// Classes with the same color as an earlier one, so that colored masks cannot contain them.
fn same_colors(table: &ClassTable, root: &Path) -> Vec<Finding> {
    let mut first = HashMap::new();
    let duplicates = table.colors.iter().enumerate().filter_map(|(class, color)| {
        let other = *first.entry(color).or_insert(class);
        let [r, g, b] = color;
        let detail = || {
            format!(
                "{other} {} and {class} {} are both {r} {g} {b}",
                table.name(other),
                table.name(class)
            )
        };
        (other != class).then(|| Finding::fault(Problem::SameColor, root, detail()))
    });
    duplicates.collect()
}

/// Reads the bytes of an image file, up to the limit that training has.
fn read(file: &Path) -> Result<Vec<u8>> {
    refuse_special(file, "an image")?;
    DecodeOptions::default().read(file)
}

fn check_pair(pair: &Pair, table: Option<&ClassTable>) -> CheckedPair {
    let mut checked = CheckedPair {
        pair: pair.clone(),
        size: None,
        content: None,
        counts: None,
        by_color: false,
        findings: Vec::new(),
    };
    let file = &pair.image;
    match read(file) {
        Err(e) => {
            let detail = mask::cause_of(&e, file);
            checked.findings.push(Finding::fault(Problem::Unreadable, file, detail));
        }
        Ok(bytes) => {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            checked.content = Some((bytes.len() as u64, hasher.finish()));
            match decode_bytes(&bytes, &file.display().to_string()) {
                Err(e) => {
                    let detail = mask::cause_of(&e, file);
                    checked.findings.push(Finding::fault(Problem::Unreadable, file, detail));
                }
                Ok(image) => {
                    checked.size = Some(image.size());
                    let rotated = image.notes.iter().find(|note| note.starts_with(UPRIGHT_NOTE));
                    let finding =
                        rotated.map(|note| Finding::warning(Problem::Rotated, file, note.as_str()));
                    checked.findings.extend(finding);
                }
            }
        }
    }
    if let Some(size) = checked.size.filter(|size| size.width.min(size.height) < TINY) {
        checked.findings.push(Finding::warning(Problem::Tiny, file, format!("{size} pixels")));
    }
    let Some(mask) = mask::check(pair, table, &mut checked.findings) else { return checked };
    checked.by_color = mask.by_color;
    let is_turned = checked.findings.iter().any(|finding| finding.problem == Problem::Rotated);
    match checked.size.and_then(|size| mask.other_size(pair, (size, is_turned))) {
        Some(finding) => checked.findings.push(finding),
        None => checked.counts = Some(mask.counts),
    }
    checked
}

/// Guesses the number of classes from the largest value in the masks, except 255.
fn guess_classes(checked: &[Vec<CheckedPair>]) -> ClassTable {
    let counts = checked.iter().flatten().filter_map(|pair| pair.counts.as_ref());
    let labels = counts.flat_map(|counts| counts.keys());
    let largest = labels.filter(|&&l| l != 255).max();
    ClassTable::generic(largest.map_or(1, |&l| usize::from(l) + 1))
}

fn split_report(split: &Listing, checked: &[CheckedPair], classes: &ClassTable) -> SplitReport {
    let mut sums = Sums::new(classes.len());
    for counts in checked.iter().filter_map(|pair| pair.counts.as_ref()) {
        sums.add(counts.iter());
    }
    let sizes = checked.iter().filter_map(|pair| pair.size);
    let sizes = sizes.fold(None, |range: Option<[Size; 2]>, size| {
        let [min, max] = range.unwrap_or([size; 2]);
        Some([min.zip(size, usize::min), max.zip(size, usize::max)])
    });
    SplitReport {
        name: split.split.clone(),
        pairs: split.pairs.len(),
        sizes,
        classes: sums.finish(|class| classes.name(class)),
        ignored: sums.ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trainval_is_checked_if_there_is_no_other_training_split() {
        let defaults = |splits: &[&str]| -> Vec<String> {
            default_splits(splits.iter().map(|split| (*split).to_owned()).collect())
                .into_iter()
                .map(Option::unwrap_or_default)
                .collect()
        };
        assert_eq!(defaults(&["test", "trainval"]), ["trainval", "test"]);
        assert_eq!(defaults(&["train", "trainval", "val"]), ["train", "val"]);
        assert_eq!(defaults(&["all", "more"]), ["all", "more"]);
        assert_eq!(defaults(&[]), [""]);
    }
}
