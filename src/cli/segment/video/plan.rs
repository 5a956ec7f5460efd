//! Whether the arguments name a video, its source and its sink.

use super::super::inputs::{STANDARD_INPUT_FILE, STANDARD_OUTPUT_FILE};
use super::super::results::binary_table;
use super::super::stream::{
    Piped, STANDARD_INPUT, is_stream, refuse_terminal_input, refuse_terminal_output,
};
use super::super::{Args, Style, Tools, cutout, inputs};
use crate::error::{Error, Result, error};
use crate::video::{
    self, FrameSink, FrameSource, PixelFormat, RawFrames, Selection, VideoFormat, VideoInfo,
    VideoKind, VideoOptions,
};
use std::path::{Path, PathBuf};

/// A video to read and the path of its result.
#[derive(Clone)]
pub(in super::super) struct VideoPlan {
    pub(super) input: PathBuf,
    pub(super) output: PathBuf,
    options: VideoOptions,
    selection: Selection,
    /// Standard input, if its first bytes were read.
    piped: Option<Piped>,
}

/// Returns the plan if the arguments name a video, `None` if they name images. `piped` is standard
/// input, if it is the input.
pub(in super::super) fn plan(args: &Args, piped: Option<&Piped>) -> Result<Option<VideoPlan>> {
    let video = &args.video;
    let output = args.output.as_deref();
    let only_videos = video.fps.is_some()
        || video.frames.is_some()
        || video.every > 1
        || video.raw_size.is_some()
        || video.raw_output
        || video.json_lines.is_some();
    let to_stream = output.is_some_and(is_stream);
    let are_objects = args.objects.format.is_some();
    let [input] = &args.inputs[..] else {
        let from_stream = args.inputs.iter().any(|input| is_stream(input));
        if only_videos || (to_stream && !are_objects) || from_stream {
            return Err(error!(
                Usage,
                "only one video, or one image of a stream, can be segmented per call"
            ));
        }
        return Ok(None);
    };
    let format = output.and_then(VideoFormat::from_path);
    let to_video =
        !are_objects && (to_stream || format.is_some_and(|f| f != VideoFormat::Directory));
    let from_stream = is_stream(input);
    let kind = video::kind(input);
    let is_video = match piped {
        Some(piped) => !piped.is_image(),
        None => is_video(args, input, kind, to_video),
    };
    if !is_video {
        return if only_videos {
            Err(error!(Usage, "is not a video")
                .file(input)
                .advice("omit the options under `Video`"))
        } else {
            Ok(None)
        };
    }
    args.refuse_for_videos()?;
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
        piped: piped.cloned(),
    }))
}

/// Returns whether an input is segmented as a video. `to_video`: whether the output is a video.
fn is_video(args: &Args, input: &Path, kind: VideoKind, to_video: bool) -> bool {
    let video = &args.video;
    match kind {
        _ if is_stream(input) || video.raw_size.is_some() => true,
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
        _ if is_stream(input) => None,
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
    let (from_stream, to_stream) = (is_stream(input), is_stream(output));
    if from_stream {
        refuse_terminal_input()?;
    }
    if to_stream {
        refuse_terminal_output()?;
    }
    let mut outputs = inputs::claimed(args);
    if from_stream {
        // A file that the shell opened: `atrous segment - -o a.y4m <a.y4m`.
        outputs.reads(Path::new(STANDARD_INPUT_FILE), "the input");
    } else {
        video::files_of(input)?.iter().for_each(|file| outputs.reads(file, "an input"));
    }
    let name = if from_stream { "standard input".to_owned() } else { input.display().to_string() };
    if let Some(lines) = &args.video.json_lines {
        outputs.writes(lines, format!("the report of {name}"))?;
    }
    let what = format!("the {} of {name}", args.style.suffix());
    if to_stream {
        // Likewise: `atrous segment a.y4m -o - >>a.y4m`.
        return outputs.writes(Path::new(STANDARD_OUTPUT_FILE), what);
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
        let source = match &self.piped {
            Some(piped) => video::read(piped.clone().into_reader(), STANDARD_INPUT, &self.options)?,
            None if is_stream(&self.input) => {
                video::read(std::io::stdin(), STANDARD_INPUT, &self.options)?
            }
            None => video::open(&self.input, &self.options)?,
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
        if cutout::is_transparent(args) {
            return video::create_transparent(&self.output, info);
        }
        let binary = args.results.binary.then(binary_table).transpose()?;
        let table = binary.as_ref().unwrap_or(&tools.table);
        video::create(&self.output, info, masks.then_some(table))
    }

    pub(super) fn to_stream(&self) -> bool {
        is_stream(&self.output)
    }
}
