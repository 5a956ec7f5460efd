//! Writing a data set of any layout in the plain one: images, masks as indexed PNG, and a
//! `classes.txt`.

use super::doctor::default_splits;
use super::pairing::IMAGES;
use super::{DataSource, Listing, Pair, open_with_classes, splits};
use crate::error::{Error, Result, error};
use crate::files::{NewDirectory, json_path, refuse_special};
use crate::image::{ClassTable, IgnoredLabel, LabelMap, voc_color};
use crate::text;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A data set to be written in the plain layout.
#[derive(Debug)]
pub struct Conversion {
    root: PathBuf,
    splits: Vec<Listing>,
    table: ClassTable,
}

/// What was written.
#[derive(Debug, Clone, Serialize)]
pub struct Converted {
    /// Directory that was read.
    #[serde(serialize_with = "json_path::serialize")]
    pub root: PathBuf,
    /// Name of its layout.
    pub layout: &'static str,
    /// Directory that was written.
    #[serde(serialize_with = "json_path::serialize")]
    pub output: PathBuf,
    /// The splits.
    pub splits: Vec<ConvertedSplit>,
    /// Classes, as `classes.txt` has them.
    pub classes: ClassTable,
    /// What was assumed or left out, for people.
    pub notes: Vec<String>,
}

/// A split that was written.
#[derive(Debug, Clone, Serialize)]
pub struct ConvertedSplit {
    /// Name, if the data set has splits.
    pub name: Option<String>,
    /// Number of pairs of image and mask.
    pub pairs: usize,
}

impl Conversion {
    /// Lists the splits with these names. By default, these are the splits for training, validation
    /// and test, or all splits if there are none of these. `table` overrides the classes of the
    /// data set.
    ///
    /// # Errors
    /// Returns an error if the data set cannot be listed, does not define its classes, or defines
    /// others in another split.
    pub fn new(root: &Path, requested: &[String], table: Option<ClassTable>) -> Result<Self> {
        let source = DataSource::from(root);
        let names = match requested {
            [] => default_splits(splits(&source)?),
            names => names.iter().cloned().map(Some).collect(),
        };
        let open =
            |name: &Option<String>| open_with_classes(&source, name.as_deref(), table.as_ref());
        let mut splits: Vec<Listing> = names.iter().map(open).collect::<Result<_>>()?;
        if let Some((first, others)) = splits.split_first().filter(|_| table.is_none()) {
            others.iter().try_for_each(|other| first.check_same_classes(other))?;
        }
        let found = table.or_else(|| splits.iter().find_map(|split| split.classes.clone()));
        let table = found.ok_or_else(|| {
            error!(Data, "the data set does not define its classes")
                .file(root)
                .advice("pass `--class-table FILE`, or write a classes.txt in its directory")
        })?;
        let mut seen = Vec::new();
        splits.retain(|split| {
            let is_new = !seen.contains(&split.split);
            seen.push(split.split.clone());
            is_new
        });
        Ok(Self { root: root.to_owned(), splits, table })
    }

    /// Number of pairs to write.
    pub fn pairs(&self) -> usize {
        self.splits.iter().map(|split| split.pairs.len()).sum()
    }

    /// Writes the data set to a directory that does not exist or is empty, on all cores. It gets
    /// its name when it is complete. Images are copied byte by byte, or linked if `link`. Calls
    /// `on_pair` after each pair, from any thread, and ends with an error once `stop` is set.
    ///
    /// # Errors
    /// Returns an error that names the file if one cannot be read or written, if the directory is
    /// not empty or in the data set, or if two images would have the same name.
    pub fn write(
        &self,
        output: &Path,
        link: bool,
        stop: &AtomicBool,
        on_pair: impl Fn() + Sync,
    ) -> Result<Converted> {
        self.refuse_inside(output)?;
        let directory = NewDirectory::create(output)?;
        let mut has_255 = false;
        for split in &self.splits {
            let parts = ["images", "masks"].map(|part| {
                let part = directory.path().join(part);
                split.split.as_ref().map_or(part.clone(), |name| part.join(file_name(name)))
            });
            for part in &parts {
                fs::create_dir_all(part)
                    .map_err(|e| Error::io(output, "could not be written", e))?;
            }
            let names = unique_names(&split.pairs)?;
            let written = split.pairs.par_iter().zip(&names).map(|(pair, name)| {
                if stop.load(Ordering::Relaxed) {
                    return Err(error!(Io, "stopped before it was complete").file(output));
                }
                let has_255 = self.write_pair(pair, name, &parts, link)?;
                on_pair();
                Ok(has_255)
            });
            let written: Vec<bool> = written.collect::<Result<_>>()?;
            has_255 |= written.contains(&true);
        }
        let (classes, mut notes) = self.written_table(has_255);
        let list = directory.path().join("classes.txt");
        fs::write(&list, lines(&classes))
            .map_err(|e| Error::io(output, "could not be written", e))?;
        directory.commit()?;
        let all = self.splits.iter().flat_map(|split| &split.notes);
        all.for_each(|note| {
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        });
        let count = |split: &Listing| ConvertedSplit {
            name: split.split.clone(),
            pairs: split.pairs.len(),
        };
        Ok(Converted {
            root: self.root.clone(),
            layout: self.splits.first().map_or("", |split| split.layout.name()),
            output: output.to_owned(),
            splits: self.splits.iter().map(count).collect(),
            classes,
            notes,
        })
    }

    /// Refuses an output that would be listed as a part of the data set.
    fn refuse_inside(&self, output: &Path) -> Result<()> {
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty());
        let resolved = |path: &Path| fs::canonicalize(path).ok();
        let is_inside = resolved(parent.unwrap_or(Path::new(".")))
            .zip(resolved(&self.root))
            .is_some_and(|(parent, root)| parent.starts_with(root));
        if is_inside {
            return Err(error!(Usage, "is in the data set that is read")
                .file(output)
                .advice("name a directory elsewhere"));
        }
        Ok(())
    }

    /// Writes a pair. Returns whether 255 occurs in the mask.
    fn write_pair(
        &self,
        pair: &Pair,
        name: &str,
        [images, masks]: &[PathBuf; 2],
        link: bool,
    ) -> Result<bool> {
        let extension = pair.image.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if !IMAGES.contains(&&*extension.to_ascii_lowercase()) {
            return Err(error!(Data, "the name does not end like that of an image")
                .file(&pair.image)
                .advice("rename it, such as to a.jpg"));
        }
        refuse_special(&pair.image, "an image")?;
        let (_, map) = pair.load(Some(&self.table))?;
        self.check_labels(&map).map_err(|e| e.file(pair.mask.path()))?;
        map.write(masks.join(format!("{name}.png")), &self.table)?;
        let target = images.join(format!("{name}.{extension}"));
        let copied = if link { linked(&pair.image, &target) } else { copied(&pair.image, &target) };
        copied.map_err(|e| Error::io(&pair.image, "could not be copied", e))?;
        Ok(map.labels.contains(&255))
    }

    /// Refuses labels that the written data set would not define.
    fn check_labels(&self, map: &LabelMap) -> Result<()> {
        let ignored = self.table.ignored_values();
        let is_defined = |label: u16| {
            usize::from(label) < self.table.len() || label == 255 || ignored.contains(&label.into())
        };
        match map.labels.iter().find(|&&label| !is_defined(label)) {
            Some(label) => {
                let classes = text::count(self.table.len(), "class");
                Err(error!(Data, "the mask has the value {label}, but the data set has {classes}")
                    .advice("`atrous doctor` lists all masks with such values; --class-table FILE names more classes"))
            }
            None => Ok(()),
        }
    }

    /// Returns the table as `classes.txt` can state it, and notes about what was changed. 255 is
    /// declared where it is no class, so that it is not taken for a foreground.
    fn written_table(&self, has_255: bool) -> (ClassTable, Vec<String>) {
        let mut table = self.table.clone();
        let mut notes = Vec::new();
        for (class, name) in table.names.iter_mut().enumerate() {
            let joined = name.split_whitespace().collect::<Vec<_>>().join("_");
            let candidates = [name.clone(), joined, format!("class_{class}")];
            let readable = candidates.into_iter().find(|name| is_readable(name));
            let readable = readable.unwrap_or_else(|| format!("class_{class}"));
            if readable != *name {
                notes.push(format!("the class `{name}` is written as `{readable}`"));
                *name = readable;
            }
        }
        if has_255 && table.len() <= 255 && !table.ignored_values().contains(&255) {
            let name = "ignore".to_owned();
            table.ignored.push(IgnoredLabel { label: 255, name, color: voc_color(255) });
        }
        (table, notes)
    }
}

/// Whether a line of `classes.txt` can have this name.
fn is_readable(name: &str) -> bool {
    let parsed = ClassTable::parse(&format!("0 {name} 1 2 3"));
    parsed.is_ok_and(|table| table.names == [name])
}

/// Returns a table as the lines of a `classes.txt`.
fn lines(table: &ClassTable) -> String {
    let mut text = String::new();
    for (class, (name, [r, g, b])) in table.names.iter().zip(&table.colors).enumerate() {
        let _ = writeln!(text, "{class} {name} {r} {g} {b}");
    }
    for IgnoredLabel { label, name, color: [r, g, b] } in &table.ignored {
        let is_known = ClassTable::parse(&format!("0 a 1 2 3\n{label} {name} 1 2 3"))
            .is_ok_and(|parsed| !parsed.ignored.is_empty());
        let name = if is_known { name } else { "ignore" };
        let _ = writeln!(text, "{label} {name} {r} {g} {b}");
    }
    text
}

/// Returns a name that is a single component of a path and not hidden.
fn file_name(name: &str) -> String {
    let name = name.replace(['/', '\\'], "_");
    if name.starts_with('.') { format!("_{name}") } else { name }
}

/// Returns the names of the files of pairs.
fn unique_names(pairs: &[Pair]) -> Result<Vec<String>> {
    let names: Vec<String> = pairs.iter().map(|pair| file_name(&pair.name)).collect();
    let mut first = HashMap::new();
    for (pair, name) in pairs.iter().zip(&names) {
        // Some file systems ignore case.
        if let Some(other) = first.insert(name.to_lowercase(), &pair.image) {
            let other = text::path(other);
            return Err(error!(Data, "would have the same name as {other}")
                .file(&pair.image)
                .advice("rename one of them"));
        }
    }
    Ok(names)
}

fn copied(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::copy(from, to).map(drop)
}

/// Links to the image itself, wherever the link is moved.
#[cfg(unix)]
fn linked(from: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(fs::canonicalize(from)?, to)
}

/// Elsewhere symbolic links need privileges.
#[cfg(not(unix))]
fn linked(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::hard_link(from, to)
}
