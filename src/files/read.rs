//! Reading files that users name: never more than a limit, and never from what is no regular file.

use crate::error::{Error, Result, error};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// The longest text that is read: a list of a million pairs of paths is no longer.
const MOST_BYTES: u64 = 64 << 20;

/// What a text in UTF-8 may begin with, and is no part of it.
pub(crate) const BYTE_ORDER_MARK: char = '\u{feff}';

/// Errors (`Io`) where `path` exists and is neither a regular file nor a directory: opening a FIFO
/// waits for a writer that may never come, and a device or a socket has no end. `wanted` is what
/// the caller reads, for the advice ("an image").
///
/// Looked at before it is opened, since the opening itself is what hangs. A path that does not
/// exist is left to whoever opens it.
pub(crate) fn refuse_special(path: &Path, wanted: &str) -> Result<()> {
    match fs::metadata(path) {
        Ok(meta) if !meta.is_file() && !meta.is_dir() => {
            Err(error!(Io, "is {}, not a regular file", special(&meta))
                .file(path)
                .advice(format!("name {wanted} on disk")))
        }
        _ => Ok(()),
    }
}

/// Opens a regular file for reading; `wanted` is what the caller reads, for the advice ("an
/// image").
///
/// Errors (`Io`) name the file: it cannot be opened, is a directory, or a FIFO, socket or device.
pub(crate) fn open_regular(path: &Path, wanted: &str) -> Result<File> {
    refuse_special(path, wanted)?;
    let failed = |e| Error::io(path, "could not be opened", e);
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(error!(Io, "is a directory").file(path).advice(format!("name {wanted}")));
    }
    Ok(file)
}

/// The content of a regular file of at most `most` bytes.
///
/// Errors name the file: as [`open_regular`], or it is longer. Nothing is allocated for a file that
/// is too long.
pub(crate) fn read_bytes(path: &Path, wanted: &str, most: u64) -> Result<Vec<u8>> {
    let file = open_regular(path, wanted)?;
    let unreadable = |e| Error::io(path, "could not be read", e);
    let len = file.metadata().map_err(unreadable)?.len();
    let mut bytes = Vec::new();
    // A file may grow while it is read, and those of /proc have no length: the limit holds for what
    // is read as well.
    if len <= most {
        file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    match len.max(bytes.len() as u64) {
        found if found > most => {
            Err(error!(Data, "is longer than {most} bytes, the limit for {wanted}").file(path))
        }
        _ => Ok(bytes),
    }
}

/// A text file's content, without the byte-order mark that editors on Windows put in front.
///
/// Errors name the file: as [`open_regular`], or it is longer than any list, or no text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    read_text_at_most(path, MOST_BYTES)
}

/// As [`read_text`], with a limit in bytes.
pub(crate) fn read_text_at_most(path: &Path, most: u64) -> Result<String> {
    let bytes = read_bytes(path, "a text file", most)?;
    let text = String::from_utf8(bytes);
    let mut text = text.map_err(|_| {
        error!(Data, "is no text in UTF-8").file(path).advice("save it as plain text in UTF-8")
    })?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    Ok(text)
}

/// What a file is that is neither a regular one nor a directory, in words.
#[cfg(unix)]
pub(crate) fn special(meta: &fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match meta.file_type() {
        t if t.is_fifo() => "a FIFO",
        t if t.is_socket() => "a socket",
        t if t.is_block_device() || t.is_char_device() => "a device",
        _ => "something special",
    }
}

/// What a file is that is neither a regular one nor a directory, in words.
#[cfg(not(unix))]
pub(crate) fn special(_: &fs::Metadata) -> &'static str {
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
        assert_eq!(read_text_at_most(&path, 8).unwrap(), "\u{feff}a\n", "one mark is taken away");
        let error = read_text_at_most(&path, 7).unwrap_err().to_string();
        assert!(error.contains("train.txt: is longer than 7 bytes"), "{error}");
        fs::write(&path, b"\xff\xfea\0").unwrap();
        let error = read_text(&path).unwrap_err().to_string();
        assert!(
            error.contains("train.txt: is no text in UTF-8") && error.contains("save it as"),
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
                error.contains(&format!("is {what}, not a regular file; name an image on disk")),
                "{error}"
            );
        }
        let error = read_text(directory.path()).unwrap_err().to_string();
        assert!(error.contains("is a directory; name a text file"), "{error}");
    }
}
