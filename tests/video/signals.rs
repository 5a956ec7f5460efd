//! Signals, stalled streams and hanging programs: `atrous segment` exits in time, keeps the frames
//! so far, and leaves no temporary files.

use super::command::{directory, in_order};
use super::support::ending_signals;
use super::*;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Timeout for every wait, sufficient on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A running program, killed if a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// `atrous segment` with the tiny network.
    fn segment(directory: &Path, arguments: &[&str]) -> Self {
        Self::start(program(directory).args(arguments))
    }

    fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the program was built with the tests"))
    }

    /// Sends raw frames and keeps the stream open.
    fn feed(&mut self, numbers: std::ops::Range<usize>) {
        let stdin = self.0.stdin.as_mut().expect("a pipe");
        for number in numbers {
            stdin.write_all(&numbered(45, 35, number).rgb).expect("the program reads");
        }
        stdin.flush().expect("the program reads");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.0.id().to_string()])
            .status()
            .expect("kill is there");
        assert!(sent.success(), "the program has already exited");
    }

    /// Waits for the exit and returns the status and standard error. The input stays open until
    /// then.
    fn end(&mut self) -> (ExitStatus, String) {
        let stdin = self.0.stdin.take();
        let started = Instant::now();
        let status = wait_for("the end", || self.0.try_wait().expect("it can be waited for"));
        assert!(started.elapsed() < TIMEOUT);
        drop(stdin);
        let mut stderr = String::new();
        self.0.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
        (status, stderr)
    }
}

fn program(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atrous"));
    command
        .current_dir(directory)
        .env("ATROUS_DEVICE", "cpu")
        .env("NO_COLOR", "1")
        .env_remove("ATROUS_LOG");
    command.args(["segment", "-w", "tiny.safetensors"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(started.elapsed() < TIMEOUT, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// Waits until the temporary file of a Y4M video has at least `count` frames.
fn wait_for_frames(directory: &Path, count: u64) {
    let frame = 6 + 45 * 35 + 2 * 23 * 18;
    wait_for("the frames", || {
        let hidden = names(directory).into_iter().find(|name| name.starts_with(".atrous-"))?;
        let length = std::fs::metadata(directory.join(hidden)).ok()?.len();
        (length > count * frame).then_some(())
    });
}

/// Creates fake programs in place of ffmpeg's and returns the PATH to use. Each writes its process
/// ID to `NAME.pid` and then runs its script.
fn fake_programs(directory: &Path, programs: &[(&str, &str)]) -> std::ffi::OsString {
    let bin = directory.join("bin");
    std::fs::create_dir(&bin).expect("a fresh directory");
    for (name, script) in programs {
        let path = bin.join(name);
        std::fs::write(
            &path,
            format!(
                "#!/bin/sh\necho $$ > '{}'\n{script}\n",
                bin.join(format!("{name}.pid")).display()
            ),
        )
        .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path)))
        .expect("no colon in the name")
}

/// Returns the process ID of a fake program.
fn pid_of(directory: &Path, name: &str) -> String {
    let file = directory.join("bin").join(format!("{name}.pid"));
    wait_for("the fake program", || {
        std::fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n'))
    })
    .trim()
    .to_owned()
}

fn is_alive(pid: &str) -> bool {
    Command::new("kill")
        .args(["-0", pid])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

const RAW: [&str; 6] = ["-", "--raw-size", "45x35", "-s", "side-by-side", "-o"];

/// Only the finished video is left, without temporary files.
#[test]
fn a_stalled_stream_is_finished_with_the_frames_so_far_by_each_signal() {
    for signal in ending_signals() {
        let dir = directory();
        let mut running = Running::segment(dir.path(), &[&RAW[..], &["out.y4m"]].concat());
        running.feed(0..5);
        wait_for_frames(dir.path(), 5);
        running.signal(signal);
        let (status, stderr) = running.end();
        assert!(
            status.success() && stderr.contains("stopping after the frames in progress"),
            "{signal}: {status}, {stderr}"
        );
        assert_eq!(names(dir.path()), ["out.y4m", "tiny.safetensors"], "{signal}");
        in_order(&read_all(&dir.path().join("out.y4m"), &VideoOptions::default()).1, 5);
    }
}

#[test]
#[cfg_attr(not(has_ffmpeg), ignore = "needs ffmpeg")]
fn a_container_is_finished_by_sigterm_too() {
    let dir = directory();
    let mut running = Running::segment(dir.path(), &[&RAW[..], &["out.mkv"]].concat());
    running.feed(0..5);
    // The encoder writes its first bytes only at the end, so the test cannot wait for frames, only
    // for the temporary file.
    wait_for("the file", || {
        names(dir.path()).iter().any(|name| name.starts_with(".atrous-")).then_some(())
    });
    std::thread::sleep(Duration::from_millis(1500));
    running.signal("TERM");
    let (status, stderr) = running.end();
    assert!(status.success(), "{status}, {stderr}");
    assert_eq!(names(dir.path()), ["out.mkv", "tiny.safetensors"]);
    let frames = read_all(&dir.path().join("out.mkv"), &VideoOptions::default()).1;
    assert!(!frames.is_empty() && frames.len() <= 5, "{} frames", frames.len());
}

#[test]
fn a_signal_before_the_first_frame_ends_at_once_and_leaves_nothing() {
    // No data at all, and a header without frames.
    for input in ["", "YUV4MPEG2 W45 H35 F25:1\n"] {
        for (name, signal, code) in [("out.y4m", "INT", 130), ("frames/", "TERM", 143)] {
            let dir = directory();
            let mut running = Running::segment(dir.path(), &["-", "-o", name]);
            running.0.stdin.as_mut().unwrap().write_all(input.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(700));
            running.signal(signal);
            let (status, stderr) = running.end();
            assert_eq!(status.code(), Some(code), "{stderr}");
            assert!(
                stderr.contains("stopped before the first frame; nothing was written"),
                "{stderr}"
            );
            assert_eq!(names(dir.path()), ["tiny.safetensors"], "{name}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_not_kept_waiting_for_by_a_stalled_source() {
    let dir = directory();
    let mut running = Running::segment(dir.path(), &[&RAW[..], &["-"]].concat());
    running.feed(0..5);
    let mut first = [0; 100];
    running.0.stdout.take().unwrap().read_exact(&mut first).unwrap();
    // The next frame is written to a closed pipe; later ones may not be read any more.
    let stdin = running.0.stdin.as_mut().unwrap();
    let _ = (5..10).try_for_each(|number| stdin.write_all(&numbered(45, 35, number).rgb));
    let (status, stderr) = running.end();
    assert!(status.success() && !stderr.contains("error"), "{status}, {stderr}");
}

/// The encoder does not read its input, so the first signal waits for it. The second one does not.
#[test]
fn the_second_signal_ends_at_once_and_takes_files_and_children_along() {
    let dir = directory();
    let path = fake_programs(dir.path(), &[("ffmpeg", "exec sleep 1000")]);
    // More than a pipe buffers.
    let frames: Vec<u8> = (0..20).flat_map(|number| numbered(160, 120, number).rgb).collect();
    std::fs::write(dir.path().join("video.rgb"), frames).unwrap();
    let mut command = program(dir.path());
    command.args(["video.rgb", "--raw-size", "160x120", "-o", "out.mkv"]).env("PATH", path);
    let mut running = Running::start(&mut command);
    let child = pid_of(dir.path(), "ffmpeg");
    std::thread::sleep(Duration::from_millis(500));
    assert!(is_alive(&child));
    running.signal("TERM");
    std::thread::sleep(Duration::from_millis(500));
    running.signal("TERM");
    let started = Instant::now();
    let (status, stderr) = running.end();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!((status.code(), status.signal()), (Some(143), None), "{stderr}");
    assert!(!is_alive(&child), "the encoder was left running");
    assert_eq!(
        names(dir.path()),
        ["bin", "tiny.safetensors", "video.rgb"],
        "the encoder's temporary file was left"
    );
}

#[test]
fn an_ffmpeg_that_hangs_while_it_opens_does_not_hold_up_the_exit() {
    let dir = directory();
    let path =
        fake_programs(dir.path(), &[("ffmpeg", "exec sleep 1000"), ("ffprobe", "exec sleep 1000")]);
    std::fs::write(dir.path().join("video.mkv"), b"\x1aE\xdf\xa3").unwrap();
    let mut running =
        Running::start(program(dir.path()).args(["video.mkv", "-o", "out.y4m"]).env("PATH", path));
    let child = pid_of(dir.path(), "ffmpeg");
    running.signal("TERM");
    let (status, stderr) = running.end();
    assert_eq!(status.code(), Some(143), "{stderr}");
    assert!(!is_alive(&child), "ffmpeg was left running");
    assert_eq!(names(dir.path()), ["bin", "tiny.safetensors", "video.mkv"]);
}

/// The length is only used for the progress bar.
#[test]
#[cfg_attr(not(has_ffmpeg), ignore = "needs ffmpeg")]
fn an_ffprobe_that_hangs_costs_seconds_and_no_frames() {
    let dir = directory();
    write_numbered(&dir.path().join("video.mkv"), &info(64, 48, "25"), 3).unwrap();
    let path = fake_programs(dir.path(), &[("ffprobe", "exec sleep 1000")]);
    let mut running = Running::start(
        program(dir.path())
            .args(["video.mkv", "-s", "side-by-side", "-o", "out.y4m"])
            .env("PATH", path),
    );
    let child = pid_of(dir.path(), "ffprobe");
    let (status, stderr) = running.end();
    assert!(status.success(), "{stderr}");
    assert!(!is_alive(&child), "ffprobe was left running");
    in_order(&read_all(&dir.path().join("out.y4m"), &VideoOptions::default()).1, 3);
}

#[test]
fn a_batch_of_images_stops_after_those_under_way() {
    let dir = directory();
    std::fs::create_dir(dir.path().join("in")).unwrap();
    for n in 0..400 {
        numbered(320, 240, n % 64).save(dir.path().join(format!("in/{n:03}.png"))).unwrap();
    }
    let mut running = Running::segment(dir.path(), &["in", "-o", "out", "-s", "mask", "-q"]);
    wait_for("the first mask", || dir.path().join("out/000.png").exists().then_some(()));
    running.signal("TERM");
    let (status, stderr) = running.end();
    assert_eq!(status.code(), Some(143), "{stderr}");
    assert!(stderr.contains("stopped after") && stderr.contains("of 400 images"), "{stderr}");
    let masks = names(&dir.path().join("out"));
    assert!(masks.len() < 400 && masks.iter().all(|name| !name.starts_with('.')), "{masks:?}");
}

/// `nohup atrous .. &`: the program outlives its terminal.
#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let dir = directory();
    let mut command = Command::new("sh");
    let script = "trap '' HUP; exec \"$0\" segment -w tiny.safetensors - --raw-size 45x35 -s side-by-side -o out.y4m";
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_atrous")])
        .current_dir(dir.path())
        .env("ATROUS_DEVICE", "cpu");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(&mut command);
    running.feed(0..3);
    wait_for_frames(dir.path(), 3);
    running.signal("HUP");
    running.feed(3..6);
    drop(running.0.stdin.take());
    let (status, stderr) = running.end();
    assert!(status.success() && !stderr.contains("stopping"), "{status}, {stderr}");
    in_order(&read_all(&dir.path().join("out.y4m"), &VideoOptions::default()).1, 6);
}
