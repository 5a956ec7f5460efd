//! The file formats that images and masks are written in.

use crate::error::{Result, error};
use std::fmt;
use std::path::Path;

/// File format of a written image or mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// PNG, lossless. Masks have a palette.
    Png,
    /// JPEG, lossy and without transparency, so not for masks and cut-outs.
    Jpeg,
    /// WebP, lossless. It has no gray: masks have three equal channels.
    WebP,
    /// TIFF, lossless and not compressed, without transparency. Masks are gray.
    Tiff,
    /// BMP, lossless and not compressed, without transparency. Masks have a palette.
    Bmp,
}

impl FileFormat {
    /// All formats.
    pub const ALL: [Self; 5] = [Self::Png, Self::Jpeg, Self::WebP, Self::Tiff, Self::Bmp];

    /// Returns the format that a path's extension names, ignoring case, or `None` for another
    /// extension.
    pub fn from_path(path: impl AsRef<Path>) -> Option<Self> {
        Self::from_extension(path.as_ref().extension()?.to_str()?)
    }

    /// Returns the format of a file extension, ignoring case, or `None` for another one.
    pub fn from_extension(extension: &str) -> Option<Self> {
        let extension = extension.to_ascii_lowercase();
        Self::ALL.into_iter().find(|format| format.extensions().contains(&extension.as_str()))
    }

    /// As [`FileFormat::from_path`], with an error for other extensions.
    pub(super) fn named_by(path: &Path) -> Result<Self> {
        Self::from_path(path).ok_or_else(|| {
            error!(Image, "unsupported image file extension")
                .file(path)
                .advice("use .png, .jpg, .webp, .tiff or .bmp")
        })
    }

    /// Returns the usual file extension.
    pub const fn extension(self) -> &'static str {
        self.extensions()[0]
    }

    /// Returns the file extensions, in lower case.
    const fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Png => &["png"],
            Self::Jpeg => &["jpg", "jpeg"],
            Self::WebP => &["webp"],
            Self::Tiff => &["tiff", "tif"],
            Self::Bmp => &["bmp"],
        }
    }

    /// Returns whether images keep their transparency.
    pub const fn has_alpha(self) -> bool {
        matches!(self, Self::Png | Self::WebP)
    }

    /// Returns whether every pixel is stored exactly, as masks need it.
    pub const fn is_lossless(self) -> bool {
        !matches!(self, Self::Jpeg)
    }
}

/// The name of the format: `PNG`, `WebP`.
impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
            Self::Tiff => "TIFF",
            Self::Bmp => "BMP",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_extension_names_its_format_in_any_case() {
        for format in FileFormat::ALL {
            for extension in format.extensions() {
                let name = format!("a.b.{}", extension.to_uppercase());
                assert_eq!(FileFormat::from_path(&name), Some(format), "{name}");
            }
        }
        for name in ["png", "a", "a.gif", ".png", "a.png/"] {
            let expected = (name == "a.png/").then_some(FileFormat::Png);
            assert_eq!(FileFormat::from_path(name), expected, "{name}");
        }
        let error = FileFormat::named_by(Path::new("a.gif")).unwrap_err().to_string();
        assert!(error.contains("a.gif") && error.contains(".tiff or .bmp"), "{error}");
    }
}
