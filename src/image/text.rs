//! Text files that people write: tables of classes, lists of names.

use crate::error::{Error, Result, error};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The longest text that is read: a list of a million pairs of paths is no longer.
const MOST_BYTES: u64 = 64 << 20;

/// What a text in UTF-8 may begin with, and is no part of it.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// A text file's content, without the byte-order mark that editors on Windows put in front.
///
/// Errors name the file: it cannot be read, is longer than any list, or no text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    read_at_most(path, MOST_BYTES)
}

fn read_at_most(path: &Path, most: u64) -> Result<String> {
    let unreadable = |e| Error::io(path, "could not be read", e);
    let mut bytes = Vec::new();
    // A pipe or a device has no length: stop where the limit is passed.
    File::open(path).map_err(unreadable)?.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(error!(Data, "is longer than {most} bytes, which no list of names or classes is").file(path));
    }
    let text = String::from_utf8(bytes);
    let mut text = text.map_err(|_| error!(Data, "is no text in UTF-8").file(path).advice("save it as plain text in UTF-8"))?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_too_long_or_no_text_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.txt");
        std::fs::write(&path, "\u{feff}\u{feff}a\n").unwrap();
        assert_eq!(read_at_most(&path, 8).unwrap(), "\u{feff}a\n", "one mark is taken away");
        let error = read_at_most(&path, 7).unwrap_err().to_string();
        assert!(error.contains("train.txt: is longer than 7 bytes"), "{error}");
        std::fs::write(&path, b"\xff\xfea\0").unwrap();
        let error = read_text(&path).unwrap_err().to_string();
        assert!(error.contains("train.txt: is no text in UTF-8") && error.contains("save it as"), "{error}");
        assert!(read_text(&folder.path().join("none.txt")).unwrap_err().to_string().contains("none.txt: could not be read"));
    }
}
