//! The folder of a run: `recipe.toml`, `origin.json`, `checkpoint.safetensors`, `best.safetensors`, `last.safetensors`, `log.jsonl`,
//! `report.html`.

use super::recipe::Recipe;
use crate::error::{Error, Result, error};
use crate::files::{atomic_write, read_text};
use crate::image::ClassTable;
use crate::report::LOG;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// What a run came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Folder of the data set.
    pub data: PathBuf,
    /// The classes, where they are not the data set's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<ClassTable>,
    /// The weights that it began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
}

/// How the names of temporary files begin: those of [`atomic_write`], and of the weights' three.
const HALF_WRITTEN: [&str; 4] = [".atrous-", ".checkpoint.safetensors.", ".best.safetensors.", ".last.safetensors."];

/// Paths inside a run's folder.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Errors where the folder holds a run, or what one left.
    pub(super) fn vacant(dir: &Path) -> Result<()> {
        let folder = Self(dir.to_owned());
        if folder.checkpoint().exists() {
            return Err(error!(Usage, "holds a run already")
                .file(dir)
                .advice("go on with it by `--resume`, or name another folder"));
        }
        // Records are begun after the first checkpoint: where they are alone, somebody has taken the checkpoint away and kept the rest.
        match [dir.join(LOG), folder.best(), folder.last()].into_iter().find(|path| path.exists()) {
            Some(left) => Err(error!(Usage, "is of an earlier run, which a new one would overwrite")
                .file(left)
                .advice("name another folder, or move this one's files away")),
            None => Ok(()),
        }
    }

    /// Makes the folder where there is none, and writes what the run is.
    pub(super) fn begin(dir: &Path, recipe: &Recipe, origin: &Origin) -> Result<Self> {
        Self::vacant(dir)?;
        let folder = Self(dir.to_owned());
        fs::create_dir_all(dir).map_err(|e| Error::io(dir, "could not be made", e))?;
        folder.sweep()?;
        let text = |text: String| move |w: &mut std::io::BufWriter<&fs::File>| std::io::Write::write_all(w, text.as_bytes());
        atomic_write(dir.join("recipe.toml"), text(recipe.to_toml()?))?;
        let json = serde_json::to_string_pretty(origin).map_err(|e| error!(Io, "cannot be written as JSON: {e}").file(dir))?;
        atomic_write(dir.join("origin.json"), text(json))?;
        Ok(folder)
    }

    /// The run of a folder.
    pub(super) fn open(dir: &Path) -> Result<(Self, Recipe, Origin)> {
        let folder = Self(dir.to_owned());
        if !folder.checkpoint().is_file() {
            return Err(error!(Usage, "holds no run to go on with").file(dir).advice("begin one without `--resume`"));
        }
        folder.sweep()?;
        let path = dir.join("origin.json");
        let text = read_text(&path)?;
        let origin =
            serde_json::from_str(&text).map_err(|e| error!(Config, "does not say where a run came from: {e}").file(&path))?;
        Ok((folder, Recipe::read(dir.join("recipe.toml"))?, origin))
    }

    /// Removes what a run that was killed left half-written: files under the temporary names that this program gives, and no other.
    fn sweep(&self) -> Result<()> {
        let failed = |e| Error::io(&self.0, "could not be listed", e);
        for entry in fs::read_dir(&self.0).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let ours = HALF_WRITTEN.iter().any(|start| name.starts_with(start)) && name.ends_with(".tmp");
            if ours && path.is_file() {
                fs::remove_file(&path).map_err(|e| Error::io(&path, "could not be removed", e))?;
            }
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint.safetensors")
    }

    pub(super) fn best(&self) -> PathBuf {
        self.0.join("best.safetensors")
    }

    pub(super) fn last(&self) -> PathBuf {
        self.0.join("last.safetensors")
    }

    pub(super) fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }
}
