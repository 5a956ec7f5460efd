//! The client: from a reference to a file in the cache.

use super::cache::RepositoryCache;
use super::download::{Download, undamaged};
use super::errors::{Failure, FailureKind, Subject, offline};
use super::http::{Answer, Http};
use super::listing::{COMPANIONS, Listing, beside, weight_file};
use super::lock::DownloadLock;
use super::origin::Origin;
use super::progress::{Event, Progress};
use super::reference::{Reference, encode, is_commit, path_problem};
use super::settings::Settings;
use crate::error::{ErrorKind, Result, error};
use std::path::PathBuf;

/// Maximum length of an etag, which is the name of a file in the cache.
const MAX_ETAG: usize = 128;
/// Maximum size of a file beside the weights.
const MAX_COMPANION: u64 = 16 << 20;

/// Fetches weight files by name.
///
/// A client makes no connection before it needs one, and it may be used by several threads.
#[derive(Debug, Clone)]
pub struct Client {
    settings: Settings,
}

/// A file as the hub describes it, before it is downloaded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RemoteFile {
    /// Name in the repository.
    pub file: String,
    /// Commit that the revision is at.
    pub commit: String,
    /// Size in bytes, if the hub states it.
    pub size: Option<u64>,
    /// Identifies the content: a hash.
    pub(super) etag: String,
}

/// A file and, if it was needed to find it, the list that has it.
struct Located {
    remote: RemoteFile,
    listing: Option<Listing>,
}

impl Client {
    /// Returns a client with these settings.
    ///
    /// # Errors
    /// Returns an error of kind `Usage` if the endpoint is no address or the token is malformed.
    pub fn new(settings: Settings) -> Result<Self> {
        Ok(Self { settings: settings.checked()? })
    }

    /// Returns a client with the settings of the environment.
    ///
    /// # Errors
    /// As for [`Settings::from_env`].
    pub fn from_env() -> Result<Self> {
        Self::new(Settings::from_env()?)
    }

    /// Returns the settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn cache(&self, reference: &Reference) -> RepositoryCache {
        RepositoryCache::new(&self.settings.cache, reference, self.settings.symlinks)
    }

    /// Returns the path of a file that is in the cache. The hub is not asked: a branch may have
    /// moved since.
    ///
    /// # Errors
    /// Returns an error of kind `Usage` if the reference names no file and the cache has several.
    pub fn cached(&self, reference: &Reference) -> Result<Option<PathBuf>> {
        let cache = self.cache(reference);
        let Some(commit) = cache.commit(reference) else { return Ok(None) };
        if let Some(file) = reference.file() {
            return Ok(cache.present(&commit, file));
        }
        let files = cache.files(&commit);
        match weight_file(files.iter().map(String::as_str), reference) {
            Ok(file) => Ok(cache.present(&commit, file)),
            Err(e) if e.kind() == ErrorKind::Usage => Err(e),
            Err(_) => Ok(None),
        }
    }

    /// Asks the hub for the name and the size of a file, without downloading it.
    ///
    /// # Errors
    /// As for [`Client::fetch`].
    pub fn describe(
        &self,
        reference: &Reference,
        progress: &mut Progress<'_>,
    ) -> Result<RemoteFile> {
        if self.settings.offline {
            return Err(offline(reference, &self.settings.cache));
        }
        let http = Http::new(&self.settings)?;
        let located = self.locate(&http, reference, true, progress).map_err(|f| f.error)?;
        Ok(located.remote)
    }

    /// Returns the path of a file in the cache, after downloading it if necessary, with the files
    /// `config.json` and `preprocessor_config.json` beside it where the repository has them.
    ///
    /// The hub is asked whether a branch has moved, and a new version is downloaded. If it cannot be
    /// reached, the cached version is used ([`Event::Offline`]). A commit never moves, so a file at
    /// a commit that is in the cache needs no connection.
    ///
    /// # Errors
    /// Returns an error that says what to do if the hub cannot be reached and the cache lacks the
    /// file; if repository, revision or file do not exist or are not accessible; if the repository
    /// has several weight files and none is named; or if the content is not what the hub announced
    /// (it is deleted then).
    pub fn fetch(&self, reference: &Reference, progress: &mut Progress<'_>) -> Result<PathBuf> {
        let cached = self.cached(reference);
        if self.settings.offline {
            return cached?.ok_or_else(|| offline(reference, &self.settings.cache));
        }
        if let Some(path) = self.pinned(reference) {
            return Ok(path);
        }
        let is_cached = matches!(cached, Ok(Some(_)));
        match (self.update(reference, !is_cached, progress), cached) {
            (Ok(path), _) => Ok(path),
            (Err(failure), Ok(Some(path))) if failure.is_passing() => {
                progress(Event::Offline { reason: &failure.error.to_string(), path: &path });
                Ok(path)
            }
            (Err(failure), _) => Err(failure.error),
        }
    }

    /// Returns the path of a file at a commit, if the cache has it and knows about its companions.
    fn pinned(&self, reference: &Reference) -> Option<PathBuf> {
        let (cache, commit, file) = (self.cache(reference), reference.commit()?, reference.file()?);
        let is_known = |name: &&str| {
            let name = beside(file, name);
            cache.present(commit, &name).is_some() || cache.is_absent(commit, &name)
        };
        cache.present(commit, file).filter(|_| COMPANIONS.iter().all(is_known))
    }

    /// Asks the hub, downloads what the cache lacks, and records where the revision is.
    fn update(
        &self,
        reference: &Reference,
        is_patient: bool,
        progress: &mut Progress<'_>,
    ) -> Result<PathBuf, Failure> {
        let http = Http::new(&self.settings)?;
        let located = self.locate(&http, reference, is_patient, progress)?;
        let path = self.obtain(&http, reference, &located.remote, progress)?;
        for name in COMPANIONS {
            self.accompany(&http, reference, &located, name, progress)?;
        }
        self.cache(reference).record_commit(reference, &located.remote.commit)?;
        Ok(path)
    }

    /// Finds the file and its content on the hub.
    fn locate(
        &self,
        http: &Http,
        reference: &Reference,
        is_patient: bool,
        progress: &mut Progress<'_>,
    ) -> Result<Located, Failure> {
        if let Some(file) = reference.file() {
            let remote = http.repeat(is_patient, progress, || {
                head(http, reference, reference.revision(), reference.commit(), file)
            })?;
            return Ok(Located { remote, listing: None });
        }
        let mut path = format!("/api/models/{}", reference.repository());
        if reference.has_revision() {
            path += &format!("/revision/{}", encode(reference.revision(), false));
        }
        let subject = Subject { reference, file: None };
        let json = http.repeat(is_patient, progress, || http.list(&path, subject))?;
        let listing = Listing::parse(&json, reference)?;
        let (file, commit) = (weight_file(listing.files(), reference)?, listing.commit());
        let remote = http
            .repeat(is_patient, progress, || head(http, reference, commit, Some(commit), file))?;
        Ok(Located { remote, listing: Some(listing) })
    }

    /// Downloads a file beside the weights, if the repository has it.
    fn accompany(
        &self,
        http: &Http,
        reference: &Reference,
        located: &Located,
        name: &str,
        progress: &mut Progress<'_>,
    ) -> Result<(), Failure> {
        let (cache, commit) = (self.cache(reference), &located.remote.commit);
        let name = beside(&located.remote.file, name);
        if cache.present(commit, &name).is_some() || cache.is_absent(commit, &name) {
            return Ok(());
        }
        let is_listed = |listing: &Listing| listing.files().any(|file| file == name);
        if !located.listing.as_ref().is_none_or(is_listed) {
            cache.record_absence(commit, &name);
            return Ok(());
        }
        let found =
            http.repeat(true, progress, || head(http, reference, commit, Some(commit), &name));
        match found {
            Ok(remote) if remote.size.is_some_and(|size| size > MAX_COMPANION) => {
                log::warn!(
                    "{reference}: `{}` is not used: it is larger than {MAX_COMPANION} bytes",
                    crate::text::excerpt(&name)
                );
                cache.record_absence(commit, &name);
                Ok(())
            }
            Ok(remote) => self.obtain(http, reference, &remote, progress).map(drop),
            Err(failure) if failure.kind == FailureKind::NoFile => {
                cache.record_absence(commit, &name);
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Returns the path of a file that the hub describes, downloading its content if necessary.
    fn obtain(
        &self,
        http: &Http,
        reference: &Reference,
        remote: &RemoteFile,
        progress: &mut Progress<'_>,
    ) -> Result<PathBuf, Failure> {
        let cache = self.cache(reference);
        let present = || match cache.present(&remote.commit, &remote.file) {
            Some(path) => undamaged(path, remote.size),
            None => Ok(None),
        };
        if let Some(path) = present()? {
            return Ok(path);
        }
        let lock = cache.lock(&remote.etag);
        let held = DownloadLock::acquire(&lock, &mut || {
            progress(Event::Waiting { file: &remote.file, lock: &lock });
        })?;
        // Whoever held the lock may have downloaded it.
        if let Some(path) = present()? {
            return Ok(path);
        }
        let blob = cache.blob(&remote.etag);
        let has_blob = blob.is_file() && undamaged(blob, remote.size)?.is_some();
        if !has_blob {
            let host = Origin::of(&self.settings.endpoint);
            let host = host.as_ref().map_or("", Origin::host);
            let source = format!("{} at {host}", reference.repository());
            let subject = Subject { reference, file: Some(&remote.file) };
            let retry_pause = self.settings.retry_pause;
            let download =
                Download { http, cache: &cache, remote, subject, source: &source, retry_pause };
            download.run(progress)?;
        }
        let path = cache.publish(&remote.etag, &remote.commit, &remote.file, !has_blob)?;
        drop(held);
        progress(Event::Finished { path: &path });
        Ok(path)
    }
}

/// Asks for the headers of a file. `commit` is the commit that the answer must be about, if it is
/// known.
fn head(
    http: &Http,
    reference: &Reference,
    revision: &str,
    commit: Option<&str>,
    file: &str,
) -> Result<RemoteFile, Failure> {
    let (repository, revision) = (reference.repository(), encode(revision, false));
    let path = format!("/{repository}/resolve/{revision}/{}", encode(file, true));
    let subject = Subject { reference, file: Some(file) };
    let answer = http.head(&path, subject)?;
    Ok(remote_file(&answer, file, commit).map_err(|e| {
        e.at(reference.to_string()).advice("check HF_ENDPOINT and the proxy: this may be no hub")
    })?)
}

/// Returns what the headers say. They become names in the cache, so they are checked.
fn remote_file(answer: &Answer, file: &str, expected: Option<&str>) -> Result<RemoteFile> {
    let commit = answer.header("x-repo-commit").filter(|commit| is_commit(commit));
    let commit = commit.ok_or_else(|| error!(Io, "the answer about `{file}` names no commit"))?;
    if expected.is_some_and(|expected| expected != commit) {
        return Err(error!(Io, "the answer about `{file}` is of another commit, {commit}"));
    }
    let etag = answer.header("x-linked-etag").or_else(|| answer.header("etag"));
    let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
    let is_name = |etag: &&str| {
        etag.len() <= MAX_ETAG
            && path_problem(etag).is_none()
            && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let etag = etag
        .filter(is_name)
        .ok_or_else(|| error!(Io, "the answer about `{file}` identifies no content"))?;
    let length = || answer.header("content-length").filter(|_| answer.status.is_success());
    let size = answer.header("x-linked-size").or_else(length).and_then(|size| size.parse().ok());
    Ok(RemoteFile { file: file.to_owned(), commit: commit.to_owned(), size, etag: etag.to_owned() })
}
