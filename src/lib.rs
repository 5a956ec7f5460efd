//! DeepLabv3+ semantic segmentation on any GPU, through wgpu and WGSL compute shaders.
//!
//! A [`Segmenter`] takes a [`Model`] read from a weight file and a [`DeviceChoice`], and turns
//! images into labels. This writes the same mask and the same overlay as `atrous segment`:
//!
//! ```no_run
//! use atrous::image::{Overlay, decode};
//! use atrous::{DeviceChoice, Model, Segmenter};
//!
//! let segmenter = Segmenter::new(Model::open("deeplab.safetensors")?, &DeviceChoice::Auto)?;
//! let (photo, classes) = (decode("street.jpg")?, segmenter.model().class_table());
//! let segmentation = segmenter.segment(&photo, segmenter.default_size())?;
//! segmentation.labels.write("street.png", &classes)?;
//! let overlay = Overlay::default().draw(&photo, &segmentation.labels, &classes.vivid())?;
//! overlay.save("street-overlay.png")?;
//! # Ok::<(), atrous::Error>(())
//! ```
//!
//! | to | use |
//! | --- | --- |
//! | segment images | [`Segmenter`]; [`image`] reads, resizes and draws them |
//! | segment frames of a camera | [`live`] |
//! | read and write videos | [`video`] (feature `video`) |
//! | fetch weights by name | [`hub`] (feature `hub`) |
//! | train | [`train`] (feature `training`) on the pairs that [`data`] lists |
//! | measure a network | [`eval`] |
//! | write operations, passes or networks | [`engine`] |
//!
//! # Features
//!
//! `gpu` (default) runs networks on GPUs; without it there is only the CPU executor, and the crate
//! needs no graphics libraries. `training`, `video` and `hub` (default) add the modules of their
//! names. `cli` (default) is the command line; it includes `training` and `video`.

// Some helpers are for parts that a build may leave out.
#![cfg_attr(
    not(all(feature = "cli", feature = "gpu")),
    allow(dead_code, unused_imports, unused_macros)
)]

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod data;
pub mod engine;
mod error;
pub mod eval;
mod files;
#[cfg(feature = "hub")]
pub mod hub;
pub mod image;
pub mod live;
mod pipeline;
mod random;
#[cfg(feature = "training")]
#[doc(hidden)]
pub mod report;
mod segmenter;
#[doc(hidden)]
pub mod text;
mod thread;
#[cfg(feature = "training")]
pub mod train;
#[cfg(feature = "video")]
pub mod video;
#[cfg(target_arch = "wasm32")]
pub mod web;

use engine::{
    exec, geometry, gpu, graph, memory, models, ops, passes, plan, tensor, tune, weights,
};

#[cfg(feature = "onnx")]
#[cfg_attr(
    not(feature = "cli"),
    allow(unused_imports, reason = "only the command line uses it")
)]
use engine::onnx;

pub use engine::exec::Device;
pub use engine::geometry::Size;
pub use engine::gpu::DeviceChoice;
pub use error::{Error, ErrorKind, Result};
pub use segmenter::{Model, Network, OutputOptions, Segmentation, Segmenter, Strip};

/// Compiles the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
