//! Image input and output: decoding, resizing to the network's input size, restoring labels to the
//! image's size, and drawing results.
//!
//! ```no_run
//! use atrous::image::{self, ClassTable, LabelMap, Overlay, SizeRule};
//! # fn network(_: &[u8], _: atrous::Size) -> Vec<u16> { Vec::new() }
//! let photo = image::decode("dog.jpg")?;
//! let fit = SizeRule::LongSide(513).fit(photo.size());
//! let labels = network(&fit.scale_and_pad(&photo)?, fit.padded);
//! let labels = LabelMap::new(photo.size(), fit.restore_labels(&labels)?)?;
//! labels.write("dog-mask.png", &ClassTable::voc())?;
//! Overlay::default().draw(&photo, &labels, &ClassTable::voc())?.save("dog-overlay.png")?;
//! # Ok::<(), atrous::Error>(())
//! ```

pub(crate) mod alloc;
mod border;
pub(crate) mod canvas;
mod classes;
mod colors;
mod convert;
mod cutout;
mod decode;
mod display;
mod face;
mod file_format;
mod jpeg;
mod labels;
mod legend;
mod mask_file;
mod mask_write;
mod overlay;
mod palette;
mod pillow;
mod pixels;
mod polygons;
pub(crate) mod probe;
mod resize;
mod restore;
mod save;
mod sheet;

pub(crate) use colors::voc_color;
#[cfg(test)]
pub(crate) use cutout::foreground;
pub use cutout::{Background, CutOut, Edge};
pub use decode::{BACKDROP, DecodeOptions, Image, decode, decode_bytes};
pub(crate) use decode::{MAX_PIXELS, damaged, dimensions, upright_dimensions};
pub use file_format::FileFormat;
pub use labels::LabelMap;
pub(crate) use labels::append_labels;
pub(crate) use legend::Tally;
pub use legend::{LegendEntry, legend, legend_table};
pub(crate) use mask_file::{MASK_EXTENSIONS, MaskFile, MaskPixels};
pub(crate) use mask_write::{encode_gray, save_gray};
pub use overlay::Overlay;
pub use palette::{ClassTable, IgnoredLabel};
pub(crate) use pixels::{UPRIGHT_NOTE, mix};
pub use polygons::{Corner, Polygon, Polygons};
pub(crate) use resize::resample_window;
pub use resize::{Fit, SizeRule, cover, resample};
pub use sheet::SideBySide;

/// File extensions that mark an image when a directory is listed. A file given by name may have any
/// extension.
pub(crate) const EXTENSIONS: [&str; 14] = [
    "png", "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm", "qoi",
    "tga",
];
