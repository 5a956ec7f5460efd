//! The images to segment, and the path of each result.

use super::{Args, Style};
use crate::cli::outputs::OutputCheck;
use crate::error::{Error, Result, error};
use crate::files::{glob_files, is_input_file, is_pattern};
use crate::image::EXTENSIONS;
use crate::video::is_numbered;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

/// Advice for outputs that are inputs as well.
const ADVICE: &str = "name another output with -o";

/// An image to read and the file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub input: PathBuf,
    pub output: PathBuf,
}

impl Job {
    /// Returns the path that `--probabilities` writes to, beside the result.
    fn probabilities(&self) -> PathBuf {
        self.output.with_extension("probabilities.safetensors")
    }
}

/// Returns an error if no input exists. Where some do, the others are reported when they are read.
pub(super) fn refuse_missing(inputs: &[PathBuf]) -> Result<()> {
    let mut first = None;
    for path in inputs {
        // Standard input, patterns and numbered images are no names of files.
        let is_name = path != Path::new("-") && !is_pattern(path) && !is_numbered(path);
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
    let (inputs, style) = (&args.inputs, args.style);
    let output = args.output.as_deref();
    let (mut images, mut skipped) = (Vec::new(), Vec::new());
    for input in inputs {
        images.extend(expand(input, &mut skipped)?);
    }
    skipped.iter().for_each(|line| log::warn!("{line}"));
    let to_directory = images.len() > 1
        || output.is_some_and(is_directory_name)
        || inputs.iter().any(|i| i.is_dir());
    if let Some(directory) = output.filter(|o| to_directory && o.exists() && !o.is_dir()) {
        return Err(error!(Usage, "is a file, but there are several results")
            .file(directory)
            .advice("name a directory with -o"));
    }
    if let Some(file) = output.filter(|o| to_directory && is_image_name(o)) {
        return Err(error!(Usage, "is the name of one image, but there are several results")
            .file(file)
            .advice("name a directory with -o, such as masks/"));
    }
    let jobs = images.into_iter().map(|(input, relative)| {
        let output = match output {
            Some(file) if !to_directory => file.to_owned(),
            Some(directory) => directory.join(relative.with_extension("png")),
            None => default_name(&input, style, "png"),
        };
        check_extension(&output, style)?;
        Ok(Job { input, output })
    });
    let jobs = jobs.collect::<Result<Vec<Job>>>()?;
    let mut outputs = claimed(args);
    jobs.iter().for_each(|job| outputs.reads(&job.input, "an input"));
    for job in &jobs {
        let of = job.input.display();
        outputs.writes(&job.output, format!("the {} of {of}", style.suffix()))?;
        if args.probabilities {
            outputs.writes(&job.probabilities(), format!("the probabilities of {of}"))?;
        }
    }
    Ok(jobs)
}

/// Returns a check with the files that every call reads beside its inputs.
pub(super) fn claimed(args: &Args) -> OutputCheck {
    let mut outputs = OutputCheck::new(ADVICE);
    outputs.reads(args.model.weights(), "the weight file");
    if let Some(path) = &args.class_table {
        outputs.reads(path, "the class table");
    }
    outputs
}

/// Refuses extensions of formats that cannot hold the results of `style`.
fn check_extension(output: &Path, style: Style) -> Result<()> {
    let formats: &[&str] = match style {
        // The value of a pixel is its class, so only a palette will do.
        Style::Mask => &["png"],
        // JPEG has no transparency.
        Style::Cutout => &["png", "webp"],
        Style::Overlay | Style::SideBySide => &["png", "jpg", "jpeg", "webp"],
    };
    if output.extension().is_some_and(|e| formats.iter().any(|f| e.eq_ignore_ascii_case(f))) {
        return Ok(());
    }
    Err(error!(Usage, "unsupported output format for the style `{}`", style.suffix())
        .file(output)
        .advice(format!("use .{}", formats.join(", ."))))
}

/// Returns NAME-STYLE.EXTENSION, in the current directory. Names need not be UTF-8.
pub(super) fn default_name(input: &Path, style: Style, extension: &str) -> PathBuf {
    let mut name = OsString::from(input.file_stem().unwrap_or_default());
    name.push(format!("-{}.{extension}", style.suffix()));
    PathBuf::from(name)
}

/// Whether a path that is no directory has the extension of an image.
fn is_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    !is_directory_name(path) && EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e))
}

/// Whether a path is a directory, or ends in a separator.
fn is_directory_name(path: &Path) -> bool {
    path.is_dir() || path.to_string_lossy().ends_with(['/', MAIN_SEPARATOR])
}

/// Returns the images that an argument names, each with its path relative to that argument. Appends
/// a line to `skipped` for each file that is left out.
fn expand(path: &Path, skipped: &mut Vec<String>) -> Result<Vec<(PathBuf, PathBuf)>> {
    let name = |p: &Path| PathBuf::from(p.file_name().unwrap_or_default());
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
