//! Decoding of containers through the `ffmpeg` program, if it is installed, as a child process with
//! a pipe. Nothing is ever downloaded.
//!
//! Not the crate `ffmpeg-sidecar`, because it parses rounded frame rates and sizes from ffmpeg's
//! log, while a Y4M header has the exact frame rate and this crate reads Y4M anyway.

use super::process::{self, ExitError, Process};
use super::y4m::Y4mSource;
use super::yuv::Matrix;
use super::{Frame, FrameSource, VideoInfo, VideoOptions};
use crate::error::{Error, ErrorKind, Result, error};
use crate::files::open_regular;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

/// How long ffmpeg may take to exit after closing its output.
pub(super) const EXIT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait for the error of an ffmpeg that wrote no Y4M header.
const ERROR_TIMEOUT: Duration = Duration::from_secs(1);

/// Limits on ffprobe's time and output in bytes. It finds the length of a video, which is only used
/// for the progress bar.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_PROBE_OUTPUT: usize = 4096;

/// Returns a path as a URL for ffmpeg, so that a leading dash or a colon has no special meaning.
pub(super) fn file_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

/// Beginnings of addresses that ffmpeg opens.
const SCHEMES: [&str; 4] = ["http://", "https://", "rtsp://", "rtmp://"];

/// Protocols of files. Playlists may refer to other files, but never to the network.
const LOCAL: &str = "file,pipe,crypto,data";

/// Protocols of addresses. Playlists may refer to other addresses, but never to files.
const REMOTE: &str = "http,https,httpproxy,tls,tcp,udp,rtp,rtsp,rtmp,hls,crypto,data";

/// Returns whether a path is an address of a video on the network, which ffmpeg opens.
pub(crate) fn is_url(path: &Path) -> bool {
    path.to_str().is_some_and(|path| SCHEMES.iter().any(|scheme| path.starts_with(scheme)))
}

/// Returns the arguments of ffmpeg and ffprobe that open a path.
fn input(path: &Path) -> [OsString; 4] {
    let (protocols, url) =
        if is_url(path) { (REMOTE, path.into()) } else { (LOCAL, file_url(path)) };
    ["-protocol_whitelist".into(), protocols.into(), "-i".into(), url]
}

const URL_ADVICE: &str = "install ffmpeg, download the file, or pipe a stream: `ffmpeg -i URL -f yuv4mpegpipe - | atrous segment - ...`";

const READ_ADVICE: &str = "install ffmpeg, or convert the video on another machine: `ffmpeg -i VIDEO -pix_fmt yuv420p video.y4m`";

/// Reads frames decoded by ffmpeg.
struct FfmpegSource {
    frames: Y4mSource<BufReader<ChildStdout>>,
    process: Process,
    name: String,
    info: VideoInfo,
    over: bool,
}

/// Refuses playlists: the files that they name are not compared with the outputs.
fn refuse_playlist(path: &Path, file: File) -> Result<()> {
    let mut start = Vec::new();
    file.take(16).read_to_end(&mut start).map_err(|e| Error::io(path, "could not be read", e))?;
    if [&b"ffconcat"[..], b"#EXTM3U"].iter().any(|magic| start.starts_with(magic)) {
        return Err(error!(Usage, "is a playlist").file(path).advice("name the video itself"));
    }
    Ok(())
}

/// Opens a container.
pub(super) fn open(path: &Path, options: &VideoOptions) -> Result<Box<dyn FrameSource>> {
    // ffmpeg would wait for a FIFO forever, and its message for a missing file differs from this
    // crate's.
    if !is_url(path) {
        refuse_playlist(path, open_regular(path, "a video")?)?;
    }
    let mut command = Command::new("ffmpeg");
    // ffmpeg rotates frames upright, makes the frame rate constant, and converts to a known matrix.
    command.args(["-nostdin", "-loglevel", "error"]).args(input(path));
    command.args([
        "-map",
        "0:v:0",
        "-vf",
        "scale=out_color_matrix=bt601:out_range=tv",
        "-pix_fmt",
        "yuv444p",
    ]);
    command.args(["-f", "yuv4mpegpipe", "pipe:1"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let advice = if is_url(path) { URL_ADVICE } else { READ_ADVICE };
    let mut process = Process::start(&mut command, advice).map_err(|e| e.file(path))?;
    let stdout = process.stdout().expect("invariant: stdout is piped");
    let name = path.display().to_string();
    let reader = BufReader::with_capacity(1 << 16, stdout);
    let frames = match Y4mSource::new(reader, &name, None, Some(Matrix::Bt601), options) {
        Ok(frames) => frames,
        // ffmpeg's own message, if any, explains a missing header best. It exits soon after closing
        // its output.
        Err(no_header) => {
            return Err(match process.wait(ERROR_TIMEOUT, None) {
                Err(e) if e.has_stderr() => exit_error(e).file(path),
                _ => no_header,
            });
        }
    };
    let info = VideoInfo { frames: expected_frames(path, frames.info()), ..frames.info().clone() };
    Ok(Box::new(FfmpegSource { frames, process, name, info, over: false }))
}

/// Estimates the number of frames: ffprobe's duration times the frame rate. `None` if ffprobe does
/// not report a duration or is not installed.
fn expected_frames(path: &Path, info: &VideoInfo) -> Option<u64> {
    if is_url(path) {
        // A second connection, perhaps to a camera that has one.
        return None;
    }
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-show_entries", "format=duration"]);
    command.args(["-of", "default=nokey=1:noprint_wrappers=1"]).args(input(path));
    let output = process::output(&mut command, PROBE_TIMEOUT, MAX_PROBE_OUTPUT)?;
    let seconds: f64 = String::from_utf8_lossy(&output).trim().parse().ok()?;
    let frames = (seconds * info.frame_rate.fps()).round();
    (1.0..1e12).contains(&frames).then_some(frames as u64)
}

impl Iterator for FfmpegSource {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let frame = self.frames.next();
        self.over = !matches!(frame, Some(Ok(_)));
        if frame.is_some() {
            return frame;
        }
        // At the end, check ffmpeg's exit status: a corrupt file must not be mistaken for a short
        // one.
        self.process.wait(EXIT_TIMEOUT, None).err().map(|e| Err(exit_error(e).at(&self.name)))
    }
}

fn exit_error(error: ExitError) -> Error {
    Error::new(ErrorKind::Image, error.to_string())
}

impl FrameSource for FfmpegSource {
    fn info(&self) -> &VideoInfo {
        &self.info
    }
}
