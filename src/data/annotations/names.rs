//! Names of classes beside annotations that contain only the labels of shapes.

use super::MAX_CLASSES;
use crate::error::{Result, error};
use crate::files::read_text_at_most;
use crate::image::{ClassTable, IgnoredLabel, voc_color};
use crate::models::BACKGROUND;
use crate::text::{count, excerpt};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Files that list names, one a line, in the order of their classes.
const LISTS: [&str; 3] = ["labels.txt", "class_names.txt", "classes.txt"];

/// Size limit of a list in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// Names that labelme gives to class 0 and to pixels without a class.
const LABELME_BACKGROUND: &str = "_background_";
const LABELME_IGNORED: &str = "__ignore__";

/// Returns the table of a background and these classes; 255 is ignored.
///
/// # Errors
/// Returns an error if there are none, or more than an annotation can have.
pub(in crate::data) fn table(names: &[String]) -> Result<ClassTable> {
    if names.is_empty() {
        return Err(error!(Data, "no classes listed"));
    }
    if names.len() > MAX_CLASSES {
        let found = count(names.len(), "class");
        return Err(error!(
            Data,
            "{found}, but at most {MAX_CLASSES} fit into a mask with 255 ignored"
        )
        .advice("merge or remove classes"));
    }
    let names: Vec<String> = std::iter::once(BACKGROUND.to_owned()).chain(names.to_vec()).collect();
    let colors = (0..names.len()).map(voc_color).collect();
    let ignored = IgnoredLabel { label: 255, name: "ignore".to_owned(), color: voc_color(255) };
    Ok(ClassTable { ignored: vec![ignored], ..ClassTable::new(names, colors)? })
}

/// The classes of labels.
pub(in crate::data) struct Names {
    names: Vec<String>,
    numbers: HashMap<String, u16>,
    /// The list that has them.
    list: Option<PathBuf>,
}

impl Names {
    /// Reads the list of the first directory that has one, or else sorts the labels that occur.
    ///
    /// # Errors
    /// Returns an error that names the file if it cannot be read or lists a name twice.
    pub(in crate::data) fn new(directories: &[&Path], labels: BTreeSet<String>) -> Result<Self> {
        let paths = directories.iter().flat_map(|d| LISTS.iter().map(move |name| d.join(name)));
        let list = paths.into_iter().find(|path| path.is_file());
        let names = match &list {
            Some(path) => lines(&read_text_at_most(path, MAX_BYTES)?),
            None => labels.into_iter().collect(),
        };
        let is_class = |name: &String| !is_background(name) && name != LABELME_IGNORED;
        let names: Vec<String> = names.into_iter().filter(is_class).collect();
        let mut numbers = HashMap::new();
        for (number, name) in (1..=u16::MAX).zip(&names) {
            if numbers.insert(name.clone(), number).is_some() {
                let error = error!(Data, "`{}` is listed twice", excerpt(name));
                return Err(error.file(list.as_deref().unwrap_or(Path::new("labels"))));
            }
        }
        Ok(Self { names, numbers, list })
    }

    /// Returns the class of a label, 255 for labelme's `__ignore__`.
    ///
    /// # Errors
    /// Returns an error if the label is not listed.
    pub(in crate::data) fn number(&self, label: &str) -> Result<u16> {
        if is_background(label) {
            return Ok(0);
        }
        if label == LABELME_IGNORED {
            return Ok(super::IGNORED);
        }
        self.numbers.get(label).copied().ok_or_else(|| {
            let list = self.list.as_deref().map(crate::text::path).unwrap_or_default();
            error!(Data, "the label `{}` is not listed in {list}", excerpt(label))
                .advice("add it to the list, or correct the label")
        })
    }

    /// Returns the table of the classes.
    ///
    /// # Errors
    /// As for [`table`].
    pub(in crate::data) fn table(&self) -> Result<ClassTable> {
        let table = table(&self.names);
        match &self.list {
            Some(path) => table.map_err(|e| e.file(path)),
            None => table,
        }
    }

    /// Returns a note if the order of the classes was assumed.
    pub(in crate::data) fn note(&self) -> Option<String> {
        let count = count(self.names.len(), "label");
        self.list.is_none().then(|| {
            format!("the classes are the {count} of the shapes in alphabetical order, since no labels.txt lists them")
        })
    }
}

fn is_background(name: &str) -> bool {
    name == LABELME_BACKGROUND || name.eq_ignore_ascii_case(BACKGROUND)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
