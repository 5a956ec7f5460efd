//! The directory of a run: `recipe.toml`, `origin.json`, `checkpoint.safetensors`,
//! `best.safetensors`, `last.safetensors`, `log.jsonl`, `report.html`, event files, and `lock`,
//! which says who trains in it.

use super::recipe::Recipe;
use crate::error::{Error, Result, error};
use crate::files::{
    DirectoryLock, atomic_write, json_path, read_text_at_most, remove_stale_temporaries,
};
use crate::image::ClassTable;
use crate::report::LOG;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// What a run came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Directory of the data set.
    #[serde(with = "json_path")]
    pub data: PathBuf,
    /// The classes, where they are not the data set's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<ClassTable>,
    /// The weights that it began with.
    #[serde(default, with = "json_path::optional", skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
}

/// How the names of temporary files begin: those of today, and those that earlier versions gave to
/// weights.
const TEMPORARY: [&str; 4] =
    [".atrous-", ".checkpoint.safetensors.", ".best.safetensors.", ".last.safetensors."];

const LOCK: &str = "lock";
const RECIPE: &str = "recipe.toml";
const ORIGIN: &str = "origin.json";

/// The longest `origin.json` that is read; with 4096 named classes it has half a megabyte.
const MOST_BYTES: u64 = 16 << 20;

/// How often a directory is made anew that another process, whose run did not come about, removed
/// again.
const TRIES: usize = 64;

/// The directory of a run, owned by this process: until this is dropped, no other process trains in
/// it.
///
/// Where a run does not come about ([`Run::begin`](super::Run::begin) or
/// [`Run::resume`](super::Run::resume) fails, or is not called), the directory is left as it was
/// found: what was made for the run is removed again.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// `None` only while this is dropped.
    lock: Option<DirectoryLock>,
    /// Directories that were made for it, the innermost first.
    made: Vec<PathBuf>,
    /// What was there before the files of a new run; `None` before any are written.
    before: Option<HashSet<OsString>>,
    /// Whether the run has come about, so that everything stays.
    begun: bool,
}

impl RunDirectory {
    /// The directory of a new run, made where there is none.
    ///
    /// # Errors
    /// Where another process trains in it, it holds a run already or files that a run would
    /// overwrite, or it cannot be written.
    pub fn create(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        // Who trains in it matters more than what is in it; and where nobody may be, nothing is
        // made for what is refused.
        if !dir.join(LOCK).exists() {
            vacant(dir)?;
        }
        for _ in 0..TRIES {
            let made = create_directories(dir)?;
            match DirectoryLock::acquire(dir, LOCK, "is being trained") {
                Ok(lock) => {
                    let owned = Self {
                        path: dir.to_owned(),
                        lock: Some(lock),
                        made,
                        before: None,
                        begun: false,
                    };
                    vacant(dir)?;
                    return Ok(owned);
                }
                Err(_) if !dir.is_dir() => {}
                Err(e) => {
                    remove_directories(&made);
                    return Err(e);
                }
            }
        }
        Err(error!(Io, "could not be made: it is removed again and again").file(dir))
    }

    /// The directory of a run that is to go on.
    ///
    /// # Errors
    /// Where another process trains in it, it holds no run, or it cannot be written.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let none = || {
            error!(Usage, "holds no run to go on with")
                .file(dir)
                .advice("begin one without `--resume`")
        };
        let checkpoint = dir.join("checkpoint.safetensors");
        if !dir.join(LOCK).exists() && !checkpoint.is_file() {
            return Err(none());
        }
        let lock = Some(DirectoryLock::acquire(dir, LOCK, "is being trained")?);
        let owned =
            Self { path: dir.to_owned(), lock, made: Vec::new(), before: None, begun: false };
        if !checkpoint.is_file() {
            return Err(none());
        }
        Ok(owned)
    }

    /// Errors where the directory is no longer free for a new run.
    pub(super) fn check_vacant(&self) -> Result<()> {
        vacant(&self.path)
    }

    /// Writes what a new run is.
    pub(super) fn write(&mut self, recipe: &Recipe, origin: &Origin) -> Result<()> {
        vacant(&self.path)?;
        let failed = |e| Error::io(&self.path, "could not be listed", e);
        let names = fs::read_dir(&self.path)
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.file_name()));
        self.before = Some(names.collect::<std::io::Result<_>>().map_err(failed)?);
        self.sweep()?;
        let json = serde_json::to_string_pretty(origin);
        let json = json.map_err(|e| {
            error!(Io, "cannot be written as JSON: {e}").file(self.path.join(ORIGIN))
        })?;
        let text = |text: String| {
            move |w: &mut std::io::BufWriter<&fs::File>| {
                std::io::Write::write_all(w, text.as_bytes())
            }
        };
        // In this order: a recipe without an origin is somebody else's (see `vacant`).
        atomic_write(self.path.join(ORIGIN), text(json))?;
        atomic_write(self.path.join(RECIPE), text(recipe.to_toml()?))
    }

    /// What a run is.
    pub(super) fn read(&self) -> Result<(Recipe, Origin)> {
        let path = self.path.join(ORIGIN);
        let text = read_text_at_most(&path, MOST_BYTES)?;
        let origin = serde_json::from_str(&text)
            .map_err(|e| error!(Config, "does not say where a run came from: {e}").file(&path))?;
        Ok((Recipe::read(self.path.join(RECIPE))?, origin))
    }

    /// Removes what a run that was killed left half-written: files under the temporary names that
    /// this program gives, and no other.
    pub(super) fn sweep(&self) -> Result<()> {
        let is_temporary = |name: &str| {
            TEMPORARY.iter().any(|start| name.starts_with(start)) && name.ends_with(".tmp")
        };
        match &self.lock {
            Some(lock) => remove_stale_temporaries(lock, &self.path, is_temporary).map(drop),
            None => Ok(()),
        }
    }

    /// Notes that the run has come about: everything stays from here on.
    pub(super) fn begin(&mut self) {
        self.begun = true;
    }

    /// Where it is.
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

    /// Removes the files of a run that did not come about. `vacant` has made sure that these names
    /// are no one else's.
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
                // What went wrong before is what is reported.
                let _ = fs::remove_file(self.path.join(name));
            }
        }
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        if self.begun {
            return;
        }
        self.remove_files();
        lock.undo();
        remove_directories(&self.made);
    }
}

/// Errors where a directory holds a run, or what a new one would overwrite.
fn vacant(dir: &Path) -> Result<()> {
    let at = |name: &str| dir.join(name);
    if at("checkpoint.safetensors").exists() {
        return Err(error!(Usage, "holds a run already")
            .file(dir)
            .advice("go on with it by `--resume`, or name another directory"));
    }
    // Records are begun after the first checkpoint: where they are alone, somebody has taken the
    // checkpoint away and kept the rest.
    if let Some(left) =
        [LOG, "best.safetensors", "last.safetensors"].map(at).into_iter().find(|path| path.exists())
    {
        return Err(error!(Usage, "is of an earlier run, which a new one would overwrite")
            .file(left)
            .advice("name another directory, or move this one's files away"));
    }
    // A run that was killed before its first checkpoint leaves both of these, and is begun anew.
    if at(RECIPE).exists() && !at(ORIGIN).exists() {
        return Err(error!(Usage, "is there already, and a new run would overwrite it")
            .file(at(RECIPE))
            .advice("name another directory for the run, or rename the file"));
    }
    Ok(())
}

/// Makes a directory and those above it; the new ones, the innermost first.
fn create_directories(dir: &Path) -> Result<Vec<PathBuf>> {
    let missing = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
    let made: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    fs::create_dir_all(dir).map_err(|e| {
        remove_directories(&made);
        Error::io(dir, "could not be made", e)
    })?;
    Ok(made)
}

/// Removes directories as far as they are empty.
fn remove_directories(made: &[PathBuf]) {
    for dir in made {
        // One that somebody else has put something into stays.
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
        Origin { data: "data".into(), classes: None, init: None }
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
        owned.begin();
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
            RunDirectory::create(&path).unwrap_err().to_string().contains("holds a run already")
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
        let origin = Origin { data: odd.clone(), classes: None, init: Some(odd) };
        let mut owned = RunDirectory::create(root.path().join("run")).unwrap();
        owned.write(&Recipe::default(), &origin).unwrap();
        assert_eq!(owned.read().unwrap(), (Recipe::default(), origin));
    }
}
