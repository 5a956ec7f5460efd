//! Reading files given by users: with a size limit, and only from regular files.

use crate::error::{Error, Result, error};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Size limit of text files, enough for a list of a million pairs of paths.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// The byte-order mark that may precede a text in UTF-8 and is not part of it.
pub(crate) const BYTE_ORDER_MARK: char = '\u{feff}';

/// Returns an error (`Io`) if `path` exists and is neither a regular file nor a directory: opening
/// a FIFO waits for a writer that may never come, and reading a device or socket may never end.
/// `expected` describes what the caller reads, for the advice ("an image").
///
/// Checked before opening, because opening itself may block. A missing file is reported on opening.
pub(crate) fn refuse_special(path: &Path, expected: &str) -> Result<()> {
    match fs::metadata(path) {
        Ok(meta) if !meta.is_file() && !meta.is_dir() => {
            Err(error!(Io, "is {}, not a regular file", special_kind(&meta))
                .file(path)
                .advice(format!("pass {expected} on disk")))
        }
        _ => Ok(()),
    }
}

/// Opens a regular file for reading; `expected` describes what the caller reads, for the advice
/// ("an image").
///
/// # Errors
/// Returns an error (`Io`) with the file's name if the file cannot be opened or is a directory,
/// FIFO, socket or device.
pub(crate) fn open_regular(path: &Path, expected: &str) -> Result<File> {
    refuse_special(path, expected)?;
    let failed = |e| Error::io(path, "could not be opened", e);
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(error!(Io, "is a directory").file(path).advice(format!("pass {expected}")));
    }
    Ok(file)
}

/// Reads a regular file of at most `max` bytes.
///
/// # Errors
/// As for [`open_regular`], or if the file is longer. Nothing is allocated for a file that is too
/// long.
pub(crate) fn read_bytes(path: &Path, expected: &str, max: u64) -> Result<Vec<u8>> {
    let file = open_regular(path, expected)?;
    let unreadable = |e| Error::io(path, "could not be read", e);
    let len = file.metadata().map_err(unreadable)?.len();
    let mut bytes = Vec::new();
    // A file may grow while it is read, and files in /proc report no length, so the limit also
    // applies to the bytes read.
    if len <= max {
        file.take(max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if len.max(bytes.len() as u64) > max {
        return Err(
            error!(Data, "the file exceeds the limit of {max} bytes for {expected}").file(path)
        );
    }
    Ok(bytes)
}

/// Reads a text file, without the byte-order mark that Windows editors may add.
///
/// # Errors
/// As for [`open_regular`], or if the file is longer than 64 MiB or not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    read_text_at_most(path, MAX_TEXT_BYTES)
}

/// Like [`read_text`], with a limit in bytes.
pub(crate) fn read_text_at_most(path: &Path, max: u64) -> Result<String> {
    let bytes = read_bytes(path, "a text file", max)?;
    let text = String::from_utf8(bytes);
    let mut text = text.map_err(|_| {
        error!(Data, "the file is not valid UTF-8 text")
            .file(path)
            .advice("save it as plain text in UTF-8")
    })?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    Ok(text)
}

/// Describes the kind of a file that is neither regular nor a directory.
#[cfg(unix)]
pub(crate) fn special_kind(meta: &fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match meta.file_type() {
        t if t.is_fifo() => "a FIFO",
        t if t.is_socket() => "a socket",
        t if t.is_block_device() || t.is_char_device() => "a device",
        _ => "a special file",
    }
}

/// Describes the kind of a file that is neither regular nor a directory.
#[cfg(not(unix))]
pub(crate) fn special_kind(_: &fs::Metadata) -> &'static str {
    "a device"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_too_long_or_no_text_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("train.txt");
        fs::write(&path, "\u{feff}\u{feff}a\n").unwrap();
        assert_eq!(read_text_at_most(&path, 8).unwrap(), "\u{feff}a\n", "only one mark is removed");
        let error = read_text_at_most(&path, 7).unwrap_err().to_string();
        assert!(error.contains("train.txt: the file exceeds the limit of 7 bytes"), "{error}");
        fs::write(&path, b"\xff\xfea\0").unwrap();
        let error = read_text(&path).unwrap_err().to_string();
        assert!(
            error.contains("train.txt: the file is not valid UTF-8 text")
                && error.contains("save it as"),
            "{error}"
        );
        assert!(
            read_text(&directory.path().join("none.txt"))
                .unwrap_err()
                .to_string()
                .contains("none.txt: could not be")
        );
    }

    #[cfg(unix)]
    #[test]
    fn fifos_devices_and_sockets_are_refused_before_they_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let (fifo, socket) = (directory.path().join("fifo"), directory.path().join("socket"));
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, what) in
            [(&*fifo, "a FIFO"), (&*socket, "a socket"), (Path::new("/dev/zero"), "a device")]
        {
            let error = read_bytes(path, "an image", 1 << 20).unwrap_err().to_string();
            assert!(
                error.contains(&format!("is {what}, not a regular file; pass an image on disk")),
                "{error}"
            );
        }
        let error = read_text(directory.path()).unwrap_err().to_string();
        assert!(error.contains("is a directory; pass a text file"), "{error}");
    }
}
