//! Verification of files: a hub identifies the content of a file by a hash.

use crate::error::{Error, Result};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The hash that an etag of the hub is: SHA-256 of large files, and for small ones git's SHA-1 of a
/// blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    Sha256,
    GitBlob,
}

impl Checksum {
    /// Returns the hash that an etag is, by its length. `None` if it is no hash.
    pub fn of_etag(etag: &str) -> Option<Self> {
        let is_hex = etag.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match etag.len() {
            64 if is_hex => Some(Self::Sha256),
            40 if is_hex => Some(Self::GitBlob),
            _ => None,
        }
    }

    /// Returns the name of the hash for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::GitBlob => "git's SHA-1",
        }
    }

    /// Returns the hash of a file in hexadecimal digits.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(self, path: &Path) -> Result<String> {
        let failed = |e| Error::io(path, "could not be read", e);
        let mut file = File::open(path).map_err(failed)?;
        match self {
            Self::Sha256 => digest(Sha256::new(), &mut file).map_err(failed),
            Self::GitBlob => {
                let len = file.metadata().map_err(failed)?.len();
                let header = Sha1::new_with_prefix(format!("blob {len}\0"));
                digest(header, &mut file).map_err(failed)
            }
        }
    }
}

fn digest<D: Digest>(mut hasher: D, file: &mut File) -> std::io::Result<String> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum_and_of_git() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hello");
        std::fs::write(&path, "hello\n").unwrap();
        // `sha256sum`, and `git hash-object`.
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        for etag in [sha256, git] {
            assert_eq!(Checksum::of_etag(etag).unwrap().of_file(&path).unwrap(), etag);
        }
        assert_eq!(Checksum::of_etag("5891b5b5"), None);
        assert_eq!(Checksum::of_etag(&"G".repeat(64)), None);
    }
}
