//! The run directory: `recipe.toml`, `origin.json`, `checkpoint.safetensors`, `best.safetensors`,
//! `last.safetensors`, `log.jsonl`, `report.html`, event files, and `lock`, which names the process
//! that trains in it.

use super::recipe::Recipe;
use crate::data::DataSource;
use crate::error::{Error, Result, error};
use crate::files::{
    DirectoryLock, atomic_write, json_path, read_text_at_most, remove_stale_temporaries,
};
use crate::image::ClassTable;
use crate::report::LOG;
use crate::text::printable_json;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Data and weights that a run started from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The data set.
    pub data: DataSource,
    /// Further data sets with the same classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_data: Vec<DataSource>,
    /// Classes, if they override the data set's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<ClassTable>,
    /// The command that started the run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// Initial weights.
    #[serde(default, with = "json_path::optional", skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
}

impl Origin {
    /// All data sets.
    pub fn sources(&self) -> impl Iterator<Item = &DataSource> {
        std::iter::once(&self.data).chain(&self.more_data)
    }
}

/// Prefixes of temporary files: the current one, and those that earlier versions used for weights.
const TEMPORARY: [&str; 4] =
    [".atrous-", ".checkpoint.safetensors.", ".best.safetensors.", ".last.safetensors."];

const LOCK: &str = "lock";
const RECIPE: &str = "recipe.toml";
const ORIGIN: &str = "origin.json";

/// Maximum size of `origin.json`; with 4096 named classes it has half a megabyte.
const MAX_BYTES: u64 = 16 << 20;

/// Attempts to create a directory that another process, whose run failed to start, removes at the
/// same time.
const TRIES: usize = 64;

/// A run directory, locked by this process: no other process trains in it until this is dropped.
///
/// If the run does not start ([`Run::begin`](super::Run::begin) or
/// [`Run::resume`](super::Run::resume) fails or is not called), the directory is restored to its
/// previous state: files created for the run are removed.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// `None` only while this is dropped.
    lock: Option<DirectoryLock>,
    /// Directories created for the run, innermost first.
    created: Vec<PathBuf>,
    /// File names present before the run wrote its first file; `None` until then.
    before: Option<HashSet<OsString>>,
    /// Whether the run has started, so that its files are kept.
    started: bool,
}

impl RunDirectory {
    /// Names of the files that a run writes, except for the event files for TensorBoard.
    pub const FILES: [&str; 8] = [
        "best.safetensors",
        "checkpoint.safetensors",
        "last.safetensors",
        LOCK,
        LOG,
        ORIGIN,
        RECIPE,
        "report.html",
    ];

    /// Opens the directory of a new run, and creates it if it does not exist.
    ///
    /// # Errors
    /// Returns an error if another process trains in it, if it contains a run or files that a run
    /// would overwrite, or if it is not writable.
    pub fn create(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        // A lock takes precedence over the contents. If there is no lock, refuse before creating
        // anything.
        if !dir.join(LOCK).exists() {
            check_free(dir)?;
        }
        for _ in 0..TRIES {
            let created = create_directories(dir)?;
            match DirectoryLock::acquire(dir, LOCK, "is being trained") {
                Ok(lock) => {
                    let owned = Self {
                        path: dir.to_owned(),
                        lock: Some(lock),
                        created,
                        before: None,
                        started: false,
                    };
                    check_free(dir)?;
                    return Ok(owned);
                }
                Err(_) if !dir.is_dir() => {}
                Err(e) => {
                    remove_directories(&created);
                    return Err(e);
                }
            }
        }
        Err(error!(Io, "could not create the directory: another process keeps removing it")
            .file(dir))
    }

    /// Opens the directory of an existing run, to resume it.
    ///
    /// # Errors
    /// Returns an error if another process trains in it, if it does not contain a run, or if it is
    /// not writable.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let no_run =
            || error!(Usage, "no run to resume").file(dir).advice("start one without `--resume`");
        let checkpoint = dir.join("checkpoint.safetensors");
        if !dir.join(LOCK).exists() && !checkpoint.is_file() {
            return Err(no_run());
        }
        let lock = Some(DirectoryLock::acquire(dir, LOCK, "is being trained")?);
        let owned =
            Self { path: dir.to_owned(), lock, created: Vec::new(), before: None, started: false };
        if !checkpoint.is_file() {
            return Err(no_run());
        }
        Ok(owned)
    }

    /// Returns an error if the directory is no longer free for a new run.
    pub(super) fn check_free(&self) -> Result<()> {
        check_free(&self.path)
    }

    /// Writes the recipe and origin of a new run.
    pub(super) fn write(&mut self, recipe: &Recipe, origin: &Origin) -> Result<()> {
        check_free(&self.path)?;
        let failed = |e| Error::io(&self.path, "could not list the directory", e);
        let names = fs::read_dir(&self.path)
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.file_name()));
        self.before = Some(names.collect::<std::io::Result<_>>().map_err(failed)?);
        self.sweep()?;
        let json = serde_json::to_string_pretty(origin);
        let json = json.map_err(|e| {
            error!(Io, "could not serialize as JSON: {e}").file(self.path.join(ORIGIN))
        })?;
        let json = printable_json(&json);
        // In this order: a recipe without an origin belongs to the user (see `check_free`).
        atomic_write(self.path.join(ORIGIN), |w| std::io::Write::write_all(w, json.as_bytes()))?;
        self.write_recipe(recipe)
    }

    /// Replaces the recipe of the run.
    pub(super) fn write_recipe(&self, recipe: &Recipe) -> Result<()> {
        let text = recipe.to_toml()?;
        atomic_write(self.path.join(RECIPE), |w| std::io::Write::write_all(w, text.as_bytes()))
    }

    /// Reads the recipe and origin of the run.
    pub(super) fn read(&self) -> Result<(Recipe, Origin)> {
        let path = self.path.join(ORIGIN);
        let text = read_text_at_most(&path, MAX_BYTES)?;
        let origin = serde_json::from_str(&text)
            .map_err(|e| error!(Config, "invalid run origin: {e}").file(&path))?;
        Ok((Recipe::read(self.path.join(RECIPE))?, origin))
    }

    /// Removes files that a killed run left half-written. Touches only temporary names of this
    /// program.
    pub(super) fn sweep(&self) -> Result<()> {
        let is_temporary = |name: &str| {
            TEMPORARY.iter().any(|prefix| name.starts_with(prefix)) && name.ends_with(".tmp")
        };
        match &self.lock {
            Some(lock) => remove_stale_temporaries(lock, &self.path, is_temporary).map(drop),
            None => Ok(()),
        }
    }

    /// Marks the run as started: all files are kept from here on.
    pub(super) fn mark_started(&mut self) {
        self.started = true;
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.safetensors")
    }

    pub(super) fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    pub(super) fn last(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    pub(super) fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// Removes the files of a run that did not start. `check_free` has made sure that they were not
    /// there before.
    fn remove_files(&self) {
        let Some(before) = &self.before else { return };
        let ours = [RECIPE, ORIGIN, LOG, "checkpoint.safetensors"];
        let names =
            fs::read_dir(&self.path).into_iter().flatten().flatten().map(|entry| entry.file_name());
        for name in names.filter(|name| !before.contains(name)) {
            let is_ours = name
                .to_str()
                .is_some_and(|n| ours.contains(&n) || n.starts_with("events.out.tfevents."));
            if is_ours {
                // Report only the original error.
                let _ = fs::remove_file(self.path.join(name));
            }
        }
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        if self.started {
            return;
        }
        self.remove_files();
        lock.undo();
        remove_directories(&self.created);
    }
}

/// Returns an error if a directory contains a run, or files that a new one would overwrite.
fn check_free(dir: &Path) -> Result<()> {
    let at = |name: &str| dir.join(name);
    if at("checkpoint.safetensors").exists() {
        return Err(error!(Usage, "already contains a run")
            .file(dir)
            .advice("resume it with `--resume`, or choose another directory"));
    }
    // The log is created after the first checkpoint: if it is there alone, the user has moved the
    // checkpoint away and kept the rest.
    if let Some(left) = [LOG, "best.safetensors", "last.safetensors", "report.html"]
        .map(at)
        .into_iter()
        .find(|path| path.exists())
    {
        return Err(error!(Usage, "belongs to an earlier run, and a new run would overwrite it")
            .file(left)
            .advice("choose another directory, or move the files of this run away"));
    }
    // A run that was killed before its first checkpoint leaves both files, and may be replaced.
    for (name, other) in [(RECIPE, ORIGIN), (ORIGIN, RECIPE)] {
        if at(name).exists() && !at(other).exists() {
            return Err(error!(Usage, "already exists, and a new run would overwrite it")
                .file(at(name))
                .advice("choose another directory for the run, or rename the file"));
        }
    }
    Ok(())
}

/// Creates a directory and its missing parents. Returns the new ones, innermost first.
fn create_directories(dir: &Path) -> Result<Vec<PathBuf>> {
    let missing = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
    let created: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    fs::create_dir_all(dir).map_err(|e| {
        remove_directories(&created);
        Error::io(dir, "could not create the directory", e)
    })?;
    Ok(created)
}

/// Removes directories in order, up to the first that is not empty.
fn remove_directories(dirs: &[PathBuf]) {
    for dir in dirs {
        // Fails if another process has put a file into it.
        if fs::remove_dir(dir).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn origin() -> Origin {
        let command = String::new();
        Origin { data: "data".into(), more_data: Vec::new(), classes: None, command, init: None }
    }

    #[test]
    fn a_run_that_does_not_come_about_leaves_no_trace() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        drop(RunDirectory::create(&dir).unwrap());
        assert!(!root.path().join("a").exists());
        let mut owned = RunDirectory::create(&dir).unwrap();
        owned.write(&Recipe::default(), &origin()).unwrap();
        fs::write(owned.checkpoint(), "").unwrap();
        drop(owned);
        assert!(!root.path().join("a").exists());

        fs::create_dir(root.path().join("kept")).unwrap();
        fs::write(root.path().join("kept/notes.txt"), "").unwrap();
        let mut owned = RunDirectory::create(root.path().join("kept")).unwrap();
        owned.write(&Recipe::default(), &origin()).unwrap();
        assert_eq!(names(owned.path()), ["lock", "notes.txt", "origin.json", "recipe.toml"]);
        drop(owned);
        assert_eq!(names(&root.path().join("kept")), ["notes.txt"]);
    }

    #[test]
    fn a_directory_has_one_owner_and_the_other_is_refused_with_its_process() {
        let root = tempfile::tempdir().unwrap();
        let mut owned = RunDirectory::create(root.path().join("run")).unwrap();
        owned.write(&Recipe::default(), &origin()).unwrap();
        owned.mark_started();
        fs::write(owned.checkpoint(), "").unwrap();
        let temporary = owned.path().join(".atrous-x.tmp");
        fs::write(&temporary, "").unwrap();
        let before = names(owned.path());
        for refused in [RunDirectory::create(owned.path()), RunDirectory::open(owned.path())] {
            let text = refused.unwrap_err().to_string();
            assert!(text.contains("is being trained by"), "{text}");
            #[cfg(unix)]
            assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        }
        assert_eq!(names(owned.path()), before, "the temporary file is the owner's");
        let path = owned.path().to_owned();
        drop(owned);
        assert!(
            RunDirectory::create(&path).unwrap_err().to_string().contains("already contains a run")
        );
        RunDirectory::open(&path).unwrap().sweep().unwrap();
        assert!(!temporary.exists());
    }

    #[test]
    fn a_recipe_that_is_no_runs_is_not_overwritten() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("recipe.toml"), "# mine\nsteps = 3\n").unwrap();
        let text = RunDirectory::create(root.path()).unwrap_err().to_string();
        assert!(text.contains("recipe.toml") && text.contains("would overwrite it"), "{text}");
        assert_eq!(names(root.path()), ["recipe.toml"]);
        // With an origin it is what a run left that was killed before its first checkpoint.
        fs::write(root.path().join("origin.json"), "{}").unwrap();
        RunDirectory::create(root.path()).unwrap().write(&Recipe::default(), &origin()).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn an_origin_in_a_directory_whose_name_is_no_utf8_comes_back() {
        use std::os::unix::ffi::OsStringExt;
        let root = tempfile::tempdir().unwrap();
        let odd = PathBuf::from(OsString::from_vec(b"ds_\xff".to_vec()));
        let data = DataSource::from(odd.clone());
        let more_data = vec![data.clone()];
        let origin = Origin { data, more_data, init: Some(odd), ..origin() };
        let mut owned = RunDirectory::create(root.path().join("run")).unwrap();
        owned.write(&Recipe::default(), &origin).unwrap();
        assert_eq!(owned.read().unwrap(), (Recipe::default(), origin));
    }
}
