//! Paths in JSON, for `#[serde(with = "json_path")]`: JSON holds Unicode, and names of files are not always.
//!
//! A path that is UTF-8 is a plain string, as serde writes it. Another one is an object with a text for people and its exact form:
//! `{"lossy": "a\ufffd.png", "bytes": [97, 255, 46, 112, 110, 103]}` on Unix, `{"lossy": .., "wide": [..]}` on Windows.

#[cfg(any(feature = "cli", test))]
use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeMap;
use std::path::Path;

/// Writes a path.
///
/// # Errors
/// Those of the serializer.
pub(crate) fn serialize<S: Serializer>(path: impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    let path = path.as_ref();
    if let Some(text) = path.to_str() {
        return serializer.serialize_str(text);
    }
    let mut map = serializer.serialize_map(Some(2))?;
    map.serialize_entry("lossy", &path.to_string_lossy())?;
    #[cfg(unix)]
    map.serialize_entry("bytes", std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))?;
    #[cfg(windows)]
    map.serialize_entry("wide", &std::os::windows::ffi::OsStrExt::encode_wide(path.as_os_str()).collect::<Vec<u16>>())?;
    map.end()
}

/// A path as a value of its own, for options and lists.
#[cfg(any(feature = "cli", test))]
pub(crate) struct JsonPath<'a>(pub &'a Path);

#[cfg(any(feature = "cli", test))]
impl Serialize for JsonPath<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.0, serializer)
    }
}

/// As the module, for paths that may be absent (`null`).
#[cfg(feature = "cli")]
pub(crate) mod option {
    use super::{JsonPath, Path, Serialize, Serializer};

    /// Writes a path or `null`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub(crate) fn serialize<P: AsRef<Path>, S: Serializer>(path: &Option<P>, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_ref().map(|path| JsonPath(path.as_ref())).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf_8_paths_stay_plain_strings() {
        let json = |path: &str| serde_json::to_string(&JsonPath(Path::new(path))).unwrap();
        assert_eq!(json("a/ä.png"), "\"a/ä.png\"");
        assert_eq!(json(""), "\"\"");
    }

    #[cfg(unix)]
    #[test]
    fn other_paths_keep_their_bytes_beside_a_readable_form() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"a\xff.png"));
        let json = serde_json::to_string(&JsonPath(path)).unwrap();
        assert_eq!(json, "{\"lossy\":\"a\u{fffd}.png\",\"bytes\":[97,255,46,112,110,103]}");
    }
}
