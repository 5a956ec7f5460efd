//! Weights by name, against a hub on this machine.
#![cfg(all(feature = "cli", feature = "hub"))]

mod command;
mod content;
mod fetch;
mod names;
mod refusals;
mod server;
#[path = "../support/mod.rs"]
mod support;

use atrous::Result;
use atrous::hub::{Client, Event, Reference, Settings};
use server::Hub;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A client with a cache of its own, and what it reported.
struct Fixture {
    cache: TempDir,
    settings: Settings,
    events: Vec<String>,
}

impl Fixture {
    fn new(hub: &Hub) -> Self {
        let cache = tempfile::tempdir().expect("a temporary directory");
        let mut settings = Settings::new(cache.path());
        settings.endpoint.clone_from(&hub.url);
        settings.connect_timeout = Duration::from_secs(5);
        settings.read_timeout = Duration::from_secs(5);
        settings.retry_pause = Duration::from_millis(10);
        Self { cache, settings, events: Vec::new() }
    }

    fn client(&self) -> Client {
        Client::new(self.settings.clone()).expect("the settings are valid")
    }

    fn fetch(&mut self, name: &str) -> Result<PathBuf> {
        let reference = Reference::parse(name)?;
        let (client, events) = (self.client(), &mut self.events);
        client.fetch(&reference, &mut |event| events.extend(shown(&event)))
    }

    /// Fetches, and expects an error that contains all these texts.
    #[track_caller]
    fn refuses(&mut self, name: &str, texts: &[&str]) {
        let error = self.fetch(name).expect_err(name).to_string();
        for text in texts {
            assert!(error.contains(text), "no `{text}` in: {error}");
        }
        println!("{error}");
    }

    /// The directory of the repository `own/net` in the cache.
    fn repository(&self) -> PathBuf {
        self.cache.path().join("models--own--net")
    }

    /// The names of the contents, complete and not.
    fn blobs(&self) -> Vec<String> {
        names(&self.repository().join("blobs"))
    }
}

/// The events that tests look for, as text.
fn shown(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Started { file, resumed, size, .. } => {
            Some(format!("{file}: {resumed} of {size:?} bytes"))
        }
        Event::Waiting { file, .. } => Some(format!("waiting for {file}")),
        Event::Retrying { reason, .. } => Some(format!("retrying: {reason}")),
        Event::Offline { reason, .. } => Some(format!("offline: {reason}")),
        _ => None,
    }
}

/// The sorted names in a directory; none if it does not exist.
fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Bytes that do not repeat soon.
fn bytes(count: usize) -> Vec<u8> {
    let mut rng = support::Rng(count as u64);
    (0..count).map(|_| rng.next() as u8).collect()
}
