//! Settings of a client, from the environment variables that Python's `huggingface_hub` reads.

use super::origin::Origin;
use crate::error::{Error, Result, error};
use crate::files::read_text_at_most;
use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// As in Python's client.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a file with a token.
const MAX_TOKEN_BYTES: u64 = 1 << 16;

/// Where files come from, and where they are kept.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Address of the hub, without a slash at the end.
    pub endpoint: String,
    /// Directory of the cache.
    pub cache: PathBuf,
    /// Token for private and gated repositories. It is sent to the endpoint only.
    pub token: Option<String>,
    /// File with the certificates of authorities to trust, in PEM format; `None` for Mozilla's.
    pub certificates: Option<PathBuf>,
    /// Whether only files in the cache are used.
    pub offline: bool,
    /// Whether the cache may contain symbolic links; else it contains copies.
    pub symlinks: bool,
    /// Time limit for a connection.
    pub connect_timeout: Duration,
    /// Time limit for the next bytes of an answer.
    pub read_timeout: Duration,
    /// Pause before a broken download is resumed; doubled as long as no byte arrives.
    pub retry_pause: Duration,
    /// Maximum length of a pause that a busy hub may ask for.
    pub max_pause: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Returns the settings for a cache in a directory: the public hub, without a token.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            cache: cache.into(),
            token: None,
            certificates: None,
            offline: false,
            symlinks: true,
            connect_timeout: DEFAULT_TIMEOUT,
            read_timeout: DEFAULT_TIMEOUT,
            retry_pause: Duration::from_millis(500),
            max_pause: Duration::from_secs(60),
        }
    }

    /// Returns the settings that the environment asks for.
    ///
    /// | variable | meaning | default |
    /// | --- | --- | --- |
    /// | `HF_ENDPOINT` | address of the hub | `https://huggingface.co` |
    /// | `HF_HOME` | directory of cache and token | `$XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface` |
    /// | `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE` | directory of the cache | `$HF_HOME/hub` |
    /// | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | `1`: use cached files only | `0` |
    /// | `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN` | token | the file `HF_TOKEN_PATH` |
    /// | `HF_TOKEN_PATH` | file with a token | `$HF_HOME/token` |
    /// | `HF_HUB_DISABLE_IMPLICIT_TOKEN` | `1`: send no token | `0` |
    /// | `SSL_CERT_FILE` | certificates of the authorities to trust, for proxies that inspect connections | Mozilla's |
    /// | `HF_HUB_DISABLE_SYMLINKS` | `1`: copies instead of links | `0` |
    /// | `HF_HUB_ETAG_TIMEOUT` | time limit for connections, in seconds | 10 |
    /// | `HF_HUB_DOWNLOAD_TIMEOUT` | time limit for the next bytes, in seconds | 10 |
    ///
    /// # Errors
    /// Returns an error of kind `Usage` that names the variable with an invalid value, or an error
    /// if the file with the token cannot be read.
    pub fn from_env() -> Result<Self> {
        let home = home();
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = match (cache, &home) {
            (Some(cache), _) => cache,
            (None, Some(home)) => home.join("hub"),
            (None, None) => {
                return Err(error!(Usage, "there is no home directory for downloaded weights")
                    .advice("set HF_HOME to a directory"));
            }
        };
        let mut settings = Self::new(cache);
        if let Some(endpoint) = text("HF_ENDPOINT") {
            settings.endpoint = endpoint;
        }
        settings.offline = is_true("HF_HUB_OFFLINE")
            || text("HF_HUB_OFFLINE").is_none() && is_true("TRANSFORMERS_OFFLINE");
        settings.certificates = path("SSL_CERT_FILE");
        settings.symlinks = !is_true("HF_HUB_DISABLE_SYMLINKS");
        settings.connect_timeout = seconds("HF_HUB_ETAG_TIMEOUT")?;
        settings.read_timeout = seconds("HF_HUB_DOWNLOAD_TIMEOUT")?;
        if !is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            settings.token = token(home.as_deref())?;
        }
        settings.checked()
    }

    /// Returns the settings with a valid endpoint and token.
    ///
    /// # Errors
    /// Returns an error of kind `Usage` otherwise. It does not quote the token.
    pub(super) fn checked(mut self) -> Result<Self> {
        self.endpoint = self.endpoint.trim_end_matches('/').to_owned();
        if Origin::of(&self.endpoint).is_none() || self.endpoint.contains(['?', '#', '@']) {
            return Err(error!(Usage, "`{}` is not the address of a hub", self.endpoint)
                .at("HF_ENDPOINT")
                .advice(format!("set it to an address such as {DEFAULT_ENDPOINT}, or unset it")));
        }
        let is_valid = |token: &String| token.bytes().all(|b| b.is_ascii_graphic());
        if !self.token.as_ref().is_none_or(is_valid) {
            return Err(error!(Usage, "the token contains characters that no token has")
                .advice("check HF_TOKEN, or the file `token` in HF_HOME"));
        }
        Ok(self)
    }
}

/// Returns the value of a variable that is set and not empty.
fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether a variable has one of the values that Python's client takes for true.
fn is_true(name: &str) -> bool {
    text(name).is_some_and(|value| {
        ["1", "on", "yes", "true"].iter().any(|known| value.eq_ignore_ascii_case(known))
    })
}

fn seconds(name: &str) -> Result<Duration> {
    let Some(value) = text(name) else { return Ok(DEFAULT_TIMEOUT) };
    match value.parse::<u64>() {
        Ok(0) => Ok(DEFAULT_TIMEOUT),
        Ok(n) => Ok(Duration::from_secs(n.min(24 * 60 * 60))),
        Err(_) => Err(error!(Usage, "`{value}` is not a number of seconds").at(name.to_owned())),
    }
}

/// Returns the directory that a variable names, with `~` and variables in it expanded.
fn path(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|value| !value.is_empty())?;
    // A path that is not UTF-8 is taken as it is.
    Some(value.to_str().map_or_else(|| PathBuf::from(&value), expand))
}

/// Expands a leading `~`, and `$NAME` and `${NAME}` of variables that are set.
fn expand(text: &str) -> PathBuf {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, end) = match after.strip_prefix('{').and_then(|t| t.split_once('}')) {
            Some((name, end)) => (name, end),
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len()))
            }
        };
        match env::var(name) {
            Ok(value) if !name.is_empty() => expanded.push_str(&value),
            _ => expanded.push_str(&rest[before.len()..rest.len() - end.len()]),
        }
        rest = end;
    }
    expanded.push_str(rest);
    match (expanded.strip_prefix('~'), env::home_dir()) {
        (Some(""), Some(home)) => home,
        (Some(below), Some(home)) if below.starts_with(['/', '\\']) => home.join(&below[1..]),
        _ => PathBuf::from(expanded),
    }
}

/// Returns `HF_HOME` or its default. `None` if there is no home directory.
fn home() -> Option<PathBuf> {
    let default = || {
        let caches = path("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")));
        Some(caches?.join("huggingface"))
    };
    path("HF_HOME").or_else(default)
}

/// Returns the token of the environment, else that of the file that `hf auth login` writes.
fn token(home: Option<&Path>) -> Result<Option<String>> {
    let clean = |token: String| Some(token.trim().to_owned()).filter(|token| !token.is_empty());
    let set = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).and_then(clean);
    if set.is_some() {
        return Ok(set);
    }
    let Some(file) = path("HF_TOKEN_PATH").or_else(|| Some(home?.join("token"))) else {
        return Ok(None);
    };
    if !file.exists() {
        return Ok(None);
    }
    let advice = "set HF_TOKEN, or HF_HUB_DISABLE_IMPLICIT_TOKEN=1 to send no token";
    read_text_at_most(&file, MAX_TOKEN_BYTES).map(clean).map_err(|e: Error| e.advice(advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let mut settings = Settings::new("cache");
        settings.token = Some("hf_secret".to_owned());
        assert!(!format!("{settings:?}").contains("hf_secret"));
        settings.token = Some("hf_secret\r\nX-Other: 1".to_owned());
        let error = settings.checked().unwrap_err().to_string();
        assert!(!error.contains("hf_secret") && error.contains("HF_TOKEN"), "{error}");
    }

    #[test]
    fn an_endpoint_is_an_address_of_a_server() {
        let checked = |endpoint: &str| {
            let mut settings = Settings::new("cache");
            settings.endpoint = endpoint.to_owned();
            settings.checked()
        };
        let mirror = checked("https://mirror.example/hub/").unwrap();
        assert_eq!(mirror.endpoint, "https://mirror.example/hub");
        for bad in ["mirror.example", "ftp://mirror.example", "", "https://me@mirror.example"] {
            let error = checked(bad).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage);
            assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
        }
    }

    #[test]
    fn paths_are_expanded_as_in_python() {
        let home = env::home_dir().expect("the tests have a home directory");
        assert_eq!(expand("~"), home);
        assert_eq!(expand("~/x"), home.join("x"));
        assert_eq!(expand("/a~/b"), PathBuf::from("/a~/b"));
        let path = env::var("PATH").expect("the tests have a PATH");
        assert_eq!(expand("/x/$PATH/y"), PathBuf::from(format!("/x/{path}/y")));
        assert_eq!(expand("/x/${PATH}y"), PathBuf::from(format!("/x/{path}y")));
        assert_eq!(expand("/x/$NO_SUCH_1/$"), PathBuf::from("/x/$NO_SUCH_1/$"));
    }
}
