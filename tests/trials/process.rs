//! Running the program with a time limit.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The result of a run.
pub struct Exit {
    pub status: ExitStatus,
    pub stderr: Vec<u8>,
    pub stdout: Vec<u8>,
}

impl Exit {
    /// The exit code, or 128 and the signal.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }

    /// Returns an error if the program aborted, crashed or panicked, or failed without a message.
    pub fn check(self) -> Result<Self, String> {
        let stderr = self.stderr_text();
        let crashed = self.status.signal().is_some_and(|s| [4, 6, 7, 8, 11].contains(&s))
            || [101, 132, 134, 136, 139].contains(&self.code());
        if crashed || stderr.contains("panicked at") {
            return Err(format!("crashed ({}): {}", self.code(), tail(&stderr)));
        }
        // A signal may end the program immediately.
        let by_signal = matches!(self.status.code(), None | Some(129 | 130 | 143));
        if !self.status.success() && !by_signal && stderr.is_empty() {
            return Err(format!("failed with code {} and no message", self.code()));
        }
        Ok(self)
    }
}

/// Returns the last 300 characters.
pub fn tail(text: &str) -> String {
    let skip = text.chars().count().saturating_sub(300);
    text.chars().skip(skip).collect()
}

/// `atrous` in `dir`, on the CPU executor.
pub fn atrous(dir: &Path) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("atrous"));
    configure(&mut command, dir);
    command
}

/// `atrous` in `dir` with at most `kib` of address space.
pub fn atrous_within(dir: &Path, kib: usize) -> Command {
    let mut command = Command::new("sh");
    // Limits of the shell also apply to the program that replaces it.
    command
        .arg("-c")
        .arg(format!("ulimit -v {kib}; exec \"$0\" \"$@\""))
        .arg(assert_cmd::cargo::cargo_bin("atrous"));
    configure(&mut command, dir);
    command
}

fn configure(command: &mut Command, dir: &Path) {
    command
        .current_dir(dir)
        .env("ATROUS_DEVICE", "cpu")
        .env("NO_COLOR", "1")
        .env_remove("ATROUS_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// A running child, whose output is drained so that it never blocks on a full pipe.
pub struct Running {
    pub child: Child,
    readers: [std::thread::JoinHandle<Vec<u8>>; 2],
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let drain = |mut from: Box<dyn Read + Send>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = from.read_to_end(&mut bytes);
                bytes
            })
        };
        let out = child
            .stdout
            .take()
            .map_or_else(|| Box::new(std::io::empty()) as _, |s| Box::new(s) as _);
        let err = child
            .stderr
            .take()
            .map_or_else(|| Box::new(std::io::empty()) as _, |s| Box::new(s) as _);
        let readers = [drain(out), drain(err)];
        Self { child, readers }
    }

    pub fn signal(&self, name: &str) {
        let _ = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .stderr(Stdio::null())
            .status();
    }

    /// Waits for the exit. Kills the child and returns an error if it does not exit within `limit`.
    pub fn end(mut self, limit: Duration) -> Result<Exit, String> {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child of this process") {
                break status;
            }
            if start.elapsed() > limit {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return Err(format!("did not exit within {} s", limit.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let [stdout, stderr] = self.readers.map(|r| r.join().expect("a reader"));
        Exit { status, stdout, stderr }.check()
    }
}

/// Runs a command to its exit.
pub fn run(command: &mut Command, limit: Duration) -> Result<Exit, String> {
    Running::start(command).end(limit)
}
