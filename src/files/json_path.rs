//! Paths in JSON, including those that are not Unicode:
//! `#[serde(with = "crate::files::json_path")]`.
//!
//! A UTF-8 path is a plain string. Any other path is an object with its text, in which invalid
//! parts are replaced, and its code units on the system that wrote it:
//! `{"lossy": "ds_?", "bytes": [100, 115, 95, 255]}`, on Windows `wide` instead of `bytes`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Text(String),
    Raw(Raw),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    lossy: String,
    /// On Unix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<Vec<u8>>,
    /// On Windows, in UTF-16 with unpaired surrogates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wide: Option<Vec<u16>>,
}

fn store(path: &Path) -> Stored {
    if let Some(text) = path.to_str() {
        return Stored::Text(text.to_owned());
    }
    let lossy = path.to_string_lossy().into_owned();
    #[cfg(unix)]
    let (bytes, wide) =
        (Some(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec()), None);
    #[cfg(windows)]
    let (bytes, wide) =
        (None, Some(std::os::windows::ffi::OsStrExt::encode_wide(path.as_os_str()).collect()));
    #[cfg(not(any(unix, windows)))]
    let (bytes, wide) = (None, None);
    Stored::Raw(Raw { lossy, bytes, wide })
}

/// Returns the path, or the text of a path from another system, which has no meaning here.
fn load(stored: Stored) -> PathBuf {
    let raw = match stored {
        Stored::Text(text) => return text.into(),
        Stored::Raw(raw) => raw,
    };
    #[cfg(unix)]
    let native: Option<OsString> = raw.bytes.map(std::os::unix::ffi::OsStringExt::from_vec);
    #[cfg(windows)]
    let native: Option<OsString> =
        raw.wide.map(|wide| std::os::windows::ffi::OsStringExt::from_wide(&wide));
    #[cfg(not(any(unix, windows)))]
    let native: Option<OsString> = None;
    native.unwrap_or_else(|| raw.lossy.into()).into()
}

/// Writes a path.
pub(crate) fn serialize<S: Serializer>(path: impl AsRef<Path>, to: S) -> Result<S::Ok, S::Error> {
    store(path.as_ref()).serialize(to)
}

/// Reads a path.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    Stored::deserialize(from).map(load)
}

/// Serialization of optional paths; they also need `#[serde(default)]`.
pub(crate) mod optional {
    use super::{
        Deserialize, Deserializer, Path, PathBuf, Serialize, Serializer, Stored, load, store,
    };

    /// Writes a path, or null.
    pub(crate) fn serialize<P: AsRef<Path>, S: Serializer>(
        path: &Option<P>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_ref().map(|path| store(path.as_ref())).serialize(to)
    }

    /// Reads a path, or null.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<Stored>::deserialize(from)?.map(load))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        #[serde(with = "super")]
        path: PathBuf,
        #[serde(default, with = "super::optional", skip_serializing_if = "Option::is_none")]
        other: Option<PathBuf>,
    }

    fn back(holder: &Holder) -> Holder {
        serde_json::from_str(&serde_json::to_string(holder).unwrap()).unwrap()
    }

    #[test]
    fn a_path_in_utf8_is_a_plain_string() {
        let holder = Holder { path: "data/größe".into(), other: None };
        assert_eq!(serde_json::to_string(&holder).unwrap(), r#"{"path":"data/größe"}"#);
        assert_eq!(back(&holder), holder);
        let holder = Holder { other: Some("b".into()), ..holder };
        assert_eq!(back(&holder), holder);
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_no_utf8_comes_back_byte_by_byte() {
        use std::os::unix::ffi::OsStringExt;
        let path = PathBuf::from(OsString::from_vec(b"ds_\xff".to_vec()));
        let holder = Holder { path: path.clone(), other: Some(path) };
        let text = serde_json::to_string(&holder).unwrap();
        assert!(text.contains("\"lossy\":\"ds_\u{fffd}\""), "{text}");
        assert_eq!(back(&holder), holder);
    }

    #[test]
    fn a_path_of_another_system_is_its_text() {
        let other = if cfg!(windows) { r#""bytes":[255]"# } else { r#""wide":[55296]"# };
        let holder: Holder =
            serde_json::from_str(&format!(r#"{{"path":{{"lossy":"ds_?",{other}}}}}"#)).unwrap();
        assert_eq!(holder.path, Path::new("ds_?"));
    }
}
