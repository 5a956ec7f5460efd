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

/// Pixels of the raw frames that ffmpeg reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pixels {
    /// Masks.
    Gray,
    Rgb,
    /// Images with transparency, for a container that [`keeps_alpha`].
    Rgba,
}

impl Pixels {
    /// Bytes of a pixel.
    const fn bytes(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Name of ffmpeg's format.
    const fn format(self) -> &'static str {
        match self {
            Self::Gray => "gray",
            Self::Rgb => "rgb24",
            Self::Rgba => "rgba",
        }
    }
}

/// Returns whether the container of a path keeps transparency with the codec that is used for it: VP9
/// in WebM, and ProRes 4444 in QuickTime files.
pub(super) fn keeps_alpha(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["webm", "mov"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Encodes raw frames with ffmpeg to a file that gets its final name at the end.
pub(super) struct Encoder {
    /// ffmpeg's standard input; `None` once it is closed.
    stdin: Option<BufWriter<ChildStdin>>,
    process: Process,
    staged: Staged,
    name: String,
    pixels: Pixels,
    /// Columns and rows of a frame.
    size: Size,
    /// Columns and rows added to make the size even, 0 or 1 each.
    padding: Size,
}

impl Encoder {
    /// Starts encoding a file of frames.
    pub(super) fn start(path: &Path, info: &VideoInfo, pixels: Pixels) -> Result<Self> {
        let masks = pixels == Pixels::Gray;
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
        let even = info.size().zip(padding, |side, added| side + added);
        let mut command = command(info, even, pixels, &extension);
        command.arg(file_url(staged.written_path())).stdin(Stdio::piped()).stdout(Stdio::null());
        let process = Process::start(&mut command, WRITE_ADVICE).map_err(|e| e.file(path))?;
        let pipe = process.stdin().expect("invariant: stdin is piped");
        let stdin = Some(BufWriter::with_capacity(1 << 16, pipe));
        Ok(Self {
            stdin,
            process,
            staged,
            name: path.display().to_string(),
            pixels,
            size: info.size(),
            padding,
        })
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
        let padded = padded(frame, self.pixels, self.size, self.padding);
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

/// Returns a frame with the last column and row repeated by `padding`, 0 or 1 each.
fn padded(frame: &[u8], pixels: Pixels, size: Size, padding: Size) -> Cow<'_, [u8]> {
    let row_bytes = size.width * pixels.bytes();
    if padding == Size::default() || frame.len() != row_bytes * size.height {
        return Cow::Borrowed(frame);
    }
    let rows =
        frame.chunks_exact(row_bytes).chain(frame.rchunks_exact(row_bytes).take(padding.height));
    rows.flat_map(|row| row.iter().chain(&row[row_bytes - pixels.bytes() * padding.width..]))
        .copied()
        .collect()
}

/// Returns the command that encodes raw frames of `size` from standard input, without its output.
fn command(info: &VideoInfo, size: Size, pixels: Pixels, extension: &str) -> Command {
    let frame_rate = format!("{}/{}", info.frame_rate.numerator(), info.frame_rate.denominator());
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-y"]);
    command.args(["-f", "rawvideo", "-pix_fmt", pixels.format()]);
    command.args(["-video_size", &size.to_string(), "-framerate", &frame_rate, "-i", "pipe:0"]);
    if pixels == Pixels::Gray {
        command.args(["-c:v", "ffv1", "-pix_fmt", "gray"]);
        return command;
    }
    // Tag the file with the matrix that players assume for this size.
    let (matrix, tag) = match Matrix::default_for(info.size()) {
        Matrix::Bt601 => ("bt601", "smpte170m"),
        Matrix::Bt709 => ("bt709", "bt709"),
    };
    command.args(["-vf", &format!("scale=out_color_matrix={matrix}:out_range=tv")]);
    command.args(["-pix_fmt", pixel_format(pixels, extension)]);
    command.args(["-colorspace", tag, "-color_range", "tv"]);
    match (pixels, extension) {
        // Alternate reference frames have no alpha, so the encoder refuses them.
        (Pixels::Rgba, "webm") => command.args(["-auto-alt-ref", "0"]),
        (Pixels::Rgba, "mov") => {
            command.args(["-c:v", "prores_ks", "-profile:v", "4444", "-alpha_bits", "16"])
        }
        _ => &mut command,
    };
    match extension {
        "webm" => command.args(["-c:v", "libvpx-vp9", "-crf", "30", "-b:v", "0"]),
        "avi" | "mpg" | "mpeg" => command.args(["-q:v", "3"]),
        _ => &mut command,
    };
    command
}

/// Returns the pixel format of the video.
fn pixel_format(pixels: Pixels, extension: &str) -> &'static str {
    match (pixels, extension) {
        (Pixels::Rgba, "mov") => "yuva444p10le",
        (Pixels::Rgba, _) => "yuva420p",
        _ => "yuv420p",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(pixels: Pixels, extension: &str) -> String {
        let info = VideoInfo {
            width: 61,
            height: 47,
            frame_rate: "30000/1001".parse().unwrap(),
            frames: None,
            notes: Vec::new(),
        };
        let command = command(&info, Size::new(62, 48), pixels, extension);
        let arguments = command.get_args().map(|a| a.to_str().unwrap());
        arguments.collect::<Vec<_>>().join(" ")
    }

    const START: &str = "-nostdin -loglevel error -y -f rawvideo -pix_fmt";
    const INPUT: &str = "-video_size 62x48 -framerate 30000/1001 -i pipe:0";
    const COLORS: &str = "-colorspace smpte170m -color_range tv";

    #[test]
    fn the_last_pixels_are_repeated_to_an_even_size() {
        let (size, one) = (Size::new(1, 1), Size::square(1));
        assert_eq!(padded(&[1, 2, 3, 4], Pixels::Rgba, size, one)[..], [1, 2, 3, 4].repeat(4));
        assert_eq!(padded(&[1, 2, 3], Pixels::Rgb, size, one)[..], [1, 2, 3].repeat(4));
        let wide = padded(&[1, 2, 3, 4, 5, 6], Pixels::Rgb, Size::new(2, 1), Size::new(0, 1));
        assert_eq!(wide[..], [1, 2, 3, 4, 5, 6].repeat(2));
    }

    #[test]
    fn transparency_is_kept_by_vp9_and_prores() {
        let scale = "-vf scale=out_color_matrix=bt601:out_range=tv -pix_fmt";
        assert_eq!(
            arguments(Pixels::Rgba, "webm"),
            format!(
                "{START} rgba {INPUT} {scale} yuva420p {COLORS} -auto-alt-ref 0 \
                 -c:v libvpx-vp9 -crf 30 -b:v 0"
            )
        );
        assert_eq!(
            arguments(Pixels::Rgba, "mov"),
            format!(
                "{START} rgba {INPUT} {scale} yuva444p10le {COLORS} \
                 -c:v prores_ks -profile:v 4444 -alpha_bits 16"
            )
        );
        for extension in ["webm", "mov", "mp4"] {
            let opaque = arguments(Pixels::Rgb, extension);
            assert!(opaque.contains("rgb24") && !opaque.contains("yuva"), "{opaque}");
        }
        assert_eq!(
            arguments(Pixels::Gray, "mkv"),
            format!("{START} gray {INPUT} -c:v ffv1 -pix_fmt gray")
        );
        let keeps = |name: &str| keeps_alpha(Path::new(name));
        assert!(keeps("a.webm") && keeps("a/b.MOV") && !keeps("a.mp4") && !keeps("webm"));
    }
}
