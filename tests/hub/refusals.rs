//! What a hub refuses, and answers that are refused.

use super::server::{Body, FIRST, Hub, Reply, SECOND};
use super::{Fixture, bytes};
use std::time::{Duration, Instant};

#[test]
fn what_does_not_exist_is_named() {
    let hub = Hub::with_model(b"content");
    let mut fixture = Fixture::new(&hub);
    fixture.refuses("hf:own/other", &["has no repository `own/other`", "check the spelling"]);
    fixture.refuses("hf:own/other/x.pth", &["has no repository `own/other`"]);
    fixture.refuses("hf:own/net@v2", &["no branch, tag or commit `v2`"]);
    fixture.refuses(&format!("hf:own/net@{SECOND}"), &["no branch, tag or commit `2222"]);
    fixture.refuses("hf:own/net/x.pth", &["has no file `x.pth` at `main`", "tree/main"]);
}

#[test]
fn a_repository_that_asks_for_a_token_says_what_to_do() {
    let hub = Hub::with_model(b"content");
    hub.hook(|r| match r.header("authorization") {
        _ if r.at_storage => None,
        None => Some(Reply::new(401).header("x-error-message", "Invalid username or password.")),
        Some("Bearer hf_good") => None,
        Some(_) => Some(Reply::new(401)),
    });
    let mut fixture = Fixture::new(&hub);
    fixture.refuses("hf:own/net", &["does not exist, or is private or gated", "HF_TOKEN"]);
    fixture.settings.token = Some("hf_old".to_owned());
    fixture.refuses("hf:own/net", &["rejects the token", "renew the token"]);
    fixture.settings.token = Some("hf_good".to_owned());
    fixture.fetch("hf:own/net").unwrap();
}

#[test]
fn a_gated_repository_names_the_page_with_its_conditions() {
    let hub = Hub::with_model(b"content");
    hub.hook(|_| Some(Reply::new(403).header("x-error-code", "GatedRepo")));
    let mut fixture = Fixture::new(&hub);
    let page = format!("accept its conditions at {}/own/net", hub.url);
    fixture.refuses("hf:own/net", &["is restricted", &page, "HF_TOKEN"]);
}

#[test]
fn a_link_that_is_too_old_is_no_gated_repository() {
    let hub = Hub::with_model(b"content");
    let mut refused = 0;
    hub.hook(move |request| {
        refused += usize::from(request.is_content());
        (request.is_content() && refused == 1).then(|| Reply::new(403))
    });
    let mut fixture = Fixture::new(&hub);
    fixture.fetch("hf:own/net").unwrap();
    let hub = Hub::with_model(b"content");
    hub.hook(|request| request.is_content().then(|| Reply::new(403)));
    let mut fixture = Fixture::new(&hub);
    fixture.refuses("hf:own/net", &["refuses the link to the content", "try again"]);
}

#[test]
fn a_busy_hub_is_asked_again_after_the_pause_that_it_wants() {
    let hub = Hub::with_model(b"content");
    let mut answered = 0;
    hub.hook(move |_| {
        answered += 1;
        (answered <= 2).then(|| Reply::new(429).header("retry-after", 1))
    });
    let mut fixture = Fixture::new(&hub);
    let begun = Instant::now();
    fixture.fetch("hf:own/net").unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let retries = fixture.events.iter().filter(|e| e.contains("429")).count();
    assert_eq!(retries, 2, "{:?}", fixture.events);
}

#[test]
fn a_pause_that_is_too_long_is_not_waited_for() {
    let hub = Hub::with_model(b"content");
    hub.hook(|_| Some(Reply::new(429).header("retry-after", 3600)));
    let mut fixture = Fixture::new(&hub);
    let begun = Instant::now();
    fixture.refuses("hf:own/net", &["429", "try again in 3600 s"]);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_hub_that_does_not_answer_ends_in_a_message() {
    let hub = Hub::with_model(b"content");
    hub.hook(|r| {
        let stalled = Body::Stall(Vec::new(), 100);
        r.path.starts_with("/api").then(|| Reply { body: stalled, ..Reply::new(200) })
    });
    let mut fixture = Fixture::new(&hub);
    fixture.settings.read_timeout = Duration::from_secs(1);
    fixture.refuses("hf:own/net", &["did not answer within 1 s (HF_HUB_DOWNLOAD_TIMEOUT)"]);
}

#[test]
fn several_weight_files_are_listed_and_none_is_said() {
    let hub = Hub::start();
    let files: [(&str, &[u8]); 3] =
        [("a.safetensors", b"a"), ("b.safetensors", b"b"), ("c.pth", b"c")];
    hub.commit("own/net", "main", FIRST, &files);
    hub.commit("own/text", "main", FIRST, &[("README.md", b"text")]);
    let mut fixture = Fixture::new(&hub);
    fixture.refuses("hf:own/net", &["a.safetensors, b.safetensors", "hf:own/net/a.safetensors"]);
    fixture.refuses("hf:own/text", &["no weight file"]);
    fixture.fetch("hf:own/net/b.safetensors").unwrap();
}

/// Whatever a server calls a file, it stays below the directory of its repository.
#[test]
fn hostile_names_are_refused() {
    let outside = "escaped.safetensors";
    for name in [format!("../../../{outside}"), format!("/tmp/{outside}"), "a\\..\\b.pth".into()] {
        let hub = Hub::with_model(b"content");
        hub.commit("own/net", "main", FIRST, &[]);
        let json = serde_json::json!({ "sha": FIRST, "siblings": [{ "rfilename": name }] });
        hub.hook(move |r| {
            r.path.starts_with("/api").then(|| Reply::new(200).body(json.to_string()))
        });
        let mut fixture = Fixture::new(&hub);
        fixture.refuses("hf:own/net", &["refused the file"]);
        assert!(super::names(fixture.cache.path()).is_empty(), "{name}");
    }
}

#[test]
fn hostile_headers_are_refused() {
    let commit = ("x-repo-commit", "../../../../tmp");
    let cases = [
        (commit.0, commit.1, "names no commit"),
        ("x-repo-commit", SECOND, "of another commit"),
        ("x-linked-etag", "\"../../../escaped\"", "identifies no content"),
        ("x-linked-etag", "\"a/b\"", "identifies no content"),
        ("location", "file:///etc/passwd", "which is no address"),
    ];
    for (name, value, message) in cases {
        let hub = Hub::with_model(b"content");
        hub.hook(move |r| {
            let mut reply = Reply::new(302);
            for (usual, content) in [
                ("x-repo-commit", FIRST),
                ("x-linked-etag", "\"abc\""),
                ("location", "http://localhost:9/"),
            ] {
                reply = reply.header(usual, if usual == name { value } else { content });
            }
            (r.method == "HEAD").then_some(reply)
        });
        let mut fixture = Fixture::new(&hub);
        fixture.refuses("hf:own/net", &[message]);
        assert!(super::names(fixture.cache.path()).is_empty(), "{name}: {value}");
    }
}

#[test]
fn redirects_in_a_circle_end() {
    let hub = Hub::with_model(b"content");
    hub.hook(|r| Some(Reply::new(302).header("location", r.path.clone())));
    Fixture::new(&hub).refuses("hf:own/net", &["redirects again and again"]);
}

#[test]
fn what_is_no_hub_is_said_to_be_none() {
    let hub = Hub::with_model(b"content");
    let mut fixture = Fixture::new(&hub);
    hub.hook(|_| Some(Reply::new(200).body("<html>please log in</html>")));
    fixture.refuses("hf:own/net", &["not what a hub sends", "HF_ENDPOINT"]);
    fixture.refuses("hf:own/net/a.pth", &["names no commit", "HF_ENDPOINT"]);
    hub.hook(|_| Some(Reply::new(418)));
    fixture.refuses("hf:own/net", &["answers 418"]);
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let hub = Hub::with_model(&bytes(10));
    let mut fixture = Fixture::new(&hub);
    let file = fixture.cache.path().join("file");
    std::fs::write(&file, "").unwrap();
    fixture.settings.cache = file;
    fixture.refuses("hf:own/net", &["could not be created", "HF_HUB_CACHE"]);
}
