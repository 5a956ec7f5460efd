//! Options of the files that are written, and which options a style uses.

use super::{Args, Style};
use crate::error::{Result, error};
use crate::geometry::Size;
use crate::image::alloc::with_capacity;
use crate::image::{ClassTable, FileFormat, IgnoredLabel, save_gray};
use crate::text;
use std::path::{Path, PathBuf};

/// Options of the files that are written.
#[derive(Debug, clap::Args)]
pub(super) struct ResultArgs {
    /// Format of images where -o names no file: png, jpg, webp (lossless), tiff or bmp [default:
    /// png]; a file's own name decides otherwise
    #[arg(long, value_name = "EXT", value_parser = extension)]
    extension: Option<FileFormat>,

    /// With --style mask: write 255 where a class of --keep is (default: any but the background),
    /// and 0 elsewhere
    #[arg(long)]
    pub binary: bool,

    /// Also write the probability of each pixel's class to NAME.confidence.png beside the output:
    /// gray, 255 is 1
    #[arg(long)]
    pub confidence: bool,

    /// Also write the probabilities of all classes beside the output, four bytes for each pixel and
    /// class: to NAME.probabilities.safetensors ([1, C, H, W]), or with =npy to
    /// NAME.probabilities.npy ([H, W, C])
    #[arg(
        long,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "safetensors"
    )]
    pub probabilities: Option<ProbabilityFormat>,
}

/// File format of probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ProbabilityFormat {
    /// Safetensors, in PyTorch's order `[1, classes, height, width]`.
    Safetensors,
    /// NumPy, `[height, width, classes]`.
    Npy,
}

fn extension(text: &str) -> Result<FileFormat, String> {
    FileFormat::from_extension(text.trim_start_matches('.'))
        .ok_or_else(|| "use one of png, jpg, webp, tiff and bmp".to_owned())
}

impl ResultArgs {
    /// Returns the format of images where the output's name does not decide.
    pub(super) fn format(&self) -> FileFormat {
        self.extension.unwrap_or(FileFormat::Png)
    }

    /// Returns the path of the probabilities beside a result, if they are written.
    pub(super) fn probabilities_path(&self, output: &Path) -> Option<PathBuf> {
        self.probabilities.map(|format| {
            output.with_extension(match format {
                ProbabilityFormat::Safetensors => "probabilities.safetensors",
                ProbabilityFormat::Npy => "probabilities.npy",
            })
        })
    }

    /// Returns the path of the confidence beside a result, if it is written.
    pub(super) fn confidence_path(&self, output: &Path) -> Option<PathBuf> {
        self.confidence.then(|| output.with_extension("confidence.png"))
    }
}

impl Args {
    /// Returns an error about an option that the style would ignore.
    pub(super) fn refuse_unused(&self) -> Result<()> {
        let style = self.style;
        let is_drawn = matches!(style, Style::Overlay | Style::SideBySide);
        let is_binary = style == Style::Mask && self.results.binary;
        let drawn = "--style overlay and --style side-by-side";
        let options = [
            (
                "--keep",
                !self.keep.is_empty(),
                style == Style::Cutout || is_binary,
                "--style cutout, --style mask --binary and --format",
            ),
            ("--opacity", self.opacity.is_some(), is_drawn, drawn),
            ("--hard-edge", self.hard_edge, style == Style::Cutout, "--style cutout"),
            ("--binary", self.results.binary, style == Style::Mask, "--style mask"),
        ];
        // The parser refuses what --format would ignore.
        let unused = options.iter().find(|(_, is_set, is_used, _)| *is_set && !is_used);
        match unused.filter(|_| self.objects.format.is_none()) {
            Some((option, _, _, users)) => {
                Err(error!(Usage, "`{option}` has no effect on the style `{}`", style.suffix())
                    .advice(format!("it is for {users}")))
            }
            None => self.refuse_mismatched_extension(),
        }
    }

    /// Returns an error if `--extension` is not that of the file that `-o` names.
    fn refuse_mismatched_extension(&self) -> Result<()> {
        let file = self.output.as_deref().filter(|output| !output.is_dir());
        let named = file.filter(|_| self.results.extension.is_some());
        match named.and_then(|file| FileFormat::from_path(file).map(|format| (file, format))) {
            Some((file, format)) if format != self.results.format() => Err(error!(
                Usage,
                "is {format}, but --extension is .{}",
                self.results.format().extension()
            )
            .file(file)
            .advice("omit --extension")),
            _ => Ok(()),
        }
    }

    /// Returns an error about an option that has no meaning for videos.
    pub(super) fn refuse_for_videos(&self) -> Result<()> {
        let options = [
            ("--probabilities", self.results.probabilities.is_some()),
            ("--confidence", self.results.confidence),
            ("--extension", self.results.extension.is_some()),
            ("--format", self.objects.format.is_some()),
        ];
        match options.iter().find(|(_, is_set)| *is_set) {
            Some((option, _)) => Err(error!(Usage, "{option} cannot be used with videos")),
            None => Ok(()),
        }
    }
}

/// Returns the colors of a mask of 0 and 255.
pub(super) fn binary_table() -> Result<ClassTable> {
    let white = IgnoredLabel { label: 255, name: "kept".to_owned(), color: [255; 3] };
    let table = ClassTable::new(vec!["background".to_owned()], vec![[0; 3]])?;
    Ok(ClassTable { ignored: vec![white], ..table })
}

/// Writes the probability of each pixel's class as a gray image. Returns a note about it.
pub(super) fn write_confidence(path: &Path, size: Size, confidence: &[f32]) -> Result<String> {
    let mut pixels = with_capacity(confidence.len(), "the confidence")?;
    // NaN becomes 0.
    pixels.extend(confidence.iter().map(|p| (255.0 * p).round() as u8));
    save_gray(path, size, &pixels)?;
    Ok(format!("the confidence is in {}", text::path(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_those_of_image_formats() {
        for (text, format) in
            [("png", FileFormat::Png), (".TIF", FileFormat::Tiff), ("jpeg", FileFormat::Jpeg)]
        {
            assert_eq!(extension(text), Ok(format));
        }
        assert!(extension("gif").is_err() && extension("").is_err() && extension("a/png").is_err());
    }

    #[test]
    fn confidence_is_gray_and_white_is_certain() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.confidence.png");
        let note = write_confidence(&path, Size::new(5, 1), &[0.0, 0.5, 1.0, 2.0, f32::NAN]);
        assert!(note.unwrap().contains("a.confidence.png"));
        let gray = ::image::open(&path).unwrap();
        assert_eq!(gray.as_luma8().unwrap().as_raw(), &[0, 128, 255, 255, 0]);
    }
}
