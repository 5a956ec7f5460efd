//! Containers through the `ffmpeg` program, where it is installed: a child process and a pipe each
//! way. Nothing is ever downloaded.
//!
//! A plain child, and not the crate `ffmpeg-sidecar`: that finds rate and size in ffmpeg's log, as
//! rounded numbers, while a Y4M header gives the rate as an exact fraction, and Y4M is read here
//! anyway.

use super::process::{self, Process};
use super::sink::Target;
use super::y4m::Y4mSource;
use super::yuv::Matrix;
use super::{Frame, FrameSource, VideoInfo, VideoOptions};
use crate::error::{Error, ErrorKind, Result, error};
use crate::files::{Staged, open_regular};
use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// How long ffmpeg may take to end once it has closed its output.
const END: Duration = Duration::from_secs(30);

/// How long an encoder may take to finish while its file does not grow. Large frames and slow
/// codecs take minutes for one.
const ENCODING: Duration = Duration::from_secs(600);

/// How long ffprobe may look for the length of a video, which is for the progress bar alone, and
/// what it may say about it, in bytes.
const PROBING: (Duration, usize) = (Duration::from_secs(5), 4096);

/// A file's name for ffmpeg, so that neither a leading dash nor a colon means anything else.
pub(super) fn file_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

const READ_ADVICE: &str = "install ffmpeg, or convert the video on another machine: `ffmpeg -i VIDEO -pix_fmt yuv420p video.y4m`";

/// Frames that ffmpeg decodes.
struct FfmpegSource {
    frames: Y4mSource<BufReader<ChildStdout>>,
    process: Process,
    name: String,
    info: VideoInfo,
    over: bool,
}

/// Opens a container.
pub(super) fn open(path: &Path, options: &VideoOptions) -> Result<Box<dyn FrameSource>> {
    // ffmpeg would wait for a FIFO without an end, and its own words for a file that is not there
    // are of another kind.
    drop(open_regular(path, "a video")?);
    let mut command = Command::new("ffmpeg");
    // Playlists in a file may name other files, never the network. Frames come upright, at a
    // constant rate, in a known matrix.
    command
        .args([
            "-nostdin",
            "-loglevel",
            "error",
            "-protocol_whitelist",
            "file,pipe,crypto,data",
            "-i",
        ])
        .arg(file_url(path));
    command.args([
        "-map",
        "0:v:0",
        "-vf",
        "scale=out_color_matrix=bt601:out_range=tv",
        "-pix_fmt",
        "yuv444p",
    ]);
    command.args(["-f", "yuv4mpegpipe", "pipe:1"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start(&mut command, READ_ADVICE).map_err(|e| e.file(path))?;
    let stdout = process.stdout().expect("invariant: the output was asked for as a pipe");
    let name = path.display().to_string();
    let reader = BufReader::with_capacity(1 << 16, stdout);
    let frames = match Y4mSource::new(reader, &name, None, Some(Matrix::Bt601), options) {
        Ok(frames) => frames,
        // Where nothing came, ffmpeg knows why.
        Err(unreadable) => {
            // At the stream's end it is about to end itself, and says why; a header that is no
            // header is not waited for.
            return Err(match process.end(Duration::from_secs(1), None) {
                Err(said) if said.contains("says") => Error::new(ErrorKind::Image, said).file(path),
                _ => unreadable,
            });
        }
    };
    let info = VideoInfo { frames: expected_frames(path, frames.info()), ..frames.info().clone() };
    Ok(Box::new(FfmpegSource { frames, process, name, info, over: false }))
}

/// About how many frames there will be: ffprobe's duration times the rate. `None` where it does not
/// tell, or is not there.
fn expected_frames(path: &Path, info: &VideoInfo) -> Option<u64> {
    let mut command = Command::new("ffprobe");
    command.args([
        "-v",
        "error",
        "-protocol_whitelist",
        "file,pipe,crypto,data",
        "-show_entries",
        "format=duration",
        "-of",
    ]);
    command.args(["default=nokey=1:noprint_wrappers=1", "-i"]).arg(file_url(path));
    let written = process::output(&mut command, PROBING.0, PROBING.1)?;
    let seconds: f64 = String::from_utf8_lossy(&written).trim().parse().ok()?;
    let frames = (seconds * info.rate.per_second()).round();
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
        // The end, or ffmpeg gave up: a damaged file must not pass for a short one.
        self.process
            .end(END, None)
            .err()
            .map(|said| Err(Error::new(ErrorKind::Image, said).at(&self.name)))
    }
}

impl FrameSource for FfmpegSource {
    fn info(&self) -> &VideoInfo {
        &self.info
    }
}

const WRITE_ADVICE: &str = "install ffmpeg, or write a .y4m, a .gif or a directory";

/// Raw frames that ffmpeg encodes into a file, which takes its name at the end.
pub(super) struct Encoder {
    /// `None` once it was closed.
    frames: Option<BufWriter<ChildStdin>>,
    process: Process,
    staged: Staged,
    name: String,
    /// Bytes of a row as it comes, and rows.
    row: usize,
    rows: usize,
    /// Columns and rows that are added.
    odd: (usize, usize),
}

impl Encoder {
    /// Begins a file of images (rgb24) or masks (gray).
    pub(super) fn start(path: &Path, info: &VideoInfo, masks: bool) -> Result<Self> {
        let ending =
            path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        if masks && ending != "mkv" {
            return Err(error!(Usage, "masks keep their classes only without loss, which .{ending} files are not written with")
                .file(path)
                .advice("write a .mkv, a .y4m, a .gif or a directory"));
        }
        let staged = Staged::create(path, &format!(".{ending}"))?;
        // Most players take 4:2:0 alone, for which many encoders want even sizes: the last column
        // or row is repeated.
        let odd = if masks { (0, 0) } else { (info.width % 2, info.height % 2) };
        let (w, h) = (info.width + odd.0, info.height + odd.1);
        let rate = format!("{}/{}", info.rate.numerator(), info.rate.denominator());
        let mut command = Command::new("ffmpeg");
        command.args([
            "-nostdin",
            "-loglevel",
            "error",
            "-y",
            "-f",
            "rawvideo",
            "-pix_fmt",
            if masks { "gray" } else { "rgb24" },
        ]);
        command.args(["-video_size", &format!("{w}x{h}"), "-framerate", &rate, "-i", "pipe:0"]);
        if masks {
            command.args(["-c:v", "ffv1", "-pix_fmt", "gray"]);
        } else {
            // What players assume for the size is said as well.
            let (matrix, tag) = match Matrix::usual(info.width, info.height) {
                Matrix::Bt601 => ("bt601", "smpte170m"),
                Matrix::Bt709 => ("bt709", "bt709"),
            };
            command.args([
                "-vf",
                &format!("scale=out_color_matrix={matrix}:out_range=tv"),
                "-pix_fmt",
                "yuv420p",
            ]);
            command.args(["-colorspace", tag, "-color_range", "tv"]);
            match ending.as_str() {
                "webm" => command.args(["-c:v", "libvpx-vp9", "-crf", "30", "-b:v", "0"]),
                "avi" | "mpg" | "mpeg" => command.args(["-q:v", "3"]),
                _ => &mut command,
            };
        }
        command.arg(file_url(staged.written_path())).stdin(Stdio::piped()).stdout(Stdio::null());
        let process = Process::start(&mut command, WRITE_ADVICE).map_err(|e| e.file(path))?;
        let stdin = process.stdin().expect("invariant: the input was asked for as a pipe");
        let frames = Some(BufWriter::with_capacity(1 << 16, stdin));
        let row = info.width * if masks { 1 } else { 3 };
        Ok(Self {
            frames,
            process,
            staged,
            name: path.display().to_string(),
            row,
            rows: info.height,
            odd,
        })
    }

    /// A frame with its last column and row repeated where their number was odd.
    fn evened<'a>(&self, frame: &'a [u8]) -> Cow<'a, [u8]> {
        if self.odd == (0, 0) || frame.len() != self.row * self.rows {
            return Cow::Borrowed(frame);
        }
        let rows =
            frame.chunks_exact(self.row).chain(frame.rchunks_exact(self.row).take(self.odd.1));
        rows.flat_map(|row| row.iter().chain(&row[self.row - 3 * self.odd.0..])).copied().collect()
    }

    fn broken(&mut self) -> Error {
        self.frames = None;
        let said = self
            .process
            .end(END, None)
            .err()
            .unwrap_or_else(|| "ffmpeg ended before the video did".to_owned());
        Error::new(ErrorKind::Io, said).at(&self.name)
    }
}

/// One call is one frame.
impl Write for Encoder {
    fn write(&mut self, frame: &[u8]) -> std::io::Result<usize> {
        let evened = self.evened(frame);
        self.frames.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?.write_all(&evened)?;
        Ok(frame.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.frames.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Target for Encoder {
    fn finish(mut self) -> Result<()> {
        if self.flush().is_err() {
            return Err(self.broken());
        }
        // The pipe's end is the video's.
        self.frames = None;
        let ended = self.process.end(ENCODING, Some(self.staged.written_path()));
        ended.map_err(|said| Error::new(ErrorKind::Io, said).at(&self.name))?;
        self.staged.commit()
    }

    /// The program that reads the pipe knows better why it does not any more.
    fn explain(&mut self, _: &str, _: std::io::Error) -> Error {
        self.broken()
    }
}
