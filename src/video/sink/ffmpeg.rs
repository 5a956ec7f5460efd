//! Encoding of containers through the `ffmpeg` program.

use super::stream::Target;
use crate::error::{Error, ErrorKind, Result, error};
use crate::files::Staged;
use crate::geometry::Size;
use crate::video::ffmpeg::{EXIT_TIMEOUT, file_url};
use crate::video::process::Process;
use crate::video::{Matrix, VideoInfo};
use std::borrow::Cow;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

/// How long an encoder may take to finish while its file does not grow. Large frames and slow
/// codecs can take minutes for one frame.
const ENCODING_TIMEOUT: Duration = Duration::from_secs(600);

const WRITE_ADVICE: &str = "install ffmpeg, or write a .y4m, a .gif or a directory";

/// Encodes raw frames with ffmpeg to a file that gets its final name at the end.
pub(super) struct Encoder {
    /// ffmpeg's standard input; `None` once it is closed.
    stdin: Option<BufWriter<ChildStdin>>,
    process: Process,
    staged: Staged,
    name: String,
    /// Bytes per input row.
    row_bytes: usize,
    /// Number of input rows.
    rows: usize,
    /// Columns and rows added to make the size even, 0 or 1 each.
    padding: Size,
}

impl Encoder {
    /// Starts encoding a file of images (rgb24) or masks (gray).
    pub(super) fn start(path: &Path, info: &VideoInfo, masks: bool) -> Result<Self> {
        let extension =
            path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        if masks && extension != "mkv" {
            return Err(error!(Usage, "masks need a lossless format, which .{extension} is not")
                .file(path)
                .advice("write .mkv, .y4m, .gif or a directory"));
        }
        let staged = Staged::create(path, &format!(".{extension}"))?;
        // Most players support only 4:2:0, for which many encoders require even sizes. So the last
        // column or row is repeated if necessary.
        let padding = if masks { Size::default() } else { info.size().map(|side| side % 2) };
        let size = info.size().zip(padding, |side, added| side + added);
        let mut command = command(info, size, masks, &extension);
        command.arg(file_url(staged.written_path())).stdin(Stdio::piped()).stdout(Stdio::null());
        let process = Process::start(&mut command, WRITE_ADVICE).map_err(|e| e.file(path))?;
        let pipe = process.stdin().expect("invariant: stdin is piped");
        let stdin = Some(BufWriter::with_capacity(1 << 16, pipe));
        let row_bytes = info.width * if masks { 1 } else { 3 };
        Ok(Self {
            stdin,
            process,
            staged,
            name: path.display().to_string(),
            row_bytes,
            rows: info.height,
            padding,
        })
    }

    /// Returns a frame with the last column and row repeated where the size is odd.
    fn padded<'a>(&self, frame: &'a [u8]) -> Cow<'a, [u8]> {
        if self.padding == Size::default() || frame.len() != self.row_bytes * self.rows {
            return Cow::Borrowed(frame);
        }
        let rows = frame
            .chunks_exact(self.row_bytes)
            .chain(frame.rchunks_exact(self.row_bytes).take(self.padding.height));
        rows.flat_map(|row| row.iter().chain(&row[self.row_bytes - 3 * self.padding.width..]))
            .copied()
            .collect()
    }

    /// Returns the reason that ffmpeg closed its input.
    fn pipe_closed(&mut self) -> Error {
        self.stdin = None;
        let message = match self.process.wait(EXIT_TIMEOUT, None) {
            Ok(()) => "ffmpeg exited before the end of the video".to_owned(),
            Err(e) => e.to_string(),
        };
        Error::new(ErrorKind::Io, message).at(&self.name)
    }
}

/// Each call to `write` must pass one whole frame.
impl Write for Encoder {
    fn write(&mut self, frame: &[u8]) -> std::io::Result<usize> {
        let padded = self.padded(frame);
        self.stdin.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?.write_all(&padded)?;
        Ok(frame.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stdin.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Target for Encoder {
    fn finish(mut self) -> Result<()> {
        if self.flush().is_err() {
            return Err(self.pipe_closed());
        }
        // Closing the pipe ends the video.
        self.stdin = None;
        let exited = self.process.wait(ENCODING_TIMEOUT, Some(self.staged.written_path()));
        exited.map_err(|e| Error::new(ErrorKind::Io, e.to_string()).at(&self.name))?;
        self.staged.commit()
    }

    /// ffmpeg's own message explains a closed pipe best.
    fn write_failed(&mut self, _: &str, _: std::io::Error) -> Error {
        self.pipe_closed()
    }
}

/// Returns the command that encodes raw frames of `size` from standard input, without its output.
fn command(info: &VideoInfo, size: Size, masks: bool, extension: &str) -> Command {
    let frame_rate = format!("{}/{}", info.frame_rate.numerator(), info.frame_rate.denominator());
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
    command.args(["-video_size", &size.to_string(), "-framerate", &frame_rate, "-i", "pipe:0"]);
    if masks {
        command.args(["-c:v", "ffv1", "-pix_fmt", "gray"]);
    } else {
        // Tag the file with the matrix that players assume for this size.
        let (matrix, tag) = match Matrix::default_for(info.size()) {
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
        match extension {
            "webm" => command.args(["-c:v", "libvpx-vp9", "-crf", "30", "-b:v", "0"]),
            "avi" | "mpg" | "mpeg" => command.args(["-q:v", "3"]),
            _ => &mut command,
        };
    }
    command
}
