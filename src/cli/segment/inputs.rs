//! Which images, and where each result goes.

use super::{Args, Style};
use crate::cli::outputs::OutputCheck;
use crate::error::{Error, Result, error};
use crate::files::{glob_files, is_input_file, is_pattern};
use crate::image::EXTENSIONS;
use std::ffi::OsString;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

/// What to do about outputs that are inputs.
const ADVICE: &str = "name another output with -o";

/// An image to read and the file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub input: PathBuf,
    pub output: PathBuf,
}

impl Job {
    /// The file that `--probabilities` writes beside the result.
    fn probabilities(&self) -> PathBuf {
        self.output.with_extension("probabilities.safetensors")
    }
}

/// The jobs for the arguments of the command line, in their order, directories and patterns sorted
/// by name. None of their results replaces anything that is read, or another result.
pub(super) fn jobs(args: &Args) -> Result<Vec<Job>> {
    let (inputs, style) = (&args.inputs, args.style);
    let output = args.output.as_deref();
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for input in inputs {
        found.extend(expand(input, &mut skipped)?);
    }
    skipped.iter().for_each(|line| log::warn!("{line}"));
    let to_directory = found.len() > 1
        || output.is_some_and(is_directory_name)
        || inputs.iter().any(|i| i.is_dir());
    if let Some(directory) = output.filter(|o| to_directory && o.exists() && !o.is_dir()) {
        return Err(error!(Usage, "is a file, and there is more than one result")
            .file(directory)
            .advice("name a directory with -o"));
    }
    let jobs = found.into_iter().map(|(input, relative)| {
        let output = match output {
            Some(file) if !to_directory => file.to_owned(),
            Some(directory) => directory.join(relative.with_extension("png")),
            None => usual_name(&input, style, "png"),
        };
        match output.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
            true => Ok(Job { input, output }),
            false => Err(error!(Usage, "results are PNG files")
                .file(&output)
                .advice("let the name end in .png")),
        }
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

/// What every call reads beside its inputs.
pub(super) fn claimed(args: &Args) -> OutputCheck {
    let mut outputs = OutputCheck::new(ADVICE);
    outputs.reads(&args.model.weights, "the weight file");
    if let Some(path) = &args.class_table {
        outputs.reads(path, "the class table");
    }
    outputs
}

/// NAME-STYLE.ENDING in the current directory. Names need not be UTF-8.
pub(super) fn usual_name(input: &Path, style: Style, ending: &str) -> PathBuf {
    let mut name = OsString::from(input.file_stem().unwrap_or_default());
    name.push(format!("-{}.{ending}", style.suffix()));
    PathBuf::from(name)
}

/// Whether a path is a directory, or ends like one that is to be made.
fn is_directory_name(path: &Path) -> bool {
    path.is_dir() || path.to_string_lossy().ends_with(['/', MAIN_SEPARATOR])
}

/// The images that an argument names, each with its path below the directory that was named; and a
/// line for each file that is left out.
fn expand(path: &Path, skipped: &mut Vec<String>) -> Result<Vec<(PathBuf, PathBuf)>> {
    let name = |p: &Path| PathBuf::from(p.file_name().unwrap_or_default());
    if path.is_dir() {
        let mut found = Vec::new();
        directory(path, path, &mut found, skipped)?;
        if found.is_empty() {
            return Err(error!(Usage, "the directory holds no images").file(path));
        }
        found.sort();
        return Ok(found);
    }
    if path.exists() || !is_pattern(path) {
        // A file that does not exist is reported when it is read, beside the others' results.
        return Ok(vec![(path.to_owned(), name(path))]);
    }
    let (found, special) = glob_files(path)?;
    skipped.extend(special);
    if found.is_empty() {
        return Err(error!(Usage, "no file fits the pattern `{}`", path.display()));
    }
    Ok(found.into_iter().map(|p| (p.clone(), name(&p))).collect())
}

fn directory(
    root: &Path,
    at: &Path,
    found: &mut Vec<(PathBuf, PathBuf)>,
    skipped: &mut Vec<String>,
) -> Result<()> {
    let failed = |e| Error::io(at, "the directory cannot be read", e);
    let entries = std::fs::read_dir(at).map_err(failed)?;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        // Links to directories are not followed: they may lead in a circle.
        if entry.file_type().map_err(failed)?.is_dir() {
            directory(root, &path, found, skipped)?;
        } else if path
            .extension()
            .is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
            && is_input_file(&path, skipped)
        {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
            found.push((path, relative));
        }
    }
    Ok(())
}
