//! Options of cut-outs: the edge, and what is behind the kept classes.

use super::{Args, Style};
use crate::cli::console::say;
use crate::error::{Error, Result, error};
use crate::files::refuse_special;
use crate::image::{Background, DecodeOptions, Edge};
use crate::text;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Options for cut-outs alone.
#[derive(Debug, clap::Args)]
pub(super) struct CutoutArgs {
    /// Leave the edge of a cut-out as the network has it: do not move it to the edges of the image,
    /// and keep the colors of the old background in it
    #[arg(long, conflicts_with = "hard_edge")]
    no_refine: bool,

    /// Put a cut-out in front of an image (scaled to cover, cropped to its middle), a color (#rrggbb or
    /// a name such as white), or the blurred original (blur) [default: transparent]
    #[arg(long, value_name = "FILE|COLOR|blur", value_parser = OsStringValueParser::new().map(behind))]
    background: Option<Behind>,
}

/// What is behind the kept classes, before a file is read.
#[derive(Debug, Clone)]
enum Behind {
    Blur,
    Color([u8; 3]),
    File(PathBuf),
}

/// Parses the value of `--background`. The name of a file need not be UTF-8.
fn behind(text: OsString) -> Behind {
    match text.to_str() {
        Some("blur") => Behind::Blur,
        Some(name) => {
            Background::parse_color(name).map_or(Behind::File(text.into()), Behind::Color)
        }
        None => Behind::File(text.into()),
    }
}

/// Returns whether results are transparent.
pub(super) fn is_transparent(args: &Args) -> bool {
    args.style == Style::Cutout && args.cutout.background.is_none()
}

/// Returns how the edge of a cut-out is made.
pub(super) fn edge(args: &Args) -> Edge {
    match (args.hard_edge, args.cutout.no_refine) {
        (true, _) => Edge::Hard,
        (_, true) => Edge::Soft,
        _ => Edge::Refined,
    }
}

/// Returns the file of `--background`, if it is one.
pub(super) fn background_file(args: &Args) -> Option<&Path> {
    match &args.cutout.background {
        Some(Behind::File(path)) => Some(path),
        _ => None,
    }
}

/// Checks that the options apply to the style, and that the file of `--background` exists.
///
/// # Errors
/// Returns a usage error if there is another style. Drawing an overlay although a background was
/// requested would not be what anybody wants.
pub(super) fn check(args: &Args) -> Result<()> {
    if args.style != Style::Cutout {
        if args.cutout.background.is_some() {
            return Err(error!(Usage, "--background applies to cut-outs only")
                .advice("add `--style cutout`"));
        }
        if args.cutout.no_refine {
            let style = args.style.suffix();
            log::warn!(
                "`--no-refine` has no effect on the style `{style}`, only on `--style cutout`"
            );
        }
    }
    match background_file(args) {
        Some(path) if path.as_os_str().is_empty() => {
            Err(error!(Usage, "the value of --background is empty").advice(CHOICES))
        }
        Some(path) => match path.metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let name = text::path(path);
                Err(error!(
                    Usage,
                    "the background `{name}` is neither a color nor an existing file"
                )
                .advice(format!("{CHOICES}; names of colors are {}", names())))
            }
            Err(e) => Err(Error::io(path, "could not be opened", e)),
            Ok(_) => Ok(()),
        },
        None => Ok(()),
    }
}

const CHOICES: &str = "use a file, a color such as #20a0ff or white, or blur";

fn names() -> String {
    Background::color_names().collect::<Vec<_>>().join(", ")
}

/// Reads the background.
pub(super) fn background(args: &Args) -> Result<Option<Background>> {
    Ok(match &args.cutout.background {
        None => None,
        Some(Behind::Blur) => Some(Background::blur()),
        Some(Behind::Color(color)) => Some(Background::color(*color)),
        Some(Behind::File(path)) => {
            refuse_special(path, "an image")?;
            let decode =
                DecodeOptions { first_frame: args.first_frame, ..DecodeOptions::default() };
            let image = decode.decode(path)?;
            if !args.quiet && !args.json {
                for note in &image.notes {
                    say(&format!("background {}: {}", text::path(path), text::printable(note)));
                }
            }
            Some(Background::image(image))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_background_is_a_color_blur_or_else_a_file() {
        assert!(matches!(behind("blur".into()), Behind::Blur));
        assert!(matches!(behind("White".into()), Behind::Color([255, 255, 255])));
        assert!(matches!(behind("#102030".into()), Behind::Color([16, 32, 48])));
        for name in ["./white", "beach.jpg", "#12", ""] {
            assert!(matches!(behind(name.into()), Behind::File(path) if path == Path::new(name)));
        }
    }
}
