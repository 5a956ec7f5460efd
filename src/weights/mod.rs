//! Weight files: reading and writing safetensors and PyTorch's `.pth`, and reading TensorFlow's frozen
//! graphs, checkpoints and TFLite files.
//!
//! A [`WeightFile`] lists named tensors whose elements are still on disk. Opening a file reads and
//! checks the header only: sizes, offsets and types are compared with the file's length before any
//! memory is allocated for them. A `.pth` file is a pickle, which is a program; a small stack
//! machine reads it as data without calling anything (see [`pth`]), so that untrusted files are
//! safe to open.
//!
//! Names are those of the file; the [`dialects`] interpret them. The graphs of TensorFlow are different:
//! they state the network, and their tensors have the names of its checkpoint.
//!
//! ```
//! use atrous::engine::weights::{FloatDType, WeightFile, write_safetensors};
//! # fn main() -> atrous::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("tiny.safetensors");
//! write_safetensors(&path, [("conv.bias", [2], [0.5f32, -1.0])], &Default::default(), FloatDType::F16)?;
//! let file = WeightFile::open(&path)?;
//! assert_eq!(file.read_f32("conv.bias")?, (vec![2], vec![0.5, -1.0]));
//! # Ok(())
//! # }
//! ```

pub mod dialects;
mod dtype;
mod file;
mod layer;
pub mod pth;
mod raw;
pub mod safetensors;
mod save;
mod source;
pub mod statements;
#[cfg(feature = "tensorflow")]
mod tensorflow;

pub use dtype::{FloatDType, StoredDType};
pub use file::{WeightFile, WeightFormat};
pub use layer::LayerAttributes;
pub use pth::{CheckpointDict, write_pth};
pub use raw::{Ignored, RawTensor};
pub use safetensors::write_safetensors;

/// Formats a number of bytes for people: `17 bytes`, `40 KiB`, `1.5 GiB`.
pub(crate) fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" });
    }
    let power = (bytes.ilog2() / 10) as usize;
    let value = bytes as f64 / 1024f64.powi(power as i32);
    let digits = if value < 10.0 && value.fract() >= 0.05 { 1 } else { 0 };
    format!("{value:.digits$} {}", UNITS[power - 1])
}

#[cfg(test)]
mod tests {
    use super::format_bytes;

    #[test]
    fn sizes_are_formatted_in_binary_units() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (40 << 10, "40 KiB"),
            (12 << 30, "12 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(format_bytes(bytes), text);
        }
    }
}
