//! Compares all outputs of a command with its inputs, and with each other, before the first is
//! written: no output may replace a file of the same call.

use crate::error::{Error, Result, error};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};

/// Maximum number of links followed in a chain; no system follows more.
const LINKS: usize = 40;

/// The files that a command reads and writes. All reads must be added before the first write.
///
/// Two paths are the same file if the operating system says so (device and inode: symbolic and hard
/// links, `.` and `..`, case-insensitive file systems), or if they would be once created: the same
/// name in the same directory, however spelled.
#[derive(Debug)]
pub(super) struct OutputCheck {
    advice: &'static str,
    claims: Vec<Claim>,
    by_file: HashMap<FileId, usize>,
    by_place: HashMap<PathBuf, usize>,
    /// Indices by lower-case path: the same file on some file systems.
    by_folded: HashMap<String, Vec<usize>>,
    /// Resolved directories by spelling.
    resolved: HashMap<PathBuf, PathBuf>,
    /// Whether a directory is case-insensitive.
    ignoring_case: HashMap<PathBuf, bool>,
}

#[derive(Debug)]
struct Claim {
    path: PathBuf,
    place: PathBuf,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// A file that is read, with its role ("an input").
    Read(&'static str),
    /// A file that will be written, with its description ("the overlay of a.png").
    Written(String),
}

impl OutputCheck {
    /// Returns an empty check. `advice` is added to the error about a conflict.
    pub(super) fn new(advice: &'static str) -> Self {
        Self {
            advice,
            claims: Vec::new(),
            by_file: HashMap::new(),
            by_place: HashMap::new(),
            by_folded: HashMap::new(),
            resolved: HashMap::new(),
            ignoring_case: HashMap::new(),
        }
    }

    /// Adds a file that is read; `what` is its role, with an article ("an input").
    pub(super) fn reads(&mut self, path: &Path, what: &'static str) {
        let meta = fs::metadata(path).ok();
        // Reading a file twice is no conflict, so the first claim stays.
        if let Some(id) = meta.as_ref().and_then(|meta| FileId::of(path, meta)) {
            self.by_file.entry(id).or_insert(self.claims.len());
        }
        for place in self.places(path) {
            self.claim(path, place, What::Read(what));
        }
    }

    /// Adds the lists of a data set: class tables, splits and the like, in its directory and below
    /// `ImageSets`. Images and masks are added by whoever knows them.
    pub(super) fn reads_lists(&mut self, data: &Path) {
        let image_sets = data.join("ImageSets");
        let mut directories = vec![data.to_owned(), image_sets.clone()];
        directories.extend(entries(&image_sets).filter(|path| path.is_dir()));
        for file in directories.iter().flat_map(|directory| entries(directory)) {
            let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if ["txt", "json", "csv", "yaml", "yml", "mat"].contains(&extension) && file.is_file() {
                self.reads(&file, "a list of the data set");
            }
        }
    }

    /// Adds a file that will be written; `what` describes it ("the overlay of a.png").
    ///
    /// # Errors
    /// Returns an error if the file is also read, or written as another output.
    pub(super) fn writes(&mut self, path: &Path, what: impl Into<String>) -> Result<()> {
        let what = what.into();
        let meta = fs::metadata(path).ok();
        if meta.as_ref().is_some_and(|meta| !meta.is_file() && !meta.is_dir()) {
            // Devices and pipes are written to, not replaced.
            return Ok(());
        }
        let id = meta.as_ref().and_then(|meta| FileId::of(path, meta));
        if let Some(index) = id.as_ref().and_then(|id| self.by_file.get(id)) {
            return Err(self.conflict(path, &what, *index));
        }
        let places = self.places(path);
        for place in &places {
            if let Some(index) = self.by_place.get(place) {
                return Err(self.conflict(path, &what, *index));
            }
            let alike = self.by_folded.get(&folded(place)).cloned().unwrap_or_default();
            if let Some(index) = alike.first()
                && self.ignores_case(place)
            {
                return Err(self.conflict(path, &what, *index));
            }
        }
        if let Some(id) = id {
            self.by_file.insert(id, self.claims.len());
        }
        for place in places {
            self.claim(path, place, What::Written(what.clone()));
        }
        Ok(())
    }

    /// Adds a directory that frames are written to: `000001.png` and so on, an unknown number of
    /// them.
    ///
    /// # Errors
    /// Returns an error if it already contains frames or an input, or cannot be read.
    pub(super) fn writes_frames(&mut self, directory: &Path) -> Result<()> {
        if let Some(held) = crate::video::frame_in(directory)? {
            return Err(error!(Usage, "already contains frames, such as {}", held.display())
                .file(directory)
                .advice("empty it, or name another directory with -o"));
        }
        let place = self.directory(directory);
        let inside = self
            .claims
            .iter()
            .find(|claim| claim.place.parent() == Some(&*place) && claim.is_input());
        match inside {
            Some(claim) => {
                Err(error!(Usage, "holds {}, which is {}", claim.path.display(), claim.what)
                    .file(directory)
                    .advice("name another directory with -o"))
            }
            None => Ok(()),
        }
    }

    fn claim(&mut self, path: &Path, place: PathBuf, what: What) {
        let index = self.claims.len();
        if let Entry::Vacant(entry) = self.by_place.entry(place.clone()) {
            entry.insert(index);
            self.by_folded.entry(folded(&place)).or_default().push(index);
        }
        self.claims.push(Claim { path: path.to_owned(), place, what });
    }

    fn conflict(&self, path: &Path, what: &str, with: usize) -> Error {
        let other = &self.claims[with];
        // The same path twice would be confusing.
        let name =
            if other.path == path { String::new() } else { format!(" ({})", other.path.display()) };
        match &other.what {
            What::Read(role) => error!(Usage, "is {role}{name} and would be replaced by {what}"),
            What::Written(first) => {
                error!(Usage, "would be written twice: as {first}{name} and as {what}")
            }
        }
        .file(path)
        .advice(self.advice)
    }

    /// Returns the resolved directory and name of a path; several if it is a link to a file that
    /// does not exist yet.
    fn places(&mut self, path: &Path) -> Vec<PathBuf> {
        let mut places = Vec::new();
        let mut next = path.to_owned();
        for _ in 0..LINKS {
            let place = match (next.file_name(), next.parent()) {
                (Some(name), Some(parent)) => self.directory(parent).join(name),
                _ => self.directory(&next),
            };
            let target = fs::read_link(&place).ok();
            places.push(place);
            let Some(target) = target else { break };
            // A relative link is relative to its own directory.
            next = next.parent().unwrap_or(Path::new("")).join(target);
        }
        places
    }

    /// Returns a directory without links, `.` and `..`, even if its last components do not exist
    /// yet.
    fn directory(&mut self, path: &Path) -> PathBuf {
        if let Some(found) = self.resolved.get(path) {
            return found.clone();
        }
        let found = resolve(path);
        self.resolved.insert(path.to_owned(), found.clone());
        found
    }

    /// Whether the file system is case-insensitive, tested with a file. Assumed to be if that
    /// fails.
    fn ignores_case(&mut self, place: &Path) -> bool {
        let Some(directory) = place.ancestors().skip(1).find(|a| a.is_dir()).map(Path::to_owned)
        else {
            return true;
        };
        *self.ignoring_case.entry(directory).or_insert_with_key(|directory| {
            let probe = tempfile::Builder::new()
                .prefix(".atrous-Case-")
                .suffix(".tmp")
                .tempfile_in(directory);
            probe.map_or(true, |probe| {
                let name =
                    probe.path().file_name().unwrap_or_default().to_string_lossy().to_lowercase();
                fs::symlink_metadata(directory.join(name)).is_ok()
            })
        })
    }
}

impl Claim {
    fn is_input(&self) -> bool {
        matches!(self.what, What::Read("an input" | "the input"))
    }
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            What::Read(what) => what,
            What::Written(what) => what,
        })
    }
}

fn folded(place: &Path) -> String {
    place.to_string_lossy().to_lowercase()
}

fn resolve(path: &Path) -> PathBuf {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // The system resolves the longest prefix that exists. The rest contains no links and is
    // resolved by name.
    let mut rest: Vec<Component> = Vec::new();
    let mut components = absolute.components();
    loop {
        if let Ok(mut found) = components.as_path().canonicalize() {
            for component in rest.into_iter().rev() {
                match component {
                    Component::ParentDir => drop(found.pop()),
                    other => found.push(other),
                }
            }
            return found;
        }
        match components.next_back() {
            Some(last) => rest.push(last),
            None => return absolute,
        }
    }
}

/// Identity of a file, independent of its name.
#[derive(Debug, PartialEq, Eq, Hash)]
enum FileId {
    #[cfg(unix)]
    Inode { device: u64, number: u64 },
    #[cfg(not(unix))]
    Path(PathBuf),
}

impl FileId {
    #[cfg(unix)]
    fn of(_: &Path, meta: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        Some(FileId::Inode { device: meta.dev(), number: meta.ino() })
    }

    #[cfg(not(unix))]
    fn of(path: &Path, _: &Metadata) -> Option<Self> {
        path.canonicalize().ok().map(FileId::Path)
    }
}

/// Returns the paths in a directory; none if it cannot be read.
fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
#[path = "outputs_tests.rs"]
mod tests;
