//! A hub on this machine: the protocol of huggingface.co over two ports, one for the hub and one,
//! under another host name, for the storage that it redirects to.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// Whether the storage was asked, not the hub.
    pub at_storage: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Whether the content of a large file is asked for.
    pub fn is_content(&self) -> bool {
        self.at_storage && self.method == "GET"
    }
}

/// What is sent after the headers.
#[derive(Debug, Clone)]
pub enum Body {
    Bytes(Vec<u8>),
    /// The first bytes of an answer of that content length; then the connection is closed.
    Cut(Vec<u8>, usize),
    /// The first bytes of an answer of that content length; then nothing for ten seconds.
    Stall(Vec<u8>, usize),
    /// Bytes without an end, and without a content length.
    Endless,
}

#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Bytes(Vec::new()) }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Bytes(body.into());
        self
    }

    fn write(&self, mut to: &TcpStream, is_head: bool) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Status\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let is_set = |name| self.headers.iter().any(|(n, _)| n == name);
        let length = match &self.body {
            Body::Bytes(bytes) => Some(bytes.len()),
            Body::Cut(_, length) | Body::Stall(_, length) => Some(*length),
            Body::Endless => None,
        };
        if let Some(length) = length.filter(|_| !is_set("content-length")) {
            head += &format!("content-length: {length}\r\n");
        }
        to.write_all(format!("{head}\r\n").as_bytes())?;
        match &self.body {
            _ if is_head => {}
            Body::Bytes(bytes) | Body::Cut(bytes, _) => to.write_all(bytes)?,
            Body::Stall(bytes, _) => {
                to.write_all(bytes)?;
                to.flush()?;
                std::thread::sleep(Duration::from_secs(10));
            }
            // Ends when the client has had enough of it and closes the connection.
            Body::Endless => loop {
                to.write_all(&[b'x'; 1 << 16])?;
            },
        }
        to.flush()
    }
}

type Hook = Box<dyn FnMut(&Request) -> Option<Reply> + Send>;

#[derive(Default)]
struct State {
    /// Contents by repository, commit and file.
    files: BTreeMap<(String, String, String), Vec<u8>>,
    /// Commits by repository and revision.
    refs: BTreeMap<(String, String), String>,
    seen: Vec<Request>,
    /// Asked first; its reply, if it has one, is sent instead of the usual one.
    hook: Option<Hook>,
}

/// A running hub. Its threads end with the process.
#[derive(Clone)]
pub struct Hub {
    /// Address of the hub.
    pub url: String,
    storage: String,
    state: Arc<Mutex<State>>,
}

pub const FIRST: &str = "1111111111111111111111111111111111111111";
pub const SECOND: &str = "2222222222222222222222222222222222222222";

impl Hub {
    /// Starts a hub without repositories.
    pub fn start() -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (hub, storage) = (listen(), listen());
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let this = Self {
            url: format!("http://127.0.0.1:{}", port(&hub)),
            storage: format!("http://localhost:{}", port(&storage)),
            state: Arc::default(),
        };
        for (listener, at_storage) in [(hub, false), (storage, true)] {
            let this = this.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let this = this.clone();
                    std::thread::spawn(move || this.serve(stream, at_storage));
                }
            });
        }
        this
    }

    /// Starts a hub with `own/net`: `model.safetensors` with this content, and `config.json`.
    pub fn with_model(content: &[u8]) -> Self {
        let hub = Self::start();
        hub.commit("own/net", "main", FIRST, &[("model.safetensors", content)]);
        hub.commit("own/net", "main", FIRST, &[("config.json", b"{}")]);
        hub
    }

    /// Adds files to a commit, and moves the revision there.
    pub fn commit(&self, repository: &str, revision: &str, commit: &str, files: &[(&str, &[u8])]) {
        let mut state = self.state();
        for (file, content) in files {
            let key = (repository.to_owned(), commit.to_owned(), (*file).to_owned());
            state.files.insert(key, content.to_vec());
        }
        state.refs.insert((repository.to_owned(), revision.to_owned()), commit.to_owned());
    }

    /// Sets what is asked first.
    pub fn hook(&self, hook: impl FnMut(&Request) -> Option<Reply> + Send + 'static) {
        self.state().hook = Some(Box::new(hook));
    }

    /// Removes the hook.
    pub fn unhook(&self) {
        self.state().hook = None;
    }

    /// Returns the requests since the last call.
    pub fn seen(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().seen)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no handler panics")
    }

    fn serve(&self, stream: TcpStream, at_storage: bool) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?).take(1 << 16);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let request = Request { method, path, headers, at_storage };
        let reply = self.reply(&request);
        reply.write(&stream, request.method == "HEAD").ok()
    }

    fn reply(&self, request: &Request) -> Reply {
        let mut state = self.state();
        state.seen.push(request.clone());
        // The hook is taken out, so that it may not be called while it runs.
        let mut hook = state.hook.take();
        drop(state);
        let special = hook.as_mut().and_then(|hook| hook(request));
        let mut state = self.state();
        if state.hook.is_none() {
            state.hook = hook;
        }
        special.unwrap_or_else(|| usual(&state, request, &self.storage))
    }
}

fn usual(state: &State, request: &Request, storage: &str) -> Reply {
    let path = request.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let missing = |code: &str| Reply::new(404).header("x-error-code", code);
    let content = |bytes: &[u8]| ranged(request, bytes);
    match &parts[..] {
        ["blob", hash] if request.at_storage => {
            match state.files.values().find(|bytes| sha256(bytes) == *hash) {
                Some(bytes) => content(bytes),
                None => Reply::new(404),
            }
        }
        ["api", "models", owner, name, rest @ ..] => {
            let repository = format!("{owner}/{name}");
            let revision = rest.get(1).copied().unwrap_or("main");
            match commit_of(state, &repository, revision) {
                Ok(commit) => listing(state, &repository, &commit),
                Err(code) => missing(code),
            }
        }
        [owner, name, "resolve", revision, file @ ..] => {
            let (repository, file) = (format!("{owner}/{name}"), file.join("/"));
            let commit = match commit_of(state, &repository, revision) {
                Ok(commit) => commit,
                Err(code) => return missing(code),
            };
            match state.files.get(&(repository, commit.clone(), file.clone())) {
                None => missing("EntryNotFound").header("x-repo-commit", commit),
                // Small files are in git, and the hub sends them itself.
                Some(bytes) if file.ends_with(".json") => content(bytes)
                    .header("x-repo-commit", commit)
                    .header("etag", format!("\"{}\"", git_hash(bytes))),
                Some(bytes) => Reply::new(302)
                    .header("x-repo-commit", commit)
                    .header("x-linked-etag", format!("\"{}\"", sha256(bytes)))
                    .header("x-linked-size", bytes.len())
                    .header("etag", "\"another\"")
                    .header("location", format!("{storage}/blob/{}?sig=1", sha256(bytes))),
            }
        }
        _ => Reply::new(404),
    }
}

fn commit_of(state: &State, repository: &str, revision: &str) -> Result<String, &'static str> {
    if !state.files.keys().any(|(r, _, _)| r == repository) {
        return Err("RepoNotFound");
    }
    let revision = revision.replace("%2F", "/");
    let known = state.files.keys().any(|(r, c, _)| r == repository && *c == revision);
    match state.refs.get(&(repository.to_owned(), revision.clone())) {
        Some(commit) => Ok(commit.clone()),
        None if known => Ok(revision),
        None => Err("RevisionNotFound"),
    }
}

fn listing(state: &State, repository: &str, commit: &str) -> Reply {
    let files = state.files.keys().filter(|(r, c, _)| r == repository && c == commit);
    let siblings: Vec<_> = files.map(|(_, _, f)| serde_json::json!({ "rfilename": f })).collect();
    let json = serde_json::json!({ "id": repository, "sha": commit, "siblings": siblings });
    Reply::new(200).header("content-type", "application/json").body(json.to_string())
}

/// Sends the range that is asked for.
fn ranged(request: &Request, bytes: &[u8]) -> Reply {
    let range = request.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-'));
    match range.and_then(|from| from.parse::<usize>().ok()) {
        None => Reply::new(200).body(bytes),
        Some(from) if from >= bytes.len() => Reply::new(416),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            Reply::new(206).header("content-range", range).body(&bytes[from..])
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The name that git gives a file.
pub fn git_hash(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex(&hasher.finalize())
}
