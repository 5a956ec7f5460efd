//! What goes wrong with a hub, in words: the message, and what to do about it.

use super::reference::Reference;
use super::settings::Settings;
use crate::error::{Error, ErrorKind, error};
use std::io;
use std::path::Path;
use std::time::Duration;

/// A request that was not answered as it should be.
#[derive(Debug)]
pub(super) struct Failure {
    pub kind: FailureKind,
    pub error: Error,
    /// Pause that the hub asks for before the next attempt.
    pub pause: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// There was no answer.
    Unreachable,
    /// The hub limits requests, or is unavailable.
    Busy,
    /// The repository has no such file; the commit without it is known if the hub states it.
    NoFile,
    /// Nothing that would be better in a moment.
    Final,
}

impl Failure {
    pub fn new(kind: FailureKind, error: Error) -> Self {
        Self { kind, error, pause: None }
    }

    /// Whether a cached file may be used instead.
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, FailureKind::Unreachable | FailureKind::Busy)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(FailureKind::Final, error)
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'s> {
    pub reference: &'s Reference,
    /// `None` for the list of files.
    pub file: Option<&'s str>,
}

impl Subject<'_> {
    fn repository(&self) -> String {
        self.reference.repository()
    }
}

/// Headers of an answer that is a refusal.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    pub status: u16,
    /// `X-Error-Code`.
    pub code: Option<String>,
    /// `X-Error-Message`.
    pub message: Option<String>,
    /// Pause that the hub asks for.
    pub pause: Option<Duration>,
    /// Whether a token was sent.
    pub had_token: bool,
    /// Whether another server than the hub refuses: the one that stores the content.
    pub by_storage: bool,
    pub host: String,
}

/// Returns the failure that a refusal is.
pub(super) fn refused(refusal: &Refusal, subject: Subject<'_>, settings: &Settings) -> Failure {
    let error = match (refusal.status, refusal.code.as_deref()) {
        (_, Some("EntryNotFound")) => return no_file(subject, settings),
        (_, Some("RevisionNotFound")) => no_revision(subject, settings),
        (403, None) if refusal.by_storage => return expired(refusal, subject),
        (_, Some("GatedRepo")) | (403, _) => forbidden(refusal, subject, settings),
        (401, _) => unauthorized(refusal, subject),
        (404, Some("RepoNotFound")) => no_repository(subject, settings),
        (404, _) if subject.file.is_some() => return no_file(subject, settings),
        (404, _) => no_repository(subject, settings),
        (429 | 408 | 500.., _) => return busy(refusal, subject),
        (status, _) => error!(Io, "{} answers {}", refusal.host, stated(status, refusal))
            .advice("check HF_ENDPOINT and the proxy: this may be no hub"),
    };
    Failure::new(FailureKind::Final, error.at(subject.reference.to_string()))
}

fn stated(status: u16, refusal: &Refusal) -> String {
    match &refusal.message {
        Some(message) => format!("{status}: {message}"),
        None => format!("{status}"),
    }
}

/// 401 is also the answer about a repository that does not exist, to whoever has no token.
fn unauthorized(refusal: &Refusal, subject: Subject<'_>) -> Error {
    let (repository, answer) = (subject.repository(), stated(401, refusal));
    if refusal.had_token {
        return error!(
            Io,
            "{} rejects the token, or `{repository}` does not exist (it answers {answer})",
            refusal.host
        )
        .advice("renew the token (HF_TOKEN, or `hf auth login`) and check the spelling");
    }
    error!(
        Io,
        "the repository `{repository}` does not exist, or is private or gated (the hub answers \
         {answer})"
    )
    .advice("check the spelling; for private and gated repositories set HF_TOKEN, or run `hf auth login`")
}

fn forbidden(refusal: &Refusal, subject: Subject<'_>, settings: &Settings) -> Error {
    let repository = subject.repository();
    let answer = stated(refusal.status, refusal);
    let page = format!("{}/{repository}", settings.endpoint);
    let token = if refusal.had_token {
        "with the account of the token, and give the token the right to read it"
    } else {
        "and set HF_TOKEN, or run `hf auth login`"
    };
    error!(Io, "access to `{repository}` is restricted (the hub answers {answer})")
        .advice(format!("accept its conditions at {page} {token}"))
}

/// The host that stores contents refuses links that are too old.
fn expired(refusal: &Refusal, subject: Subject<'_>) -> Failure {
    let answer = stated(refusal.status, refusal);
    let error =
        error!(Io, "{} refuses the link to the content (it answers {answer})", refusal.host)
            .advice("links of a hub are valid for minutes: try again")
            .at(subject.reference.to_string());
    Failure::new(FailureKind::Unreachable, error)
}

fn no_repository(subject: Subject<'_>, settings: &Settings) -> Error {
    error!(Io, "{} has no repository `{}`", settings.endpoint, subject.repository())
        .advice("check the spelling; `atrous models` lists networks that work")
}

fn no_revision(subject: Subject<'_>, settings: &Settings) -> Error {
    let repository = subject.repository();
    error!(Io, "`{repository}` has no branch, tag or commit `{}`", subject.reference.revision())
        .advice(format!("{}/{repository}/tree/main lists them", settings.endpoint))
}

fn no_file(subject: Subject<'_>, settings: &Settings) -> Failure {
    let (repository, revision) = (subject.repository(), subject.reference.revision());
    let file = subject.file.unwrap_or_default();
    let error = error!(Io, "`{repository}` has no file `{file}` at `{revision}`")
        .advice(format!("{}/{repository}/tree/{revision} lists its files", settings.endpoint))
        .at(subject.reference.to_string());
    Failure::new(FailureKind::NoFile, error)
}

fn busy(refusal: &Refusal, subject: Subject<'_>) -> Failure {
    let host = &refusal.host;
    let error = match (refusal.status, refusal.pause) {
        (429, Some(pause)) => error!(Io, "{host} answers 429: too many requests").advice(format!(
            "try again in {} s; a token (HF_TOKEN) raises the limit",
            pause.as_secs()
        )),
        (429, None) => error!(Io, "{host} answers 429: too many requests")
            .advice("try again in a few minutes; a token (HF_TOKEN) raises the limit"),
        (status, _) => error!(Io, "{host} is unavailable (it answers {})", stated(status, refusal))
            .advice("try again later"),
    };
    Failure {
        kind: FailureKind::Busy,
        error: error.at(subject.reference.to_string()),
        pause: refusal.pause,
    }
}

/// Returns the failure of a request without an answer.
pub(super) fn unanswered(cause: ureq::Error, host: &str, settings: &Settings) -> Failure {
    use ureq::Timeout;
    let (connect, read) = (settings.connect_timeout.as_secs(), settings.read_timeout.as_secs());
    let advice = "check the network, the proxy (HTTPS_PROXY) and HF_ENDPOINT";
    let error = match cause {
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
            error!(Io, "no connection to {host} within {connect} s (HF_HUB_ETAG_TIMEOUT)")
        }
        ureq::Error::Timeout(_) => {
            error!(Io, "{host} did not answer within {read} s (HF_HUB_DOWNLOAD_TIMEOUT)")
        }
        ureq::Error::HostNotFound => error!(Io, "the host {host} is not found"),
        ureq::Error::RequireHttpsOnly(_) => {
            let error = error!(Io, "refused a redirect to the unencrypted address of {host}");
            return Failure::new(FailureKind::Final, error.advice("check HF_ENDPOINT"));
        }
        // A certificate that is not accepted comes as a failure of the connection.
        ureq::Error::Io(e) if e.to_string().contains("certificate") => {
            return insecure(host, Box::new(e));
        }
        e @ (ureq::Error::Rustls(_) | ureq::Error::Tls(_)) => return insecure(host, Box::new(e)),
        ureq::Error::Io(e) => {
            Error::new(ErrorKind::Io, format!("no connection to {host}")).source(e)
        }
        e => Error::new(ErrorKind::Io, format!("no answer from {host}")).source(e),
    };
    Failure::new(FailureKind::Unreachable, error.advice(advice))
}

/// Returns the failure of a connection that would not be safe.
fn insecure(host: &str, cause: Box<dyn std::error::Error + Send + Sync>) -> Failure {
    let error = Error::new(ErrorKind::Io, format!("no secure connection to {host}"));
    let advice = "behind a proxy that inspects connections, set SSL_CERT_FILE to its certificate";
    Failure::new(FailureKind::Unreachable, error.source(cause).advice(advice))
}

/// Returns the error about a file that is in no cache, when no hub may be asked.
pub(super) fn offline(reference: &Reference, cache: &Path) -> Error {
    error!(Io, "is not in the cache ({}), and HF_HUB_OFFLINE is set", crate::text::path(cache))
        .at(reference.to_string())
        .advice("unset HF_HUB_OFFLINE to download it, or pass a file")
}

/// Returns the error about a download that keeps failing.
pub(super) fn gave_up(
    file: &str,
    cause: &str,
    done: u64,
    reference: &Reference,
    partial: &Path,
) -> Error {
    let kept = if done > 0 {
        format!("the {} that arrived are kept, so try again", crate::weights::format_bytes(done))
    } else {
        "try again later".to_owned()
    };
    log::debug!("partial file {}", crate::text::path(partial));
    error!(Io, "the download of `{file}` was interrupted: {cause}")
        .at(reference.to_string())
        .advice(kept)
}

/// Returns the error about a file that could not be written, with what to do about it.
pub(super) fn unwritable(path: &Path, e: io::Error) -> Error {
    let advice = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or set HF_HUB_CACHE to another disk; the download will be resumed"
        }
        _ => "set HF_HUB_CACHE to a directory that can be written",
    };
    Error::io(path, "could not be written", e).advice(advice)
}
