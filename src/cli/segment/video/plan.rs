//! Whether the arguments name a video, its source and its sink.

use super::super::{Args, Style, Tools, inputs};
use crate::error::{Error, Result, error};
use crate::video::{
    self, FrameSink, FrameSource, PixelFormat, RawFrames, Selection, VideoFormat, VideoInfo,
    VideoKind, VideoOptions,
};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// A video to read and the path of its result.
#[derive(Clone)]
pub(in super::super) struct VideoPlan {
    pub(super) input: PathBuf,
    pub(super) output: PathBuf,
    options: VideoOptions,
    selection: Selection,
}

/// The name of standard input and output.
const STREAM: &str = "-";

/// Standard input as a file on Unix. Elsewhere there is no such file, so it conflicts with nothing.
const STANDARD_INPUT: &str = "/dev/stdin";
/// Likewise standard output.
const STANDARD_OUTPUT: &str = "/dev/stdout";

/// Returns the plan if the arguments name a video, `None` if they name images.
pub(in super::super) fn plan(args: &Args) -> Result<Option<VideoPlan>> {
    let video = &args.video;
    let output = args.output.as_deref();
    let only_videos = video.fps.is_some()
        || video.frames.is_some()
        || video.every > 1
        || video.raw_size.is_some()
        || video.raw_output;
    let to_stream = output == Some(Path::new(STREAM));
    let [input] = &args.inputs[..] else {
        if only_videos || to_stream || args.inputs.iter().any(|i| i == Path::new(STREAM)) {
            return Err(error!(Usage, "only one video can be segmented per call"));
        }
        return Ok(None);
    };
    let to_video = to_stream
        || output.and_then(VideoFormat::from_path).is_some_and(|f| f != VideoFormat::Directory);
    let from_stream = input == Path::new(STREAM);
    let kind = video::kind(input);
    let is_video = is_video(args, input, kind, to_video);
    if !is_video {
        return if only_videos {
            Err(error!(Usage, "is not a video")
                .file(input)
                .advice("omit the options under `Video`"))
        } else {
            Ok(None)
        };
    }
    if args.probabilities {
        return Err(error!(Usage, "--probabilities cannot be used with videos"));
    }
    let has_rate = video.raw_size.is_none() && (from_stream || kind != VideoKind::Sequence);
    if video.fps.is_some() && has_rate {
        return Err(error!(
            Usage,
            "--fps is only for numbered images and raw frames; this video has a frame rate"
        )
        .file(input));
    }
    let output = match output {
        Some(output) => output.to_owned(),
        None => default_output(input, kind, args.style)?,
    };
    check_places(args, input, &output)?;
    let format = video.pixel_format.unwrap_or(PixelFormat::Rgb24);
    let raw = video.raw_size.map(|size| RawFrames { size, format });
    let selection = Selection { every: video.every, ..video.frames.unwrap_or_default() };
    Ok(Some(VideoPlan {
        input: input.clone(),
        output,
        options: VideoOptions { frame_rate: video.fps, raw, ..VideoOptions::default() },
        selection,
    }))
}

/// Returns whether an input is segmented as a video. `to_video`: whether the output is a video.
fn is_video(args: &Args, input: &Path, kind: VideoKind, to_video: bool) -> bool {
    let video = &args.video;
    match kind {
        _ if input == Path::new(STREAM) || video.raw_size.is_some() => true,
        VideoKind::Y4m | VideoKind::Container => true,
        // An animation is a video unless --first-frame makes it a still image.
        VideoKind::Animation => {
            !args.first_frame
                && (to_video
                    || args.output.as_deref().is_none_or(|o| VideoFormat::from_path(o).is_some()))
        }
        VideoKind::Sequence => to_video || video.fps.is_some() || video::is_numbered(input),
        VideoKind::Still => false,
    }
}

/// Returns NAME-STYLE with the extension of the video, or of a format that can hold the result.
fn default_output(input: &Path, kind: VideoKind, style: Style) -> Result<PathBuf> {
    let extension = match kind {
        _ if input == Path::new(STREAM) => None,
        VideoKind::Y4m => Some("y4m"),
        VideoKind::Animation => Some("gif"),
        VideoKind::Container if style == Style::Mask => Some("mkv"),
        VideoKind::Container => input.extension().and_then(|e| e.to_str()),
        VideoKind::Sequence | VideoKind::Still => None,
    };
    let extension = extension.ok_or_else(|| {
        error!(Usage, "this input needs an output")
            .advice("name a file, a directory or `-` with -o")
    })?;
    Ok(inputs::default_name(input, style, extension))
}

/// Refuses inputs and outputs that would fail only after the network was loaded.
fn check_places(args: &Args, input: &Path, output: &Path) -> Result<()> {
    let from_stream = input == Path::new(STREAM);
    if from_stream && std::io::stdin().is_terminal() {
        return Err(error!(Usage, "standard input is a terminal; pipe a video into it"));
    }
    let to_stream = output == Path::new(STREAM);
    if to_stream && std::io::stdout().is_terminal() {
        return Err(error!(
            Usage,
            "standard output is a terminal; pipe it into a program, or name a file"
        ));
    }
    let mut outputs = inputs::claimed(args);
    if from_stream {
        // A file that the shell opened: `atrous segment - -o a.y4m <a.y4m`.
        outputs.reads(Path::new(STANDARD_INPUT), "the input");
    } else {
        video::files_of(input)?.iter().for_each(|file| outputs.reads(file, "an input"));
    }
    let name = if from_stream { "standard input".to_owned() } else { input.display().to_string() };
    let what = format!("the {} of {name}", args.style.suffix());
    if to_stream {
        // Likewise: `atrous segment a.y4m -o - >>a.y4m`.
        return outputs.writes(Path::new(STANDARD_OUTPUT), what);
    }
    let Some(format) = VideoFormat::from_path(output) else {
        return Err(error!(Usage, "unsupported video output format").file(output).advice(
            "use .y4m, .gif, .mp4, .mkv, .webm, .mov or .avi, or NAME/ for a directory of frames",
        ));
    };
    match format {
        VideoFormat::Directory => outputs.writes_frames(output),
        _ => outputs.writes(output, what),
    }
}

impl VideoPlan {
    pub(super) fn source(&self) -> Result<Box<dyn FrameSource>> {
        let source = if self.input == Path::new(STREAM) {
            video::read(std::io::stdin(), "standard input", &self.options)?
        } else {
            video::open(&self.input, &self.options)?
        };
        video::select(source, self.selection)
    }

    pub(super) fn sink(
        &self,
        info: &VideoInfo,
        args: &Args,
        tools: &Tools,
    ) -> Result<Box<dyn FrameSink>> {
        let masks = args.style == Style::Mask;
        if self.to_stream() {
            return video::write_to(
                std::io::stdout(),
                "standard output",
                info,
                masks,
                args.video.raw_output,
            );
        }
        if VideoFormat::from_path(&self.output) != Some(VideoFormat::Directory)
            && let Some(directory) = self.output.parent().filter(|p| !p.as_os_str().is_empty())
        {
            std::fs::create_dir_all(directory)
                .map_err(|e| Error::io(directory, "could not create the directory", e))?;
        }
        video::create(&self.output, info, masks.then_some(&tools.table))
    }

    pub(super) fn to_stream(&self) -> bool {
        self.output == Path::new(STREAM)
    }
}
