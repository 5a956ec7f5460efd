//! The images to segment, and the path of each result.

use super::objects::{ObjectFormat, names_file};
use super::stream::{STREAM, is_stream, refuse_terminal_output};
use super::{Args, Style, cutout};
use crate::cli::outputs::OutputCheck;
use crate::error::{Error, Result, error};
use crate::files::{glob_files, is_input_file, is_pattern};
use crate::image::{EXTENSIONS, FileFormat};
use crate::video::{is_numbered, is_url};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

/// Advice for outputs that are inputs as well.
const ADVICE: &str = "name another output with -o";

/// Standard input as a file on Unix. Elsewhere there is no such file, so it conflicts with nothing.
pub(super) const STANDARD_INPUT_FILE: &str = "/dev/stdin";
/// Likewise standard output.
pub(super) const STANDARD_OUTPUT_FILE: &str = "/dev/stdout";

/// An image to read and the file to write; each can be `-`, a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub input: PathBuf,
    pub output: PathBuf,
    /// The input's path in the directory that the arguments name, or its file name.
    pub name: PathBuf,
}

/// Returns an error if no input exists. Where some do, the others are reported when they are read.
pub(super) fn refuse_missing(inputs: &[PathBuf]) -> Result<()> {
    let mut first = None;
    for path in inputs {
        // Standard input, patterns, numbered images and addresses are no names of files.
        let is_name = !is_stream(path) && !is_pattern(path) && !is_numbered(path) && !is_url(path);
        match std::fs::metadata(path) {
            Err(e) if is_name && e.kind() == ErrorKind::NotFound => {
                first.get_or_insert((path, e));
            }
            _ => return Ok(()),
        }
    }
    match first {
        Some((path, e)) => Err(Error::io(path, "could not be opened", e)),
        None => Ok(()),
    }
}

/// Returns the jobs for the command line's inputs, in order; files of directories and patterns are
/// sorted by name.
///
/// # Errors
/// A result would replace a file that is read, or another result.
pub(super) fn jobs(args: &Args) -> Result<Vec<Job>> {
    let (mut images, mut skipped) = (Vec::new(), Vec::new());
    for input in &args.inputs {
        images.extend(expand(input, &mut skipped)?);
    }
    skipped.iter().for_each(|line| log::warn!("{line}"));
    let target = Target::new(args, images.len())?;
    let jobs = images.into_iter().map(|(input, name)| {
        let output = target.output(args, &input, &name)?;
        check_extension(&output, args)?;
        Ok(Job { input, output, name })
    });
    let jobs = jobs.collect::<Result<Vec<Job>>>()?;
    check_outputs(args, &jobs)?;
    Ok(jobs)
}

/// Where the results go.
enum Target<'a> {
    /// One file, or standard output.
    File(&'a Path),
    /// A file for each image, in this directory.
    Directory(&'a Path),
    /// A file for each image, in the current directory.
    Default,
}

impl<'a> Target<'a> {
    fn new(args: &'a Args, images: usize) -> Result<Self> {
        let Some(output) = args.output.as_deref() else { return Ok(Self::Default) };
        let is_shared = args.objects.format.is_some_and(ObjectFormat::is_shared);
        if is_stream(output) {
            if images > 1 && !is_shared {
                return Err(error!(
                    Usage,
                    "standard output holds one result, but there are {images}"
                )
                .advice("name a directory with -o"));
            }
            // Text is for terminals too.
            if args.objects.format.is_none() {
                refuse_terminal_output()?;
            }
            return Ok(Self::File(output));
        }
        let several = !is_shared && (images > 1 || args.inputs.iter().any(|i| i.is_dir()));
        if !several && !is_directory_name(output) {
            return Ok(Self::File(output));
        }
        if output.exists() && !output.is_dir() {
            return Err(error!(Usage, "is a file, but there are several results")
                .file(output)
                .advice("name a directory with -o"));
        }
        if is_image_name(output) {
            return Err(error!(Usage, "is the name of one image, but there are several results")
                .file(output)
                .advice("name a directory with -o, such as masks/"));
        }
        Ok(Self::Directory(output))
    }

    fn output(&self, args: &Args, input: &Path, name: &Path) -> Result<PathBuf> {
        const SHARED: &str = "objects.json";
        let format = args.objects.format;
        let extension = format.map_or(args.results.format().extension(), ObjectFormat::extension);
        let is_shared = format.is_some_and(ObjectFormat::is_shared);
        Ok(match self {
            Self::File(file) => (*file).to_owned(),
            Self::Directory(directory) if is_shared => directory.join(SHARED),
            Self::Directory(directory) => directory.join(name.with_extension(extension)),
            Self::Default if is_stream(input) => {
                return Err(error!(Usage, "this input needs an output")
                    .advice("name a file, a directory or `-` with -o"));
            }
            Self::Default if is_shared => PathBuf::from(SHARED),
            Self::Default if format.is_some() => named(input, "objects", extension),
            Self::Default => default_name(input, args.style, extension),
        })
    }
}

/// Refuses results that would replace a file that is read, or one another.
fn check_outputs(args: &Args, jobs: &[Job]) -> Result<()> {
    let mut outputs = claimed(args);
    for job in jobs {
        let input = if is_stream(&job.input) { STANDARD_INPUT_FILE.as_ref() } else { &*job.input };
        outputs.reads(input, "an input");
    }
    let is_shared = args.objects.format.is_some_and(ObjectFormat::is_shared);
    let what = if args.objects.format.is_some() { "objects" } else { args.style.suffix() };
    for (index, job) in jobs.iter().enumerate() {
        let of = job.input.display();
        if is_stream(&job.output) {
            outputs.writes(STANDARD_OUTPUT_FILE.as_ref(), format!("the {what} of {of}"))?;
        } else if index == 0 || !is_shared {
            outputs.writes(&job.output, format!("the {what} of {of}"))?;
        }
        for (path, what) in [
            (args.results.probabilities_path(&job.output), "probabilities"),
            (args.results.confidence_path(&job.output), "confidence"),
        ] {
            let Some(path) = path else { continue };
            if is_stream(&job.output) || is_shared {
                let place = if is_shared { "one file for all images" } else { "standard output" };
                return Err(error!(
                    Usage,
                    "--{what} writes a file beside the result, not beside {place}"
                )
                .advice("name a file or a directory with -o"));
            }
            outputs.writes(&path, format!("the {what} of {of}"))?;
        }
    }
    match names_file(args, jobs) {
        Some(path) => outputs.writes(&path, "the names of the classes"),
        None => Ok(()),
    }
}

/// Returns a check with the files that every call reads beside its inputs.
pub(super) fn claimed(args: &Args) -> OutputCheck {
    let mut outputs = OutputCheck::new(ADVICE);
    outputs.reads(args.model.weights(), "the weight file");
    if let Some(path) = &args.class_table {
        outputs.reads(path, "the class table");
    }
    if let Some(path) = cutout::background_file(args) {
        outputs.reads(path, "the background");
    }
    outputs
}

/// Refuses extensions of formats that cannot hold the results of the style.
fn check_extension(output: &Path, args: &Args) -> Result<()> {
    let style = args.style;
    let format =
        if is_stream(output) { Some(args.results.format()) } else { FileFormat::from_path(output) };
    if let Some(objects) = args.objects.format {
        return match format.filter(|_| !is_stream(output)) {
            Some(format) => Err(error!(Usage, "is the name of a {format} image, not of objects")
                .file(output)
                .advice(format!("use .{}", objects.extension()))),
            None => Ok(()),
        };
    }
    let holds = |format: FileFormat| match style {
        // The value of a pixel is its class.
        Style::Mask => format.is_lossless(),
        Style::Cutout if cutout::is_transparent(args) => format.has_alpha(),
        Style::Cutout | Style::Overlay | Style::SideBySide => true,
    };
    if format.is_some_and(holds) {
        return Ok(());
    }
    let formats = FileFormat::ALL.into_iter().filter(|&format| holds(format));
    let formats: Vec<_> = formats.map(|format| format!(".{}", format.extension())).collect();
    let name = if is_stream(output) { Path::new("--extension") } else { output };
    Err(error!(Usage, "unsupported output format for the style `{}`", style.suffix())
        .file(name)
        .advice(format!("use {}", formats.join(", "))))
}

/// Returns NAME-STYLE.EXTENSION, in the current directory. Names need not be UTF-8.
pub(super) fn default_name(input: &Path, style: Style, extension: &str) -> PathBuf {
    named(input, style.suffix(), extension)
}

fn named(input: &Path, suffix: &str, extension: &str) -> PathBuf {
    let mut name = OsString::from(input.file_stem().unwrap_or_default());
    name.push(format!("-{suffix}.{extension}"));
    PathBuf::from(name)
}

/// Whether a path that is no directory has the extension of an image.
fn is_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    !is_directory_name(path) && EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e))
}

/// Whether a path is a directory, or ends in a separator.
pub(super) fn is_directory_name(path: &Path) -> bool {
    path.is_dir() || path.to_string_lossy().ends_with(['/', MAIN_SEPARATOR])
}

/// Returns the images that an argument names, each with its path relative to that argument. Appends
/// a line to `skipped` for each file that is left out.
fn expand(path: &Path, skipped: &mut Vec<String>) -> Result<Vec<(PathBuf, PathBuf)>> {
    let name = |p: &Path| PathBuf::from(p.file_name().unwrap_or_default());
    if is_stream(path) {
        return Ok(vec![(PathBuf::from(STREAM), PathBuf::from("stdin"))]);
    }
    if path.is_dir() {
        let mut images = Vec::new();
        directory(path, path, &mut images, skipped)?;
        if images.is_empty() {
            return Err(error!(Usage, "the directory contains no images").file(path));
        }
        images.sort();
        return Ok(images);
    }
    if path.exists() || !is_pattern(path) {
        // A missing file is reported when it is read, so that it does not stop the other images.
        return Ok(vec![(path.to_owned(), name(path))]);
    }
    let (images, special) = glob_files(path)?;
    skipped.extend(special);
    if images.is_empty() {
        return Err(error!(Usage, "no file matches the pattern `{}`", path.display()));
    }
    Ok(images.into_iter().map(|p| (p.clone(), name(&p))).collect())
}

fn directory(
    root: &Path,
    at: &Path,
    images: &mut Vec<(PathBuf, PathBuf)>,
    skipped: &mut Vec<String>,
) -> Result<()> {
    let failed = |e| Error::io(at, "could not read the directory", e);
    let entries = std::fs::read_dir(at).map_err(failed)?;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        // Links to directories are not followed: they may be circular.
        if entry.file_type().map_err(failed)?.is_dir() {
            directory(root, &path, images, skipped)?;
        } else if path
            .extension()
            .is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
            && is_input_file(&path, skipped)
        {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
            images.push((path, relative));
        }
    }
    Ok(())
}
