//! Images in and out: decode, bring to the network's size, bring labels back, and draw what was
//! found.
//!
//! ```no_run
//! use atrous::image::{self, ClassTable, LabelMap, Overlay, SizeRule};
//! # fn network(_: &[u8], _: (usize, usize)) -> Vec<u16> { Vec::new() }
//! let photo = image::decode("dog.jpg")?;
//! let fit = SizeRule::LongSide(513).fit(photo.width, photo.height);
//! let labels = network(&fit.scale_and_pad(&photo)?, fit.padded);
//! let labels = LabelMap::new(photo.width, photo.height, fit.restore_labels(&labels)?)?;
//! labels.write("dog-mask.png", &ClassTable::voc())?;
//! Overlay::default().draw(&photo, &labels, &ClassTable::voc())?.save("dog-overlay.png")?;
//! # Ok::<(), atrous::Error>(())
//! ```

mod border;
pub(crate) mod canvas;
mod classes;
mod decode;
mod jpeg;
mod labels;
mod legend;
mod overlay;
mod palette;
mod pillow;
mod pixels;
pub(crate) mod probe;
mod resize;
mod restore;
pub(crate) mod room;
mod save;
mod sheet;

pub use decode::{BACKDROP, DecodeOptions, Image, MAX_BYTES, MAX_PIXELS, decode, decode_bytes};
pub(crate) use decode::{damaged, dimensions};
pub use labels::LabelMap;
pub(crate) use labels::append_labels;
pub use legend::{LegendEntry, Tally, legend, legend_table};
pub use overlay::{Overlay, cut_out, foreground};
pub use palette::{ClassTable, IgnoredLabel, distinct, voc_color};
pub(crate) use pixels::{TURNED, mix};
pub use resize::{Fit, PAD, SizeRule, cover, resample, resample_window};
pub use sheet::SideBySide;

/// Endings of image files, for what is taken from directories; files that are named one by one may
/// have any.
pub(crate) const ENDINGS: [&str; 14] = [
    "png", "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm", "qoi",
    "tga",
];
