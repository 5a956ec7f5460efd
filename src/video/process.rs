//! Child processes: standard error in bounded memory, waiting with a timeout, and termination with
//! this process.

use crate::error::{Result, error};
use crate::thread;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Number of bytes kept from the end of standard error, which has the reason of a failure.
const STDERR_TAIL: usize = 2000;

/// How long to wait for the end of standard error after the process has exited: a grandchild may
/// keep the pipe open.
const STDERR_TIMEOUT: Duration = Duration::from_secs(1);

/// The running children, for [`kill_children`]. Process IDs would not do, since the system reuses
/// them.
static RUNNING: Mutex<Vec<Weak<Mutex<Child>>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data is consistent after every step, so a poisoned lock is harmless.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child process, killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Arc<Mutex<Child>>,
    name: String,
    /// Receives the tail of standard error once it is closed.
    stderr: Option<Receiver<String>>,
}

impl Process {
    /// Starts a program. `advice` is shown if it is not installed.
    pub(super) fn start(command: &mut Command, advice: &'static str) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stderr(Stdio::piped());
        own_group(command);
        // Locked during the start, because a child not in the list would outlive this program.
        let mut running = lock(&RUNNING);
        let mut child = command.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => error!(
                Io,
                "the program `{name}` is needed for this kind of video, but is not installed"
            )
            .advice(advice),
            _ => error!(Io, "could not start the program `{name}`").source(e),
        })?;
        let pipe = child.stderr.take();
        let child = Arc::new(Mutex::new(child));
        running.retain(|child| child.strong_count() > 0);
        running.push(Arc::downgrade(&child));
        drop(running);
        // Read continuously, because a child blocks when the pipe is full.
        let mut process = Self { child, name, stderr: None };
        if let Some(pipe) = pipe {
            let (sender, stderr) = sync_channel(1);
            let read = move || {
                drop(
                    sender
                        .send(String::from_utf8_lossy(&tail(pipe, STDERR_TAIL)).trim().to_owned()),
                )
            };
            thread::spawn("to read the errors of a program", read)?;
            process.stderr = Some(stderr);
        }
        Ok(process)
    }

    /// Takes the standard input if it is piped.
    pub(super) fn stdin(&self) -> Option<ChildStdin> {
        lock(&self.child).stdin.take()
    }

    /// Takes the standard output if it is piped.
    pub(super) fn stdout(&self) -> Option<ChildStdout> {
        lock(&self.child).stdout.take()
    }

    /// Kills the process and what it started.
    pub(super) fn kill(&self) {
        kill(&mut lock(&self.child));
    }

    /// Waits for the process to exit. It is killed if `timeout` passes and the length of the file
    /// `growing` did not change meanwhile.
    ///
    /// # Errors
    /// Returns an error if the process failed or was killed.
    pub(super) fn wait(
        &mut self,
        timeout: Duration,
        growing: Option<&Path>,
    ) -> std::result::Result<(), ExitError> {
        let status = self.wait_for_exit(timeout, growing);
        let stderr = self
            .stderr
            .take()
            .and_then(|stderr| stderr.recv_timeout(STDERR_TIMEOUT).ok())
            .unwrap_or_default();
        let program = self.name.clone();
        match status {
            Ok(Some(status)) if status.success() => {
                // The program continued after an error, so report it as a warning.
                if !stderr.is_empty() {
                    log::warn!("{program}: {stderr}");
                }
                Ok(())
            }
            Ok(Some(status)) => Err(ExitError::Failed { program, status, stderr }),
            Ok(None) => Err(ExitError::TimedOut { program, timeout, stderr }),
            Err(e) => Err(ExitError::Wait(e)),
        }
    }

    /// Waits for the exit status; `None` if the process was killed.
    fn wait_for_exit(
        &self,
        timeout: Duration,
        growing: Option<&Path>,
    ) -> std::io::Result<Option<ExitStatus>> {
        let length =
            || growing.and_then(|path| std::fs::metadata(path).ok()).map(|meta| meta.len());
        let mut started = Instant::now();
        let mut last_length = length();
        let mut pause = Duration::from_millis(1);
        loop {
            // Not locked while sleeping, so that it can be killed meanwhile.
            if let Some(status) = lock(&self.child).try_wait()? {
                return Ok(Some(status));
            }
            if started.elapsed() > timeout {
                let now = length();
                if now == last_length {
                    self.kill();
                    lock(&self.child).wait()?;
                    return Ok(None);
                }
                started = Instant::now();
                last_length = now;
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_millis(50));
        }
    }
}

/// Kills a child with its process group (see [`own_group`]): a script that wraps ffmpeg would leave
/// ffmpeg behind.
fn kill(child: &mut Child) {
    #[cfg(all(unix, feature = "cli"))]
    if let (Ok(None), Ok(group)) = (child.try_wait(), i32::try_from(child.id())) {
        // SAFETY: `kill` accesses no memory. The child is not reaped, so the group is its own.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    // It may have exited already.
    let _ = child.kill();
}

/// Why a process did not exit successfully.
#[derive(Debug)]
pub(super) enum ExitError {
    /// It exited with an error status.
    Failed { program: String, status: ExitStatus, stderr: String },
    /// It did not exit in time and was killed.
    TimedOut { program: String, timeout: Duration, stderr: String },
    /// Waiting for it failed.
    Wait(std::io::Error),
}

impl ExitError {
    /// Returns whether the program wrote a message to standard error.
    pub(super) fn has_stderr(&self) -> bool {
        match self {
            ExitError::Failed { stderr, .. } | ExitError::TimedOut { stderr, .. } => {
                !stderr.is_empty()
            }
            ExitError::Wait(_) => false,
        }
    }
}

impl fmt::Display for ExitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitError::Failed { program, status, stderr } if stderr.is_empty() => {
                write!(f, "{program} failed with {status}")
            }
            ExitError::Failed { program, stderr, .. } => write!(f, "{program} failed: {stderr}"),
            ExitError::TimedOut { program, timeout, stderr } => {
                let seconds = timeout.as_secs();
                write!(f, "{program} did not exit within {seconds} s and was killed")?;
                if stderr.is_empty() {
                    Ok(())
                } else {
                    write!(f, "; its last output was: {stderr}")
                }
            }
            ExitError::Wait(e) => e.fmt(f),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = lock(&self.child).wait();
    }
}

/// Kills all running children. No further ones can be started, so this is only for a process about
/// to exit.
#[cfg(feature = "cli")]
pub(crate) fn kill_children() {
    let running = lock(&RUNNING);
    for child in running.iter().filter_map(Weak::upgrade) {
        let mut child = lock(&child);
        // It may have exited already. Do not wait long for a process that cannot be killed.
        kill(&mut child);
        let killed = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && killed.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    std::mem::forget(running);
}

/// Runs a program and returns its standard output. `None` if it writes more than `max_bytes`,
/// fails, or takes longer than `timeout`.
pub(super) fn output(
    command: &mut Command,
    timeout: Duration,
    max_bytes: usize,
) -> Option<Vec<u8>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start(command, "").ok()?;
    let stdout = process.stdout()?;
    let (sender, output) = sync_channel(1);
    let read = move || {
        let mut bytes = Vec::new();
        let read = stdout.take(max_bytes as u64 + 1).read_to_end(&mut bytes);
        // The receiver may have timed out.
        let _ = sender.send(read.map(|_| bytes));
    };
    thread::spawn("to read the output of a program", read).ok()?;
    let started = Instant::now();
    let bytes = output.recv_timeout(timeout).ok()?.ok().filter(|bytes| bytes.len() <= max_bytes)?;
    process.wait(timeout.saturating_sub(started.elapsed()), None).ok().map(|()| bytes)
}

/// Reads a stream to its end and returns the last `max` bytes.
fn tail(mut stream: impl Read, max: usize) -> Vec<u8> {
    let (mut tail, mut chunk) = (Vec::new(), vec![0; 4096]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return tail,
            Ok(read) => {
                tail.extend_from_slice(&chunk[..read]);
                tail.drain(..tail.len().saturating_sub(max));
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            // Return what was read so far.
            Err(_) => return tail,
        }
    }
}

/// Starts the child in its own process group, so that Ctrl-C reaches only this program, which then
/// lets its children finish.
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
        assert_eq!(tail(&text[..], STDERR_TAIL), text[text.len() - STDERR_TAIL..]);
        assert_eq!(tail(&text[..10], STDERR_TAIL), text[..10]);
        assert_eq!(tail(&text[..0], STDERR_TAIL), [0; 0]);
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
        let started = Instant::now();
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
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    }
    #[cfg(unix)]
    #[test]
    fn an_exit_error_has_the_stderr_even_if_a_grandchild_keeps_the_pipe_open() {
        let started = Instant::now();
        let mut process = Process::start(&mut shell("echo bad codec >&2; exit 2"), "").unwrap();
        let error = process.wait(Duration::from_secs(20), None).unwrap_err();
        assert!(error.has_stderr());
        assert_eq!(error.to_string(), "sh failed: bad codec");
        let mut process = Process::start(&mut shell("sleep 5 & exit 2"), "").unwrap();
        let error = process.wait(Duration::from_secs(20), None).unwrap_err();
        assert!(
            !error.has_stderr() && error.to_string().contains("sh failed with exit status: 2"),
            "{error}"
        );
        let mut process = Process::start(&mut shell("exec sleep 100"), "").unwrap();
        let error = process.wait(Duration::from_millis(50), None).unwrap_err();
        assert!(error.to_string().contains("did not exit"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    }
}
