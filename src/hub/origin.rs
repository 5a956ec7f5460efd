//! Addresses: which server a URL belongs to, and where a redirect leads.

use ureq::http::Uri;

/// Scheme, host and port of a URL. Two URLs of one origin belong to one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    is_https: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// Returns the origin of an absolute URL. `None` if it is neither http nor https.
    pub fn of(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let is_https = match uri.scheme_str()? {
            scheme if scheme.eq_ignore_ascii_case("https") => true,
            scheme if scheme.eq_ignore_ascii_case("http") => false,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        Some(Self { is_https, host, port })
    }

    /// Whether connections are encrypted.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// Returns the name of the host.
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// Returns the URL that the `Location` of a response to `url` means. `None` if it is no URL.
pub(super) fn redirected(url: &str, location: &str) -> Option<String> {
    if location.bytes().any(|b| b.is_ascii_control() || b == b' ') {
        return None;
    }
    let target = if location.contains("://") && !location.starts_with('/') {
        location.to_owned()
    } else {
        let (scheme, rest) = url.split_once("://")?;
        let rest = rest.split(['?', '#']).next()?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        match location.strip_prefix("//") {
            Some(other) => format!("{scheme}://{other}"),
            None if location.starts_with('/') => format!("{scheme}://{host}{location}"),
            None => {
                let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
                let slash = if directory.is_empty() { "" } else { "/" };
                format!("{scheme}://{host}/{directory}{slash}{location}")
            }
        }
    };
    Origin::of(&target).is_some().then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_is_recognized_however_its_address_is_spelled() {
        let origin = |url| Origin::of(url).unwrap();
        assert_eq!(origin("https://hub.example/a"), origin("HTTPS://Hub.Example:443/b?c"));
        let others =
            ["http://hub.example/a", "https://hub.example:8443", "https://hub.example.org"];
        for other in others.into_iter().chain(["https://hub.example@evil.example/a"]) {
            assert_ne!(origin("https://hub.example/a"), origin(other), "{other}");
        }
        for bad in ["ftp://a/b", "/a", "https:///a", "a b", ""] {
            assert_eq!(Origin::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn redirects_are_resolved_as_urls_are() {
        let from = "https://hub.example/a/b?x=1";
        for (location, target) in [
            ("https://cdn.example/f?sig=/..", Some("https://cdn.example/f?sig=/..")),
            ("/c/d", Some("https://hub.example/c/d")),
            ("//cdn.example/f", Some("https://cdn.example/f")),
            ("d", Some("https://hub.example/a/d")),
            ("file:///etc/passwd", None),
            ("https://a b/", None),
            ("https://cdn.example/\r\nX: y", None),
        ] {
            assert_eq!(redirected(from, location).as_deref(), target, "{location}");
        }
    }
}
