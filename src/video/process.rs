//! Child processes: their complaints in bounded memory, waiting with a limit, and an end with this
//! process.

use crate::error::{Result, error};
use crate::thread;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// What is kept of the complaints: their end, which says why a program gave up.
const KEPT: usize = 2000;

/// How long the last complaints are waited for once the process has ended: something that it
/// started may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The children that run, for [`end_children`]. The process IDs would not do: the system uses them
/// again.
static RUNNING: Mutex<Vec<Weak<Mutex<Child>>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A list of children, or a child, is whole after every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child process. It ends with this.
#[derive(Debug)]
pub(super) struct Process {
    child: Arc<Mutex<Child>>,
    name: String,
    /// The end of what it complained about, once its standard error is closed.
    complaints: Option<Receiver<String>>,
}

impl Process {
    /// Starts a program. `advice` is what to do where it is not installed.
    pub(super) fn start(command: &mut Command, advice: &'static str) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stderr(Stdio::piped());
        own_group(command);
        // Locked over the start: a child that `end_children` does not know of would outlive the
        // program.
        let mut running = lock(&RUNNING);
        let mut child = command.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                error!(Io, "the program `{name}` is not installed, and this kind of video needs it")
                    .advice(advice)
            }
            _ => error!(Io, "the program `{name}` could not be started").source(e),
        })?;
        let stderr = child.stderr.take();
        let child = Arc::new(Mutex::new(child));
        running.retain(|child| child.strong_count() > 0);
        running.push(Arc::downgrade(&child));
        drop(running);
        // Read all the time: a child whose complaints nobody reads stands still.
        let mut process = Self { child, name, complaints: None };
        if let Some(stderr) = stderr {
            let (sender, complaints) = sync_channel(1);
            let read = move || {
                drop(sender.send(String::from_utf8_lossy(&tail(stderr, KEPT)).trim().to_owned()))
            };
            thread::spawn("to read what a program complains about", read)?;
            process.complaints = Some(complaints);
        }
        Ok(process)
    }

    /// Its standard input, where that was asked for as a pipe and not taken yet.
    pub(super) fn stdin(&self) -> Option<ChildStdin> {
        lock(&self.child).stdin.take()
    }

    /// Its standard output, likewise.
    pub(super) fn stdout(&self) -> Option<ChildStdout> {
        lock(&self.child).stdout.take()
    }

    /// Ends it now.
    pub(super) fn kill(&self) {
        // It may have ended already, which is fine.
        let _ = lock(&self.child).kill();
    }

    /// Waits for the end, and returns what the process said where it failed. It is killed once
    /// `limit` has passed without an end and without a change in the length of the file `growing`.
    pub(super) fn end(
        &mut self,
        limit: Duration,
        growing: Option<&Path>,
    ) -> std::result::Result<(), String> {
        let status = self.wait(limit, growing);
        let said = self
            .complaints
            .take()
            .and_then(|said| said.recv_timeout(LAST_WORDS).ok())
            .unwrap_or_default();
        let name = &self.name;
        match status {
            Ok(Some(status)) if status.success() => {
                // It goes on where it can, and so does this; what it met is not kept quiet.
                if !said.is_empty() {
                    log::warn!("{name} says: {said}");
                }
                Ok(())
            }
            Ok(Some(status)) if said.is_empty() => Err(format!("{name} ended with {status}")),
            Ok(Some(_)) => Err(format!("{name} says: {said}")),
            Ok(None) if said.is_empty() => {
                Err(format!("{name} did not end within {} s and was killed", limit.as_secs()))
            }
            Ok(None) => Err(format!(
                "{name} did not end within {} s and was killed; it says: {said}",
                limit.as_secs()
            )),
            Err(e) => Err(e.to_string()),
        }
    }

    /// How it ended; `None` where it had to be killed.
    fn wait(&self, limit: Duration, growing: Option<&Path>) -> std::io::Result<Option<ExitStatus>> {
        let length =
            || growing.and_then(|path| std::fs::metadata(path).ok()).map(|meta| meta.len());
        let (mut begun, mut before, mut pause) =
            (Instant::now(), length(), Duration::from_millis(1));
        loop {
            // Never locked while waiting, so that it can be killed meanwhile.
            if let Some(status) = lock(&self.child).try_wait()? {
                return Ok(Some(status));
            }
            if begun.elapsed() > limit {
                let now = length();
                if now == before {
                    self.kill();
                    lock(&self.child).wait()?;
                    return Ok(None);
                }
                (begun, before) = (Instant::now(), now);
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_millis(50));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = lock(&self.child).wait();
    }
}

/// Kills all children that run. Only for a process that ends right after it: none can be started
/// any more.
#[cfg(feature = "cli")]
pub(crate) fn end_children() {
    let running = lock(&RUNNING);
    for child in running.iter().filter_map(Weak::upgrade) {
        let mut child = lock(&child);
        // It may have ended already, which is fine. One that the system cannot end is not waited
        // for.
        let _ = child.kill();
        let killed = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && killed.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    std::mem::forget(running);
}

/// What a program writes to standard output, `most` bytes at most; `None` where it writes more,
/// fails, or takes longer than `limit`.
pub(super) fn output(command: &mut Command, limit: Duration, most: usize) -> Option<Vec<u8>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start(command, "").ok()?;
    let stdout = process.stdout()?;
    let (sender, written) = sync_channel(1);
    let read = move || {
        let mut bytes = Vec::new();
        let read = stdout.take(most as u64 + 1).read_to_end(&mut bytes);
        // Whoever asked may have lost patience.
        let _ = sender.send(read.map(|_| bytes));
    };
    thread::spawn("to read what a program prints", read).ok()?;
    let begun = Instant::now();
    let bytes = written.recv_timeout(limit).ok()?.ok().filter(|bytes| bytes.len() <= most)?;
    process.end(limit.saturating_sub(begun.elapsed()), None).ok().map(|()| bytes)
}

/// The last bytes of a stream, `most` of them, without keeping the others.
fn tail(mut stream: impl Read, most: usize) -> Vec<u8> {
    let (mut kept, mut piece) = (Vec::new(), vec![0; 4096]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return kept,
            Ok(read) => {
                kept.extend_from_slice(&piece[..read]);
                kept.drain(..kept.len().saturating_sub(most));
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            // What cannot be read any more is not missed.
            Err(_) => return kept,
        }
    }
}

/// Ctrl-C is for this program, which then lets its children finish.
fn own_group(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(windows)]
    std::os::windows::process::CommandExt::creation_flags(command, 0x200); // CREATE_NEW_PROCESS_GROUP
    #[cfg(not(any(unix, windows)))]
    let _ = command;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_stream_is_kept() {
        let text: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        assert_eq!(tail(&text[..], KEPT), text[text.len() - KEPT..]);
        assert_eq!(tail(&text[..10], KEPT), text[..10]);
        assert_eq!(tail(&text[..0], KEPT), [0; 0]);
    }

    #[cfg(unix)]
    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[cfg(unix)]
    #[test]
    fn a_process_that_hangs_or_writes_without_end_is_given_up() {
        let begun = Instant::now();
        let short = Duration::from_millis(300);
        assert_eq!(
            output(&mut shell("echo 12.5"), Duration::from_secs(20), 100).as_deref(),
            Some(&b"12.5\n"[..])
        );
        assert_eq!(
            output(&mut shell("echo 12.5; exit 3"), Duration::from_secs(20), 100),
            None,
            "it failed"
        );
        assert_eq!(output(&mut shell("exec sleep 100"), short, 100), None, "it hangs");
        assert_eq!(
            output(&mut shell("exec >&-; exec sleep 100"), short, 100),
            None,
            "it hangs after its output is closed"
        );
        assert_eq!(
            output(&mut shell("exec cat /dev/zero"), Duration::from_secs(20), 100),
            None,
            "it writes for ever"
        );
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }

    #[cfg(unix)]
    #[test]
    fn the_end_tells_what_was_said_even_where_a_grandchild_keeps_the_pipe_open() {
        let begun = Instant::now();
        let mut process = Process::start(&mut shell("echo bad codec >&2; exit 2"), "").unwrap();
        assert_eq!(
            process.end(Duration::from_secs(20), None),
            Err("sh says: bad codec".to_owned())
        );
        let mut process = Process::start(&mut shell("sleep 5 & exit 2"), "").unwrap();
        assert!(process.end(Duration::from_secs(20), None).unwrap_err().contains("ended with"));
        let mut process = Process::start(&mut shell("exec sleep 100"), "").unwrap();
        assert!(process.end(Duration::from_millis(50), None).unwrap_err().contains("did not end"));
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }
}
