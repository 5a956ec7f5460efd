//! `data.yaml`, in which data sets for Ultralytics' programs list their classes and splits.

use crate::error::{Error, Result, error};
use crate::files::read_text_at_most;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Names of the file. Roboflow and CVAT write the first, Ultralytics' documentation has others.
const FILES: [&str; 4] = ["data.yaml", "dataset.yaml", "data.yml", "dataset.yml"];

/// Size limit of the file in bytes. One with a thousand classes has 20 kB.
const MAX_BYTES: u64 = 4 << 20;

/// Maximum number of names. Labels above the background are 16 bits wide, and 65,535 is the largest.
const MAX_NAMES: usize = 65_535;

/// What `data.yaml` states.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DataYaml {
    /// Names of the classes, in the order of their numbers from 0.
    pub(super) names: Option<Vec<String>>,
    /// Directory that `train`, `val` and `test` are relative to.
    pub(super) path: Option<String>,
    /// Directory of the images for training, or a list of their files.
    pub(super) train: Option<String>,
    /// As `train`, for validation.
    pub(super) val: Option<String>,
    /// As `train`, for tests.
    pub(super) test: Option<String>,
}

/// Returns the path of the file in a directory, if it has one.
pub(super) fn path(root: &Path) -> Option<PathBuf> {
    FILES.iter().map(|name| root.join(name)).find(|path| path.is_file())
}

/// Reads the file of a directory; `None` if it has none.
///
/// # Errors
/// Returns an error that names the file if it cannot be read, is not YAML, or has other types than
/// Ultralytics' programs expect.
pub(super) fn read(root: &Path) -> Result<Option<DataYaml>> {
    let Some(file) = path(root) else { return Ok(None) };
    let text = read_text_at_most(&file, MAX_BYTES)?;
    parse(&text).map(Some).map_err(|e| e.file(&file))
}

fn parse(text: &str) -> Result<DataYaml> {
    // The parser's own limits on depth, nodes and aliases refuse what would inflate.
    let options = serde_saphyr::options! { with_snippet: false };
    let stored: Stored = serde_saphyr::from_str_with_options(text, options).map_err(invalid)?;
    let names = stored.names.map(|Names(names)| names);
    if let (Some(names), Some(count)) = (&names, stored.nc)
        && names.len() as u64 != count
    {
        let named = names.len();
        return Err(error!(Data, "`nc` is {count}, but {named} classes are named")
            .advice("make `nc` the number of `names`"));
    }
    let one = |key: &str, paths: Option<Paths>| match paths.map(|Paths(paths)| paths) {
        Some(paths) if paths.len() > 1 => {
            Err(error!(Data, "`{key}` lists {} paths; only one is supported", paths.len())
                .advice("gather the images of a split in one directory"))
        }
        paths => Ok(paths.and_then(|mut paths| paths.pop())),
    };
    Ok(DataYaml {
        names,
        path: stored.path,
        train: one("train", stored.train)?,
        val: one("val", stored.val)?,
        test: one("test", stored.test)?,
    })
}

fn invalid(e: serde_saphyr::Error) -> Error {
    error!(Data, "is not a valid data.yaml")
        .source(e.without_snippet().to_string())
        .advice("`names` must list the classes, and `train`, `val` and `test` must be paths")
}

/// The keys that are read; others are skipped.
#[derive(Deserialize)]
struct Stored {
    names: Option<Names>,
    nc: Option<u64>,
    path: Option<String>,
    train: Option<Paths>,
    #[serde(alias = "valid")]
    val: Option<Paths>,
    test: Option<Paths>,
}

/// Names as a list, or by their numbers.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names, or names by their numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element::<String>()? {
                    names.push(name);
                }
                checked(names)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = BTreeMap::new();
                while let Some((number, name)) = map.next_entry::<u32, String>()? {
                    names.insert(number, name);
                }
                if let Some((expected, found)) =
                    (0..).zip(names.keys()).find(|(expected, found)| expected != *found)
                {
                    let message = format!("class {expected} has no name, but class {found} has");
                    return Err(serde::de::Error::custom(message));
                }
                checked(names.into_values().collect())
            }
        }
        from.deserialize_any(Reader)
    }
}

fn checked<E: serde::de::Error>(names: Vec<String>) -> Result<Names, E> {
    if names.len() > MAX_NAMES {
        return Err(E::custom(format!("more than {MAX_NAMES} classes")));
    }
    Ok(Names(names))
}

/// One path, or a list of them.
struct Paths(Vec<String>);

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Paths;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path")
            }

            fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<Paths, E> {
                Ok(Paths(vec![path.to_owned()]))
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Paths, E> {
                Ok(Paths(Vec::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Paths, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = list.next_element()? {
                    paths.push(path);
                }
                Ok(Paths(paths))
            }
        }
        from.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_a_list_or_a_map_and_splits_are_paths() {
        let list = "path: ../set\ntrain: images/train\nval: [images/val]\ntest:\n\nnc: 2\nnames: ['a b', 7]\nroboflow:\n  license: CC\n";
        let map = "train: images/train\nvalid: images/val\npath: ../set # root\nnames:\n  1: '7'\n  0: a b\n";
        let expected = DataYaml {
            names: Some(vec!["a b".into(), "7".into()]),
            path: Some("../set".into()),
            train: Some("images/train".into()),
            val: Some("images/val".into()),
            test: None,
        };
        assert_eq!(parse(list).unwrap(), expected);
        assert_eq!(parse(map).unwrap(), expected);
        assert_eq!(parse("{}").unwrap(), DataYaml::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, parts) in [
            ("names: [a, b\n", &["not a valid data.yaml", "line"][..]),
            ("names: 3\n", &["a list of names"]),
            ("names: {0: a, 2: b}\n", &["class 1 has no name, but class 2 has"]),
            ("nc: 3\nnames: [a, b]\n", &["`nc` is 3, but 2 classes are named"]),
            ("train: [a, b]\n", &["`train` lists 2 paths"]),
            ("- a\n", &["not a valid data.yaml"]),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }

    #[test]
    fn documents_that_inflate_or_nest_deeply_are_refused() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..9 {
            let lower = format!("*a{}", n - 1);
            laughs += &format!("a{n}: &a{n} [{}]\n", [lower.as_str(); 10].join(", "));
        }
        laughs += "names: *a8\n";
        assert!(parse(&laughs).is_err());
        assert!(parse(&format!("names: {}", "[".repeat(1 << 20))).is_err());
        assert!(parse(&"{names: ".repeat(1 << 16)).is_err());
    }

    #[test]
    fn a_directory_without_the_file_has_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(root.path()).unwrap(), None);
        std::fs::write(root.path().join("dataset.yaml"), "names: [a]\n").unwrap();
        assert_eq!(read(root.path()).unwrap().unwrap().names, Some(vec!["a".into()]));
        std::fs::write(root.path().join("data.yaml"), "names: 1\n").unwrap();
        assert!(read(root.path()).unwrap_err().to_string().contains("data.yaml: is not"));
    }
}
