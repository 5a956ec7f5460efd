//! Files in the cache: layout, revisions, repeated calls, and no connection.

use super::server::{FIRST, Hub, Reply, SECOND, git_hash, sha256};
use super::{Fixture, bytes, names};
use std::fs;

#[test]
fn a_file_and_its_companions_land_where_python_looks_for_them() {
    let content = bytes(300_000);
    let hub = Hub::with_model(&content);
    let mut fixture = Fixture::new(&hub);
    let path = fixture.fetch("hf:own/net").unwrap();
    let snapshot = fixture.repository().join("snapshots").join(FIRST);
    assert_eq!(path, snapshot.join("model.safetensors"));
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(names(&snapshot), ["config.json", "model.safetensors"]);
    let mut contents = [sha256(&content), git_hash(b"{}")];
    contents.sort();
    assert_eq!(fixture.blobs(), contents);
    assert_eq!(fs::read_to_string(fixture.repository().join("refs/main")).unwrap(), FIRST);
    let locks = fixture.cache.path().join(".locks/models--own--net");
    assert_eq!(names(&locks), contents.map(|hash| format!("{hash}.lock")));
    // The repository has no preprocessor_config.json, which need not be asked for again.
    let absent = fixture.repository().join(".no_exist").join(FIRST);
    assert_eq!(names(&absent), ["preprocessor_config.json"]);
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(&path).unwrap().to_str().unwrap(),
        format!("../../blobs/{}", sha256(&content))
    );
}

#[test]
fn what_is_cached_is_not_downloaded_again_and_a_commit_needs_no_connection() {
    let hub = Hub::with_model(&bytes(1000));
    let mut fixture = Fixture::new(&hub);
    let path = fixture.fetch("hf:own/net").unwrap();
    hub.seen();
    assert_eq!(fixture.fetch("hf:own/net").unwrap(), path);
    let seen = hub.seen();
    assert!(seen.len() == 2 && seen.iter().all(|r| !r.at_storage), "{seen:?}");
    assert_eq!(fixture.fetch(&format!("hf:own/net@{FIRST}/model.safetensors")).unwrap(), path);
    assert!(hub.seen().is_empty());
}

#[test]
fn a_named_file_needs_no_list() {
    let hub = Hub::with_model(&bytes(1000));
    hub.commit("own/net", "main", FIRST, &[("sub/other.pth", b"other")]);
    let mut fixture = Fixture::new(&hub);
    let path = fixture.fetch("hf:own/net/sub/other.pth").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"other");
    assert!(path.ends_with("sub/other.pth"));
    assert!(hub.seen().iter().all(|r| !r.path.starts_with("/api")));
}

#[test]
fn a_branch_that_moved_is_followed_and_a_commit_stays() {
    let hub = Hub::with_model(b"first");
    let mut fixture = Fixture::new(&hub);
    let first = fixture.fetch("hf:own/net").unwrap();
    hub.commit("own/net", "main", SECOND, &[("model.safetensors", b"second")]);
    let second = fixture.fetch("hf:own/net").unwrap();
    assert_eq!(fs::read(&second).unwrap(), b"second");
    assert_eq!(fs::read_to_string(fixture.repository().join("refs/main")).unwrap(), SECOND);
    let pinned = fixture.fetch(&format!("hf:own/net@{FIRST}")).unwrap();
    assert_eq!(pinned, first);
    assert_eq!(fs::read(&pinned).unwrap(), b"first");
    assert!(!fixture.repository().join("refs").join(FIRST).exists());
}

#[test]
fn a_revision_with_a_slash_is_a_directory_below_refs() {
    let hub = Hub::with_model(b"main");
    hub.commit("own/net", "refs/pr/1", SECOND, &[("model.safetensors", b"proposed")]);
    let mut fixture = Fixture::new(&hub);
    let path = fixture.fetch("hf:own/net@refs%2Fpr%2F1").unwrap();
    assert_eq!(fs::read(path).unwrap(), b"proposed");
    let record = fixture.repository().join("refs/refs/pr/1");
    assert_eq!(fs::read_to_string(record).unwrap(), SECOND);
}

#[test]
fn offline_the_cache_is_all_there_is() {
    let hub = Hub::with_model(b"content");
    let mut fixture = Fixture::new(&hub);
    fixture.settings.offline = true;
    fixture.refuses("hf:own/net", &["not in the cache", "HF_HUB_OFFLINE"]);
    fixture.settings.offline = false;
    let path = fixture.fetch("hf:own/net").unwrap();
    hub.seen();
    fixture.settings.offline = true;
    for name in ["hf:own/net", "hf:own/net/model.safetensors", &format!("hf:own/net@{FIRST}")] {
        assert_eq!(fixture.fetch(name).unwrap(), path, "{name}");
    }
    fixture.refuses("hf:own/net/other.pth", &["not in the cache"]);
    fixture.refuses("hf:own/net@v2", &["not in the cache"]);
    assert!(hub.seen().is_empty(), "requests while offline");
}

#[test]
fn without_a_connection_the_cached_file_is_used_and_that_is_said() {
    let hub = Hub::with_model(b"content");
    let mut fixture = Fixture::new(&hub);
    let path = fixture.fetch("hf:own/net").unwrap();
    // A port that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fixture.settings.endpoint = format!("http://{free}");
    assert_eq!(fixture.fetch("hf:own/net").unwrap(), path);
    assert!(fixture.events.last().unwrap().starts_with("offline: no connection to 127.0.0.1"));
    fixture.refuses("hf:own/other", &["no connection to 127.0.0.1", "check the network"]);
    // A hub that is out of order is no reason to fail either, and no reason to wait.
    hub.hook(|_| Some(Reply::new(503)));
    fixture.settings.endpoint = hub.url;
    assert_eq!(fixture.fetch("hf:own/net").unwrap(), path);
    assert!(fixture.events.last().unwrap().starts_with("offline: hf:own/net: 127.0.0.1"));
}

#[test]
fn a_damaged_file_in_the_cache_is_downloaded_again() {
    let content = bytes(5000);
    let hub = Hub::with_model(&content);
    let mut fixture = Fixture::new(&hub);
    let path = fixture.fetch("hf:own/net").unwrap();
    fs::write(fs::canonicalize(&path).unwrap(), &content[..100]).unwrap();
    assert_eq!(fs::read(fixture.fetch("hf:own/net").unwrap()).unwrap(), content);
}

#[test]
fn without_links_the_files_themselves_are_in_the_snapshot() {
    let hub = Hub::with_model(b"first");
    let mut fixture = Fixture::new(&hub);
    fixture.settings.symlinks = false;
    let path = fixture.fetch("hf:own/net").unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
    assert_eq!(fs::read(&path).unwrap(), b"first");
    hub.seen();
    assert_eq!(fixture.fetch("hf:own/net").unwrap(), path);
    assert!(hub.seen().iter().all(|r| !r.at_storage));
}

#[test]
fn a_repository_that_was_renamed_is_followed_on_the_hub() {
    let hub = Hub::with_model(b"content");
    hub.hook(|r| {
        let rest = r.path.split_once("old/name")?.1;
        let prefix = r.path.split_once("old/name")?.0;
        Some(Reply::new(307).header("location", format!("{prefix}own/net{rest}")))
    });
    let mut fixture = Fixture::new(&hub);
    fixture.settings.token = Some("hf_secret".to_owned());
    let path = fixture.fetch("hf:old/name").unwrap();
    assert!(path.starts_with(fixture.cache.path().join("models--old--name")), "{path:?}");
    let token = |at| hub.seen().into_iter().filter(move |r| r.at_storage == at);
    assert!(token(false).all(|r| r.header("authorization").is_some()));
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let hub = Hub::with_model(&bytes(1000));
    let mut fixture = Fixture::new(&hub);
    fixture.settings.token = Some("hf_secret".to_owned());
    fixture.fetch("hf:own/net").unwrap();
    let seen = hub.seen();
    let (storage, own): (Vec<_>, Vec<_>) = seen.iter().partition(|r| r.at_storage);
    assert!(!own.is_empty() && !storage.is_empty());
    assert!(own.iter().all(|r| r.header("authorization") == Some("Bearer hf_secret")));
    let leaked = |r: &&super::server::Request| {
        format!("{r:?}").contains("hf_secret") || r.header("authorization").is_some()
    };
    assert!(!storage.iter().any(leaked), "{storage:?}");
    assert!(storage[0].header("host").unwrap().starts_with("localhost"));
}
