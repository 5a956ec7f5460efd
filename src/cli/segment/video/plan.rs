//! Whether the arguments ask for a video, and what it is made from and into.

use super::super::{Args, Style, Tools, inputs};
use crate::error::{Error, Result, error};
use crate::video::{
    self, FrameSink, FrameSource, PixelFormat, RawFrames, Selection, VideoFormat, VideoInfo,
    VideoKind, VideoOptions,
};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// A video to read and where it goes.
#[derive(Clone)]
pub(in super::super) struct VideoPlan {
    pub(super) input: PathBuf,
    pub(super) output: PathBuf,
    options: VideoOptions,
    selection: Selection,
}

/// What stands for standard input and output.
const STREAM: &str = "-";

/// Where Unix has standard input as a file; on other systems there is none of that name, which
/// claims nothing.
const STANDARD_INPUT: &str = "/dev/stdin";

/// The plan, where the arguments ask for a video; `None` where they are images.
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
            return Err(error!(Usage, "videos are segmented one at a time"));
        }
        return Ok(None);
    };
    let to_video = to_stream
        || output.and_then(VideoFormat::from_path).is_some_and(|f| f != VideoFormat::Directory);
    let from_stream = input == Path::new(STREAM);
    let kind = video::kind(input);
    let is_video = match kind {
        _ if from_stream || video.raw_size.is_some() => true,
        VideoKind::Y4m | VideoKind::Container => true,
        // An animation becomes no single image, unless its first frame is asked for.
        VideoKind::Animation => {
            !args.first_frame
                && (to_video || output.is_none_or(|o| VideoFormat::from_path(o).is_some()))
        }
        VideoKind::Sequence => to_video || video.fps.is_some() || video::is_numbered(input),
        VideoKind::Still => false,
    };
    if !is_video {
        return match only_videos {
            true => Err(error!(Usage, "is no video")
                .file(input)
                .advice("leave out the options for videos")),
            false => Ok(None),
        };
    }
    if args.probabilities {
        return Err(error!(Usage, "--probabilities goes with images, not with videos"));
    }
    let tells_rate = video.raw_size.is_none() && (from_stream || kind != VideoKind::Sequence);
    if video.fps.is_some() && tells_rate {
        return Err(error!(
            Usage,
            "--fps goes with numbered images and raw frames; this video tells its own rate"
        )
        .file(input));
    }
    let output = match output {
        Some(output) => output.to_owned(),
        None => usual_output(input, kind, args.style)?,
    };
    check_places(args, input, &output)?;
    let format = video.pixel_format.unwrap_or(PixelFormat::Rgb24);
    let raw = video.raw_size.map(|(width, height)| RawFrames { width, height, format });
    let selection = Selection { every: video.every, ..video.frames.unwrap_or_default() };
    Ok(Some(VideoPlan {
        input: input.clone(),
        output,
        options: VideoOptions { frame_rate: video.fps, raw, ..VideoOptions::default() },
        selection,
    }))
}

/// NAME-STYLE with the ending of the video, or one that can hold it.
fn usual_output(input: &Path, kind: VideoKind, style: Style) -> Result<PathBuf> {
    let ending = match kind {
        _ if input == Path::new(STREAM) => None,
        VideoKind::Y4m => Some("y4m"),
        VideoKind::Animation => Some("gif"),
        VideoKind::Container if style == Style::Mask => Some("mkv"),
        VideoKind::Container => input.extension().and_then(|e| e.to_str()),
        VideoKind::Sequence | VideoKind::Still => None,
    };
    let ending = ending.ok_or_else(|| {
        error!(Usage, "say where the result goes").advice("name a file, a directory or `-` with -o")
    })?;
    Ok(inputs::usual_name(input, style, ending))
}

/// Refuses what would fail only after the network was read.
fn check_places(args: &Args, input: &Path, output: &Path) -> Result<()> {
    let from_stream = input == Path::new(STREAM);
    if from_stream && std::io::stdin().is_terminal() {
        return Err(error!(Usage, "standard input is a terminal; pipe a video into it"));
    }
    if output == Path::new(STREAM) {
        return match std::io::stdout().is_terminal() {
            true => Err(error!(Usage, "standard output is a terminal; pipe it on, or name a file")),
            false => Ok(()),
        };
    }
    let Some(format) = VideoFormat::from_path(output) else {
        return Err(error!(Usage, "a video does not go into such a file").file(output).advice(
            "let it end in .y4m, .gif, .mp4, .mkv, .webm, .mov or .avi, or in / for a directory",
        ));
    };
    let mut outputs = inputs::claimed(args);
    match from_stream {
        // A file that the shell opened: `atrous segment - -o a.y4m <a.y4m`.
        true => outputs.reads(Path::new(STANDARD_INPUT), "the input"),
        false => video::files_of(input)?.iter().for_each(|file| outputs.reads(file, "an input")),
    }
    match format {
        VideoFormat::Directory => outputs.writes_frames(output),
        _ if from_stream => {
            outputs.writes(output, format!("the {} of standard input", args.style.suffix()))
        }
        _ => outputs.writes(output, format!("the {} of {}", args.style.suffix(), input.display())),
    }
}

impl VideoPlan {
    pub(super) fn source(&self) -> Result<Box<dyn FrameSource>> {
        let source = match self.input == Path::new(STREAM) {
            true => video::read(std::io::stdin(), "standard input", &self.options)?,
            false => video::open(&self.input, &self.options)?,
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
                .map_err(|e| Error::io(directory, "the directory cannot be created", e))?;
        }
        video::create(&self.output, info, masks.then_some(&tools.table))
    }

    pub(super) fn to_stream(&self) -> bool {
        self.output == Path::new(STREAM)
    }
}
