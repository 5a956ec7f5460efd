//! Weights of this program's own repository, wherever it is installed.
//!
//! They are not part of the program: their license (not for commercial use) is another one. So they
//! are looked for beside the program and where it was built, and identified by their hash.

use super::checksum::Checksum;
use crate::error::{Result, error};
use crate::text;
use std::path::{Path, PathBuf};

/// Returns the path of a file of the repository, given by its path there.
///
/// # Errors
/// Returns an error that lists the places if the file is in none of them, or if it is another one.
pub(super) fn find(file: &str, sha256: &str) -> Result<PathBuf> {
    let program = std::env::current_exe().ok();
    let program = program.map(|path| path.canonicalize().unwrap_or(path));
    find_in(&places(program.as_deref()), file, sha256)
}

/// Returns the directories that may have what is in the root of the repository.
fn places(program: Option<&Path>) -> Vec<PathBuf> {
    let beside = program.and_then(Path::parent);
    let below = |directory: &Path| vec![directory.to_owned(), directory.join("../share/atrous")];
    let mut places = beside.map_or_else(Vec::new, below);
    // `cargo install` keeps the sources that it built from, in a clone or in its own directory.
    places.push(PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    places
}

fn find_in(places: &[PathBuf], file: &str, sha256: &str) -> Result<PathBuf> {
    let candidates: Vec<PathBuf> = places.iter().map(|place| place.join(file)).collect();
    for path in candidates.iter().filter(|path| path.is_file()) {
        if Checksum::Sha256.of_file(path)? == sha256 {
            return Ok(path.clone());
        }
        log::warn!("{}: is not the file of that name in the repository", text::path(path));
    }
    let tried: Vec<String> = candidates.iter().map(text::path).collect();
    Err(error!(Io, "`{file}` of the program's repository is not on this machine")
        .advice("copy it to the first of these places, or pass its path with --weights")
        .detail(tried.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_beside_the_program_and_another_of_its_name_is_not_taken() {
        let root = tempfile::tempdir().unwrap();
        let (bin, share) = (root.path().join("bin"), root.path().join("share/atrous/weights"));
        std::fs::create_dir_all(bin.join("weights")).unwrap();
        std::fs::create_dir_all(&share).unwrap();
        std::fs::write(bin.join("weights/hello"), "another\n").unwrap();
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let places = places(Some(&bin.join("atrous")));
        let error = find_in(&places, "weights/hello", sha256).unwrap_err().to_string();
        assert!(error.contains("weights/hello") && error.contains("--weights"), "{error}");
        std::fs::write(share.join("hello"), "hello\n").unwrap();
        let found = find_in(&places, "weights/hello", sha256).unwrap();
        assert_eq!(std::fs::read(found).unwrap(), b"hello\n");
    }
}
