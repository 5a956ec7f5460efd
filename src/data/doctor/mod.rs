//! Looks a data set through before anything is trained on it.

mod balance;
mod finding;
mod mask;
mod sheet;

pub use balance::ClassCount;
pub use finding::{Finding, Problem, Severity};

use super::{Listing, Mismatch, MismatchKind, Pair, parts, survey};
use crate::error::Result;
use crate::files::{json_path, refuse_special};
use crate::image::{ClassTable, DecodeOptions, UPRIGHT_NOTE, decode_bytes};
use crate::text::excerpt;
use balance::Sums;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// A shorter side of fewer pixels is tiny.
const TINY: usize = 64;

/// A data set that is to be looked through.
#[derive(Debug)]
pub struct Doctor {
    root: PathBuf,
    parts: Vec<Listing>,
    misfits: Vec<(Option<String>, Mismatch)>,
    table: Option<ClassTable>,
}

/// What was found out about a data set.
#[derive(Debug, Clone, Serialize)]
pub struct Examination {
    /// Its directory.
    #[serde(serialize_with = "json_path::serialize")]
    pub root: PathBuf,
    /// All that is off, the worst first.
    pub findings: Vec<Finding>,
    /// Its parts.
    pub parts: Vec<PartReport>,
    /// Its classes; guessed from the masks where nothing tells of them.
    pub classes: ClassTable,
    /// What each pair holds, by part.
    #[serde(skip)]
    seen: Vec<Vec<Seen>>,
}

/// Figures of a part.
#[derive(Debug, Clone, Serialize)]
pub struct PartReport {
    /// Its name, where the data set has parts.
    pub name: Option<String>,
    /// Pairs of image and mask.
    pub pairs: usize,
    /// The least and the largest width and height among its images, in pixels; `None` where none
    /// could be read.
    pub sizes: Option<[(usize, usize); 2]>,
    /// How the classes are spread.
    pub classes: Vec<ClassCount>,
    /// Pixels that are ignored, or no class.
    pub ignored: u64,
}

/// What was seen of one pair.
#[derive(Debug, Clone)]
struct Seen {
    pair: Pair,
    /// Of the image, where it could be read.
    size: Option<(usize, usize)>,
    /// Length and hash of the image's file.
    content: Option<(u64, u64)>,
    /// Pixels by class, where the mask could be read and fits.
    counts: Option<BTreeMap<u16, u64>>,
    /// Whether the mask's classes were found by their colors.
    by_color: bool,
    findings: Vec<Finding>,
}

impl Doctor {
    /// Lists the named parts; where none is named, those for training, validation and test, or all
    /// where no part has such a name. `table` is taken instead of the classes that the data set
    /// itself tells of.
    ///
    /// Errors where the directory is laid out in no known way, has no such part, or a list of it
    /// cannot be read.
    pub fn new(
        root: impl AsRef<Path>,
        wanted: &[String],
        table: Option<ClassTable>,
    ) -> Result<Self> {
        let root = root.as_ref();
        let names: Vec<Option<String>> = match wanted {
            [] => usual(parts(root)?),
            names => names.iter().cloned().map(Some).collect(),
        };
        let mut doctor = Self { root: root.into(), parts: Vec::new(), misfits: Vec::new(), table };
        for name in names {
            let (listing, misfits) = survey(root, name.as_deref())?;
            doctor.misfits.extend(misfits.into_iter().map(|m| (listing.split.clone(), m)));
            doctor.parts.push(listing);
        }
        if doctor.table.is_none() {
            doctor.table = doctor.parts.first().and_then(|p| p.classes.clone());
        }
        Ok(doctor)
    }

    /// Pairs to be read.
    pub fn pairs(&self) -> usize {
        self.parts.iter().map(|p| p.pairs.len()).sum()
    }

    /// The images and masks to be read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().flat_map(|p| &p.pairs).flat_map(|pair| [&*pair.image, &*pair.mask])
    }

    /// Reads every image and mask, on all cores; `tick` is called after each pair, from any thread.
    pub fn examine(&self, tick: impl Fn() + Sync) -> Examination {
        let table = self.table.as_ref();
        let look = |pair: &Pair| {
            let seen = look_at(pair, table);
            tick();
            seen
        };
        let seen: Vec<Vec<Seen>> =
            self.parts.iter().map(|part| part.pairs.par_iter().map(look).collect()).collect();
        let classes = self.table.clone().unwrap_or_else(|| guess(&seen));
        let mut findings: Vec<Finding> =
            self.misfits.iter().map(|(part, m)| of_misfit(m).in_part(part.as_deref())).collect();
        for (part, seen) in self.parts.iter().zip(&seen) {
            findings.extend(
                seen.iter()
                    .flat_map(|s| &s.findings)
                    .map(|f| f.clone().in_part(part.split.as_deref())),
            );
        }
        let parts: Vec<PartReport> =
            self.parts.iter().zip(&seen).map(|(part, seen)| report(part, seen, &classes)).collect();
        self.about_classes(&parts, &seen, &mut findings);
        self.about_copies(&seen, &mut findings);
        findings.sort_by(|a, b| {
            (a.severity, a.problem, &a.part, &a.file)
                .cmp(&(b.severity, b.problem, &b.part, &b.file))
        });
        Examination { root: self.root.clone(), findings, parts, classes, seen }
    }

    fn about_classes(&self, parts: &[PartReport], seen: &[Vec<Seen>], findings: &mut Vec<Finding>) {
        let labels: BTreeSet<u16> = seen
            .iter()
            .flatten()
            .filter_map(|s| s.counts.as_ref())
            .flat_map(|c| c.keys().copied())
            .collect();
        if labels == BTreeSet::from([0, 255]) {
            findings.push(Finding::fault(Problem::ZeroAnd255, &self.root, ""));
        }
        if self.table.is_none() {
            findings.push(Finding::warning(
                Problem::NoClasses,
                &self.root,
                "names and number were guessed from the masks",
            ));
        }
        if let Some(table) =
            self.table.as_ref().filter(|_| seen.iter().flatten().any(|s| s.by_color))
        {
            findings.extend(same_colors(table, &self.root));
        }
        for part in parts {
            let name = part.name.as_deref();
            let training = name.is_none_or(|n| n.starts_with("train")) || parts.len() == 1;
            for class in part.classes.iter().filter(|c| c.pixels == 0) {
                let detail = format!("{} {}", class.class, class.name);
                let finding = if training { Finding::fault } else { Finding::warning };
                findings.push(finding(Problem::EmptyClass, &self.root, detail).in_part(name));
            }
        }
    }

    /// Images whose files hold the same bytes.
    fn about_copies(&self, seen: &[Vec<Seen>], findings: &mut Vec<Finding>) {
        let mut alike = HashMap::<(u64, u64), Vec<(usize, &Path)>>::new();
        for (part, seen) in seen.iter().enumerate() {
            for (content, image) in
                seen.iter().filter_map(|s| Some((s.content?, s.pair.image.as_path())))
            {
                alike.entry(content).or_default().push((part, image));
            }
        }
        for group in alike.into_values().filter(|group| group.len() > 1) {
            let (part, first) = group[0];
            // The same hash is next to certain; the same bytes are.
            let bytes = read(first);
            for &(other, image) in &group[1..] {
                let same =
                    image == first || matches!((&bytes, read(image)), (Ok(a), Ok(b)) if *a == b);
                let place = |part: usize| self.parts[part].split.clone().unwrap_or_default();
                if same && part != other {
                    let detail =
                        format!("the same bytes as {} in {}", first.display(), place(part));
                    findings.push(
                        Finding::fault(Problem::InTwoParts, image, detail)
                            .in_part(self.parts[other].split.as_deref()),
                    );
                } else if same {
                    let detail = format!("the same bytes as {}", first.display());
                    findings.push(
                        Finding::warning(Problem::Twice, image, detail)
                            .in_part(self.parts[other].split.as_deref()),
                    );
                }
            }
        }
    }
}

impl Examination {
    /// Findings that are faults.
    pub fn faults(&self) -> usize {
        self.findings.iter().filter(|f| f.severity == Severity::Fault).count()
    }
}

/// The parts that are for training, validation and test. Lists of VOC overlap: `trainaug` holds
/// `train`, `trainval` holds both and is taken where there is no other one to train on.
fn usual(parts: Vec<String>) -> Vec<Option<String>> {
    let has = |name: &str| parts.iter().any(|p| p == name);
    let train = ["trainaug", "train", "training", "trainval"].into_iter().find(|name| has(name));
    let rest = ["val", "validation", "test"].into_iter().filter(|name| has(name));
    let usual: Vec<Option<String>> =
        train.into_iter().chain(rest).map(|name| Some(name.to_owned())).collect();
    match (usual.is_empty(), parts.is_empty()) {
        (false, _) => usual,
        (true, false) => parts.into_iter().map(Some).collect(),
        (true, true) => vec![None],
    }
}

fn of_misfit(misfit: &Mismatch) -> Finding {
    let listed = misfit.file.extension().is_some_and(|e| e == "txt");
    let (problem, detail) = match misfit.kind {
        MismatchKind::NoMask if listed => {
            (Problem::NoMask, format!("lists {}", excerpt(&misfit.name)))
        }
        MismatchKind::NoImage if listed => {
            (Problem::NoImage, format!("lists {}", excerpt(&misfit.name)))
        }
        MismatchKind::NoMask => (Problem::NoMask, format!("none in {}", misfit.place.display())),
        MismatchKind::NoImage => (Problem::NoImage, format!("none in {}", misfit.place.display())),
        MismatchKind::SameName => (Problem::SameName, format!("and {}", misfit.place.display())),
    };
    Finding::fault(problem, &misfit.file, detail)
}

/// Classes that have the color of one before them: colored masks never show them.
fn same_colors(table: &ClassTable, root: &Path) -> Vec<Finding> {
    let mut first = HashMap::new();
    let twice = table.colors.iter().enumerate().filter_map(|(class, color)| {
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
    twice.collect()
}

/// An image file's bytes, as many as training would read.
fn read(file: &Path) -> Result<Vec<u8>> {
    refuse_special(file, "an image")?;
    DecodeOptions::default().read(file)
}

fn look_at(pair: &Pair, table: Option<&ClassTable>) -> Seen {
    let mut seen = Seen {
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
            seen.findings.push(Finding::fault(Problem::Unreadable, file, mask::cause_of(&e, file)))
        }
        Ok(bytes) => {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            seen.content = Some((bytes.len() as u64, hasher.finish()));
            match decode_bytes(&bytes, &file.display().to_string()) {
                Err(e) => seen.findings.push(Finding::fault(
                    Problem::Unreadable,
                    file,
                    mask::cause_of(&e, file),
                )),
                Ok(image) => {
                    seen.size = Some((image.width, image.height));
                    let turned = image.notes.iter().find(|note| note.starts_with(UPRIGHT_NOTE));
                    seen.findings.extend(
                        turned.map(|note| Finding::warning(Problem::Turned, file, note.as_str())),
                    );
                }
            }
        }
    }
    if let Some((w, h)) = seen.size.filter(|(w, h)| w.min(h) < &TINY) {
        seen.findings.push(Finding::warning(Problem::Tiny, file, format!("{w} x {h} pixels")));
    }
    let Some(mask) = mask::check(pair, table, &mut seen.findings) else { return seen };
    seen.by_color = mask.by_color;
    match seen.size {
        Some((w, h)) if (w, h) != mask.size => {
            let detail = format!("{} x {} pixels, its image {w} x {h}", mask.size.0, mask.size.1);
            seen.findings.push(Finding::fault(Problem::SizeDiffers, &pair.mask, detail));
        }
        _ => seen.counts = Some(mask.counts),
    }
    seen
}

/// As many classes as there are values, 255 aside.
fn guess(seen: &[Vec<Seen>]) -> ClassTable {
    let labels = seen.iter().flatten().filter_map(|s| s.counts.as_ref()).flat_map(|c| c.keys());
    let largest = labels.filter(|&&l| l != 255).max();
    ClassTable::generic(largest.map_or(1, |&l| usize::from(l) + 1))
}

fn report(part: &Listing, seen: &[Seen], classes: &ClassTable) -> PartReport {
    let mut sums = Sums::new(classes.len());
    seen.iter().filter_map(|s| s.counts.as_ref()).for_each(|counts| sums.add(counts.iter()));
    let sizes = seen.iter().filter_map(|s| s.size);
    let sizes = sizes.fold(None, |range: Option<[(usize, usize); 2]>, (w, h)| {
        let [least, most] = range.unwrap_or([(w, h); 2]);
        Some([(least.0.min(w), least.1.min(h)), (most.0.max(w), most.1.max(h))])
    });
    PartReport {
        name: part.split.clone(),
        pairs: part.pairs.len(),
        sizes,
        classes: sums.finish(|class| classes.name(class)),
        ignored: sums.ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trainval_is_looked_through_where_there_is_no_other_part_for_training() {
        let usual = |parts: &[&str]| -> Vec<String> {
            usual(parts.iter().map(|part| (*part).to_owned()).collect())
                .into_iter()
                .map(Option::unwrap_or_default)
                .collect()
        };
        assert_eq!(usual(&["test", "trainval"]), ["trainval", "test"]);
        assert_eq!(usual(&["train", "trainval", "val"]), ["train", "val"]);
        assert_eq!(usual(&["all", "more"]), ["all", "more"]);
        assert_eq!(usual(&[]), [""]);
    }
}
