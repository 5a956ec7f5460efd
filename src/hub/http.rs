//! Requests: redirects, the token, bounds on answers, and repetitions when the hub is busy.

use super::errors::{Failure, FailureKind, Refusal, Subject, refused, unanswered};
use super::origin::{Origin, redirected};
use super::progress::{Event, Progress};
use super::settings::Settings;
use crate::error::{Error, Result, error};
use crate::files::read_bytes;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{HeaderMap, Method, Request, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// Maximum number of redirects that one request follows.
const MAX_REDIRECTS: usize = 8;
/// Maximum number of attempts when the hub is busy.
const MAX_ATTEMPTS: u32 = 4;
/// Maximum size of a list of files.
const MAX_LIST_BYTES: u64 = 32 << 20;
/// Maximum size of a file with certificates.
const MAX_CERTIFICATE_BYTES: u64 = 16 << 20;

/// How far redirects are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    /// On the hub; the first redirect to another server is the answer.
    Hub,
    /// To any server.
    Anywhere,
}

/// A connection to a hub.
#[derive(Debug)]
pub(super) struct Http {
    agent: Agent,
    hub: Origin,
    settings: Settings,
}

/// An answer with a status of 2xx, or a redirect.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    headers: HeaderMap,
    body: Body,
}

impl Answer {
    /// Returns a header that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
    }

    /// Returns a reader of the body that ends with an error past `max` bytes.
    pub fn reader(self, max: u64) -> impl Read {
        self.body.into_with_config().limit(max).reader()
    }
}

impl Http {
    /// Prepares requests; none is made. The settings must have been checked.
    ///
    /// # Errors
    /// The certificates that the settings name cannot be read.
    pub fn new(settings: &Settings) -> Result<Self> {
        let hub = Origin::of(&settings.endpoint)
            .ok_or_else(|| error!(Usage, "`{}` is no address", settings.endpoint))?;
        let is_local = ["localhost", "127.0.0.1", "[::1]"].contains(&hub.host());
        if settings.token.is_some() && !hub.is_https() && !is_local {
            log::warn!("the token is sent to {} without encryption (HF_ENDPOINT)", hub.host());
        }
        let mut tls = TlsConfig::builder();
        if let Some(path) = &settings.certificates {
            tls = tls.root_certs(certificates(path)?);
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .https_only(hub.is_https())
            .user_agent(concat!("atrous/", env!("CARGO_PKG_VERSION")))
            // A compressed answer has another length than the file.
            .accept_encoding("identity")
            .timeout_resolve(Some(settings.connect_timeout))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_per_read(Some(settings.read_timeout))
            .timeout_per_write(Some(settings.read_timeout))
            .tls_config(tls.build())
            .build()
            .new_agent();
        Ok(Self { agent, hub, settings: settings.clone() })
    }

    /// Returns the headers of a file, which are those of the hub even if the content is elsewhere.
    pub fn head(&self, path: &str, subject: Subject<'_>) -> Result<Answer, Failure> {
        self.send(&Method::HEAD, path, None, Follow::Hub, subject)
    }

    /// Returns the body of an answer of bounded length: a list of files.
    pub fn list(&self, path: &str, subject: Subject<'_>) -> Result<Vec<u8>, Failure> {
        let answer = self.send(&Method::GET, path, None, Follow::Hub, subject)?;
        let mut body = Vec::new();
        let host = self.hub.host();
        answer.reader(MAX_LIST_BYTES).read_to_end(&mut body).map_err(
            |e| match ureq::Error::from(e) {
                ureq::Error::BodyExceedsLimit(_) => Failure::from(
                    error!(Io, "{host} sends a list of files of more than {MAX_LIST_BYTES} bytes")
                        .at(subject.reference.to_string())
                        .advice("name the file: hf:OWNER/NAME/FILE"),
                ),
                e => unanswered(e, host, &self.settings),
            },
        )?;
        Ok(body)
    }

    /// Returns the content of a file from byte `from` on, wherever the hub keeps it.
    pub fn get(&self, path: &str, from: u64, subject: Subject<'_>) -> Result<Answer, Failure> {
        self.send(&Method::GET, path, Some(from), Follow::Anywhere, subject)
    }

    /// Sends a request and follows redirects. The token goes to the hub alone: after a redirect to
    /// another server it is not sent any more.
    fn send(
        &self,
        method: &Method,
        path: &str,
        from: Option<u64>,
        follow: Follow,
        subject: Subject<'_>,
    ) -> Result<Answer, Failure> {
        let mut url = format!("{}{path}", self.settings.endpoint);
        let mut token = self.settings.token.as_deref();
        for _ in 0..=MAX_REDIRECTS {
            let origin = Origin::of(&url)
                .ok_or_else(|| Failure::from(error!(Io, "`{url}` is not an address")))?;
            if origin != self.hub {
                token = None;
            }
            let answer = self.send_once(method, &url, from, token, &origin)?;
            let status = answer.status;
            if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
                return Ok(answer);
            }
            let is_redirect = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = answer.header("location").filter(|_| is_redirect) else {
                let refusal = Refusal {
                    had_token: token.is_some(),
                    by_storage: origin != self.hub,
                    ..refusal(&answer, &origin)
                };
                return Err(refused(&refusal, subject, &self.settings));
            };
            let target = redirected(&url, location).ok_or_else(|| {
                error!(Io, "{} redirects to `{location}`, which is no address", origin.host())
                    .at(subject.reference.to_string())
            })?;
            if follow == Follow::Hub && Origin::of(&target).as_ref() != Some(&self.hub) {
                return Ok(answer);
            }
            url = target;
        }
        let error = error!(Io, "{} redirects again and again", self.hub.host());
        Err(error.at(subject.reference.to_string()).into())
    }

    fn send_once(
        &self,
        method: &Method,
        url: &str,
        from: Option<u64>,
        token: Option<&str>,
        origin: &Origin,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method).uri(url);
        if let Some(from) = from.filter(|from| *from > 0) {
            request = request.header("range", format!("bytes={from}-"));
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let failed = |e| unanswered(e, origin.host(), &self.settings);
        let request = request.body(()).map_err(|e| failed(e.into()))?;
        let (parts, body) = self.agent.run(request).map_err(failed)?.into_parts();
        log::debug!("{method} {} {}", origin.host(), parts.status);
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// Repeats a request while the hub is busy, after the pauses that it asks for, if they are not
    /// too long. Unless `is_patient`, the first failure counts.
    pub fn repeat<T>(
        &self,
        is_patient: bool,
        progress: &mut Progress<'_>,
        mut request: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let failure = match request() {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let pause = failure.pause.unwrap_or(Duration::from_secs(1 << (attempt - 1).min(6)));
            let is_worthwhile = failure.kind == FailureKind::Busy
                && is_patient
                && attempt < MAX_ATTEMPTS
                && pause <= self.settings.max_pause;
            if !is_worthwhile {
                return Err(failure);
            }
            progress(Event::Retrying { reason: &failure.error.to_string(), pause });
            std::thread::sleep(pause);
        }
    }
}

fn refusal(answer: &Answer, origin: &Origin) -> Refusal {
    let text = |name| answer.header(name).map(crate::text::excerpt);
    Refusal {
        status: answer.status.as_u16(),
        code: text("x-error-code"),
        message: text("x-error-message"),
        pause: answer.header("retry-after").and_then(seconds).or_else(|| rate_limit(answer)),
        host: origin.host().to_owned(),
        ..Refusal::default()
    }
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_secs)
}

/// Returns the time until requests are counted anew, from `RateLimit: "api";r=0;t=55`.
fn rate_limit(answer: &Answer) -> Option<Duration> {
    let fields = answer.header("ratelimit")?.split(';').map(str::trim);
    let mut fields = fields.filter_map(|field| field.split_once('='));
    fields.find(|(name, _)| *name == "t").and_then(|(_, value)| seconds(value))
}

fn certificates(path: &Path) -> Result<RootCerts> {
    let invalid = |e: ureq::Error| {
        error!(Usage, "is no file of certificates in PEM format")
            .file(path)
            .source(e)
            .advice("check SSL_CERT_FILE")
    };
    let pem = read_bytes(path, "a file of certificates", MAX_CERTIFICATE_BYTES)
        .map_err(|e: Error| e.advice("check SSL_CERT_FILE"))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(invalid)? {
            certificates.push(certificate);
        }
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encrypted_hub_leads_to_no_unencrypted_server() {
        let mut settings = Settings::new("cache");
        settings.endpoint = "https://hub.example".to_owned();
        let http = Http::new(&settings).unwrap();
        let url = "http://127.0.0.1:9/";
        let origin = Origin::of(url).unwrap();
        let failure = http.send_once(&Method::GET, url, None, None, &origin).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Final);
        assert!(failure.error.to_string().contains("unencrypted"), "{}", failure.error);
    }

    #[test]
    fn pauses_are_read_in_both_forms() {
        let answer = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            let body = Body::builder().data(Vec::new());
            Answer { status: StatusCode::TOO_MANY_REQUESTS, headers, body }
        };
        let origin = Origin::of("https://hub.example").unwrap();
        for (name, value, expected) in [
            ("retry-after", "7", Some(7)),
            ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT", None),
            ("ratelimit", "\"api\";r=0;t=55", Some(55)),
        ] {
            let pause = refusal(&answer(name, value), &origin).pause;
            assert_eq!(pause.map(|p| p.as_secs()), expected, "{name}: {value}");
        }
    }
}
