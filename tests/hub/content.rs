//! Contents that arrive late, in parts, twice, or not as announced.

use super::server::{Body, Hub, Reply, Request, SECOND, sha256};
use super::{Fixture, bytes};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers to requests for contents with these numbers; the others are answered as usual.
fn on_content(hub: &Hub, reply: impl Fn(usize, &Request) -> Option<Reply> + Send + 'static) {
    let count = AtomicUsize::new(0);
    hub.hook(move |request| {
        request.is_content().then(|| reply(count.fetch_add(1, Ordering::Relaxed), request))?
    });
}

fn ranges(hub: &Hub) -> Vec<Option<String>> {
    let contents = hub.seen().into_iter().filter(Request::is_content);
    contents.map(|r| r.header("range").map(str::to_owned)).collect()
}

#[test]
fn a_connection_that_breaks_is_resumed_where_it_broke() {
    let content = bytes(200_000);
    let hub = Hub::with_model(&content);
    let cut = Body::Cut(content[..70_000].to_vec(), content.len());
    on_content(&hub, move |n, _| (n == 0).then(|| Reply { body: cut.clone(), ..Reply::new(200) }));
    let mut fixture = Fixture::new(&hub);
    let path = fixture.fetch("hf:own/net").unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    assert_eq!(ranges(&hub), [None, Some("bytes=70000-".to_owned())]);
    assert!(fixture.events.iter().any(|e| e.starts_with("retrying")), "{:?}", fixture.events);
}

#[test]
fn a_later_call_resumes_what_an_earlier_one_left() {
    let content = bytes(200_000);
    let hub = Hub::with_model(&content);
    let part = content[..70_000].to_vec();
    on_content(&hub, move |n, _| {
        let bytes = if n == 0 { part.clone() } else { Vec::new() };
        Some(
            Reply { body: Body::Cut(bytes, 200_000), ..Reply::new(if n == 0 { 200 } else { 206 }) }
                .header("content-range", "bytes 70000-199999/200000"),
        )
    });
    let mut fixture = Fixture::new(&hub);
    fixture.refuses("hf:own/net", &["was interrupted", "68 KiB that arrived are kept"]);
    assert_eq!(fixture.blobs(), [format!("{}.incomplete", sha256(&content))]);
    assert!(!fixture.repository().join("snapshots").exists());
    hub.seen();
    hub.unhook();
    let path = fixture.fetch("hf:own/net").unwrap();
    assert_eq!(fs::read(path).unwrap(), content);
    assert_eq!(ranges(&hub), [Some("bytes=70000-".to_owned())]);
    assert!(fixture.events.contains(&"model.safetensors: 70000 of Some(200000) bytes".to_owned()));
}

#[test]
fn a_server_that_knows_no_ranges_sends_all_of_it_again() {
    let content = bytes(50_000);
    let hub = Hub::with_model(&content);
    let mut fixture = Fixture::new(&hub);
    let blobs = fixture.repository().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", sha256(&content))), &content[..9000]).unwrap();
    let all = content.clone();
    on_content(&hub, move |_, _| Some(Reply::new(200).body(all.clone())));
    assert_eq!(fs::read(fixture.fetch("hf:own/net").unwrap()).unwrap(), content);
    assert_eq!(ranges(&hub), [Some("bytes=9000-".to_owned())]);
}

#[test]
fn a_server_without_ranges_that_breaks_off_here_and_there_is_given_up() {
    let content = bytes(50_000);
    let hub = Hub::with_model(&content);
    let all = content.clone();
    on_content(&hub, move |n, _| {
        let end = 40_000 + 4 * (n % 2);
        Some(Reply { body: Body::Cut(all[..end].to_vec(), all.len()), ..Reply::new(200) })
    });
    let mut fixture = Fixture::new(&hub);
    fixture.refuses("hf:own/net", &["was interrupted"]);
    assert!(ranges(&hub).len() < 10);
}

#[test]
fn a_range_that_was_not_asked_for_is_not_appended() {
    let content = bytes(50_000);
    let hub = Hub::with_model(&content);
    let mut fixture = Fixture::new(&hub);
    let blobs = fixture.repository().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", sha256(&content))), &content[..9000]).unwrap();
    let all = content.clone();
    on_content(&hub, move |n, _| {
        (n == 0).then(|| {
            Reply::new(206).header("content-range", "bytes 0-49999/50000").body(all.clone())
        })
    });
    assert_eq!(fs::read(fixture.fetch("hf:own/net").unwrap()).unwrap(), content);
    assert_eq!(ranges(&hub), [Some("bytes=9000-".to_owned()), None]);
}

#[test]
fn a_partial_file_that_is_too_long_is_dropped() {
    let content = bytes(1000);
    let hub = Hub::with_model(&content);
    let mut fixture = Fixture::new(&hub);
    let blobs = fixture.repository().join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let partial = blobs.join(format!("{}.incomplete", sha256(&content)));
    fs::write(&partial, bytes(2000)).unwrap();
    assert_eq!(fs::read(fixture.fetch("hf:own/net").unwrap()).unwrap(), content);
    assert!(!partial.exists());
}

#[test]
fn a_content_with_another_hash_is_deleted_and_never_used() {
    let content = bytes(10_000);
    let hub = Hub::with_model(&content);
    let mut other = content.clone();
    other[5000] ^= 1;
    on_content(&hub, move |_, _| Some(Reply::new(200).body(other.clone())));
    let mut fixture = Fixture::new(&hub);
    fixture.refuses("hf:own/net", &["`model.safetensors` is damaged", "SHA-256", "it was deleted"]);
    assert!(fixture.blobs().is_empty() && !fixture.repository().join("snapshots").exists());
}

#[test]
fn a_small_file_is_verified_by_its_hash_in_git() {
    let hub = Hub::with_model(b"content");
    hub.hook(|r| {
        let is_config = r.method == "GET" && r.path.ends_with("config.json");
        is_config.then(|| Reply::new(200).body("[]"))
    });
    let mut fixture = Fixture::new(&hub);
    fixture.refuses("hf:own/net", &["`config.json` is damaged", "git's SHA-1"]);
    assert_eq!(fixture.blobs(), [sha256(b"content")]);
}

#[test]
fn a_content_of_another_length_is_no_content() {
    let content = bytes(10_000);
    let hub = Hub::with_model(&content);
    let mut fixture = Fixture::new(&hub);
    let longer = bytes(10_001);
    on_content(&hub, move |_, _| Some(Reply::new(200).body(longer.clone())));
    fixture.refuses("hf:own/net", &["longer than the 10000 bytes announced"]);
    assert!(fixture.blobs().is_empty());
    // A shorter one is an interrupted one: it could be resumed, but nothing more comes.
    on_content(&hub, move |n, _| match n {
        0 => Some(Reply::new(200).body(&content[..4000])),
        _ => Some(Reply::new(416)),
    });
    fixture.refuses("hf:own/net", &["interrupted"]);
}

#[test]
fn a_body_without_an_end_is_cut_off() {
    let hub = Hub::with_model(&bytes(10_000));
    on_content(&hub, |_, _| Some(Reply { body: Body::Endless, ..Reply::new(200) }));
    let mut fixture = Fixture::new(&hub);
    fixture.refuses("hf:own/net", &["longer than the 10000 bytes announced"]);
    hub.hook(|r| {
        r.path.starts_with("/api").then(|| Reply { body: Body::Endless, ..Reply::new(200) })
    });
    fixture.refuses("hf:own/net", &["a list of files of more than"]);
    assert!(fixture.blobs().is_empty());
}

#[test]
fn a_file_of_unstated_size_is_bounded_and_verified() {
    let content = bytes(3000);
    let hub = Hub::with_model(&content);
    let etag = sha256(&content);
    hub.hook(move |r| {
        let is_head = r.method == "HEAD" && r.path.ends_with("model.safetensors");
        let commit = r.path.split('/').nth(4)?.to_owned();
        is_head.then(|| {
            Reply::new(302)
                .header("x-repo-commit", commit)
                .header("x-linked-etag", &etag)
                .header("location", "http://localhost:9/nowhere")
        })
    });
    let mut fixture = Fixture::new(&hub);
    assert_eq!(fs::read(fixture.fetch("hf:own/net").unwrap()).unwrap(), content);
}

#[test]
fn an_empty_file_is_a_file() {
    let hub = Hub::with_model(b"");
    let mut fixture = Fixture::new(&hub);
    assert_eq!(fs::read(fixture.fetch("hf:own/net").unwrap()).unwrap(), b"");
}

#[test]
fn two_clients_download_a_file_once() {
    let content = bytes(100_000);
    let hub = Hub::with_model(&content);
    on_content(&hub, |_, _| {
        std::thread::sleep(std::time::Duration::from_millis(500));
        None
    });
    let fixture = Fixture::new(&hub);
    let fetch = || {
        let mut events = Vec::new();
        let reference = atrous::hub::Reference::parse("hf:own/net").unwrap();
        let path = fixture
            .client()
            .fetch(&reference, &mut |event| events.extend(super::shown(&event)))
            .unwrap();
        (fs::read(path).unwrap(), events)
    };
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(fetch);
        (fetch(), other.join().unwrap())
    });
    assert!(one.0 == content && other.0 == content);
    assert_eq!(ranges(&hub).len(), 1);
    let waited = |events: &[String]| events.contains(&"waiting for model.safetensors".to_owned());
    assert!(waited(&one.1) != waited(&other.1), "{:?} {:?}", one.1, other.1);
}

#[test]
fn a_content_that_two_commits_share_is_downloaded_once() {
    let hub = Hub::with_model(b"content");
    let mut fixture = Fixture::new(&hub);
    fixture.fetch("hf:own/net").unwrap();
    hub.commit("own/net", "main", SECOND, &[("model.safetensors", b"content")]);
    hub.seen();
    let path = fixture.fetch("hf:own/net").unwrap();
    assert!(path.to_str().unwrap().contains(SECOND));
    assert!(ranges(&hub).is_empty());
}
