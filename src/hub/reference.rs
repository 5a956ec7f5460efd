//! The syntax of names: `hf:OWNER/NAME[@REVISION][/FILE]`.

use crate::error::{Error, Result, error};
use std::fmt;

const SYNTAX: &str = "write hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:OWNER/NAME@REVISION/FILE; \
                      a slash in a revision is %2F";

/// Maximum length of `OWNER/NAME` on the hub, in characters.
const MAX_REPOSITORY: usize = 96;

/// A weight file on a hub, or a repository whose only weight file is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    owner: String,
    name: String,
    revision: Option<String>,
    file: Option<String>,
}

impl Reference {
    /// What names begin with.
    pub const PREFIX: &str = "hf:";

    /// Returns whether a text is meant as a reference, so that it is no path.
    pub fn is_reference(text: &str) -> bool {
        text.starts_with(Self::PREFIX)
    }

    /// Parses `hf:OWNER/NAME[@REVISION][/FILE]`. A revision is a branch, a tag or a commit; a slash
    /// in it is written `%2F` (`refs%2Fpr%2F1`). `hf://OWNER/NAME` is accepted too.
    ///
    /// # Errors
    /// Returns an error of kind `Usage` if the text is no reference, or if a part could not be the
    /// name of a repository, a revision or a file.
    ///
    /// ```
    /// use atrous::hub::Reference;
    /// let reference = Reference::parse("hf:smp-hub/net@v1.0/weights/model.safetensors")?;
    /// assert_eq!(reference.repository(), "smp-hub/net");
    /// assert_eq!(reference.revision(), "v1.0");
    /// assert_eq!(reference.file(), Some("weights/model.safetensors"));
    /// # Ok::<(), atrous::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |what: &str| error!(Usage, "{what}").at(text.to_owned()).advice(SYNTAX);
        let rest = text
            .strip_prefix(Self::PREFIX)
            .ok_or_else(|| invalid("is not the name of a network on a hub"))?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (owner, rest) =
            rest.split_once('/').ok_or_else(|| invalid("names no repository of an owner"))?;
        let end = rest.find(['@', '/']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        if !is_repository(owner, name) {
            return Err(invalid("is not a valid name of a repository"));
        }
        let (revision, file) = match rest.strip_prefix('@') {
            Some(rest) => {
                let (revision, file) = rest.split_once('/').map_or((rest, None), split_some);
                (Some(decode_slashes(revision)), file)
            }
            None => (None, rest.strip_prefix('/')),
        };
        if let Some(problem) = revision.as_deref().and_then(path_problem) {
            return Err(invalid(&format!("the revision {problem}")));
        }
        if let Some(problem) = file.and_then(path_problem) {
            return Err(invalid(&format!("the file's name {problem}")));
        }
        Ok(Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
            revision,
            file: file.map(str::to_owned),
        })
    }

    /// Returns `OWNER/NAME`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// Returns the owner of the repository.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Returns the name of the repository.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the branch, tag or commit; `main` if none is named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Returns whether the reference names a revision.
    pub fn has_revision(&self) -> bool {
        self.revision.is_some()
    }

    /// Returns the file inside the repository; `None` for its only weight file.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Returns the commit, if the revision is one in full.
    pub(super) fn commit(&self) -> Option<&str> {
        self.revision.as_deref().filter(|r| is_commit(r))
    }
}

fn split_some<'t>((revision, file): (&'t str, &'t str)) -> (&'t str, Option<&'t str>) {
    (revision, Some(file))
}

fn decode_slashes(revision: &str) -> String {
    revision.replace("%2F", "/").replace("%2f", "/")
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/{}", Self::PREFIX, self.owner, self.name)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{}", revision.replace('/', "%2F"))?;
        }
        self.file.as_ref().map_or(Ok(()), |file| write!(f, "/{file}"))
    }
}

impl std::str::FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// Whether the names follow the rules of the hub: letters, digits, `-`, `_`, `.`; neither `--`,
/// which separates the names in the cache, nor `..`; no separators at the ends.
fn is_repository(owner: &str, name: &str) -> bool {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && !text.starts_with(['-', '.'])
            && !text.ends_with(['-', '.'])
            && !text.contains("--")
            && !text.contains("..")
    };
    is_name(owner)
        && is_name(name)
        && !name.ends_with(".git")
        && owner.len() + name.len() < MAX_REPOSITORY
}

/// Whether a text is a commit in full: 40 hexadecimal digits.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Returns why a name, from a user or from a server, must not become a path below a directory of
/// the cache; `None` if it may.
pub(super) fn path_problem(name: &str) -> Option<&'static str> {
    const MAX: usize = 1024;
    const MAX_COMPONENT: usize = 255;
    let components = || name.split('/');
    if name.is_empty() {
        return Some("is empty");
    }
    if name.len() > MAX || components().any(|c| c.len() > MAX_COMPONENT) {
        return Some("is too long");
    }
    if name.chars().any(char::is_control) {
        return Some("contains control characters");
    }
    if name.contains('\\') || cfg!(windows) && name.contains(':') {
        return Some("contains a backslash or a colon");
    }
    if components().any(|c| c.is_empty() || c == "." || c == "..") {
        return Some("is not a plain relative path");
    }
    None
}

/// Percent-encodes a name for a URL. Slashes stay if `keep_slashes`.
pub(super) fn encode(name: &str, keep_slashes: bool) -> String {
    let mut url = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                url.push(char::from(byte));
            }
            b'/' if keep_slashes => url.push('/'),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_parsed_and_printed_back() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for (text, revision, file) in [
            ("hf:a/b", "main", None),
            ("hf:a/b_1.0-x/model.safetensors", "main", Some("model.safetensors")),
            ("hf:a/b@v1", "v1", None),
            ("hf:a/b@v1/sub/c.pth", "v1", Some("sub/c.pth")),
            ("hf:a/b@refs%2Fpr%2F1/c.pth", "refs/pr/1", Some("c.pth")),
            (&format!("hf:a/b@{commit}"), commit, None),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.revision(), reference.file()), (revision, file), "{text}");
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference.commit().is_some(), revision == commit);
        }
        assert_eq!(Reference::parse("hf://a/b").unwrap(), Reference::parse("hf:a/b").unwrap());
    }

    #[test]
    fn what_could_leave_the_cache_or_be_no_repository_is_refused_with_the_syntax() {
        let long = format!("hf:a/{}", "b".repeat(100));
        for text in [
            "a/b",
            "hf:",
            "hf:b",
            "hf:/b",
            "hf:a/",
            "hf:a//b",
            "hf:../b",
            "hf:a/..",
            "hf:a--b/c",
            "hf:a/b--c",
            "hf:a/b.git",
            "hf:-a/b",
            "hf:a b/c",
            "hf:a/b@",
            "hf:a/b@/c",
            "hf:a/b@..",
            "hf:a/b@..%2F..%2Fc",
            "hf:a/b@x\\y",
            "hf:a/b/",
            "hf:a/b/../c",
            "hf:a/b//etc/passwd",
            "hf:a/b/c\\d",
            "hf:a/b/c\0d",
            &long,
        ] {
            let error = Reference::parse(text).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage, "{text}");
            assert!(error.to_string().contains("hf:OWNER/NAME@REVISION/FILE"), "{error}");
        }
    }

    #[test]
    fn names_are_encoded_for_urls() {
        assert_eq!(encode("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(encode("a b/ü.pth", true), "a%20b/%C3%BC.pth");
    }
}
