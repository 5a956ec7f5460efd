//! Live segmentation of camera frames, with all data on the device: frames are uploaded, and
//! painted frames stay on the device for drawing.
//!
//! [`Live`] has two kinds of graphs. One computes scores from the frame and is as slow as the
//! network. The other paints the latest frame with the latest scores and is fast. They share only
//! buffers in a [`Store`], so a program can paint every camera frame while the network is still
//! processing an earlier one. `examples/segment_webcam/` does so with two threads.
//!
//! ```no_run
//! use atrous::engine::exec::Device;
//! use atrous::live::{Effect, Live};
//! use atrous::engine::tune::Tuning;
//! use atrous::{DeviceChoice, Model, image};
//!
//! let model = Model::open("deeplab.safetensors")?;
//! let frame = image::decode("frame.png")?;
//! let live = Live::new(&Device::open(&DeviceChoice::Auto)?, &model, frame.size(), model.default_size(), &Tuning::default())?;
//! live.set_style(&live.style(Effect::Overlay))?;
//! live.set_frame(&Live::pack(&frame.rgb)?)?;
//! live.segment()?;
//! live.paint()?;
//! live.painted()?.save("overlay.png")?;
//! # Ok::<(), atrous::Error>(())
//! ```

mod graphs;

pub use crate::ops::{Background, Effect, Style};

use crate::error::{Result, error};
use crate::exec::{Device, Runner, Slices, Store};
use crate::geometry::Size;
use crate::graph::pack_f32;
use crate::image::{ClassTable, Fit, Image, SizeRule, cover};
use crate::memory;
use crate::ops::Packing;
use crate::pipeline::Pipeline;
use crate::segmenter::Model;
use crate::tune::Tuning;
use graphs::Buffers;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Default opacity of an overlay.
const OPACITY: f32 = 0.55;
/// Default steepness of soft edges.
const EDGE: f32 = 2.5;

/// A network prepared for frames of one size.
///
/// It can be shared between threads. Calls take effect in the order in which they reach the device.
pub struct Live {
    pipeline: Pipeline,
    buffers: Buffers,
    fit: Fit,
    table: ClassTable,
    segment: Runner,
    /// Painters with the background image of the store, and with the blurred frame.
    painters: [Runner; 2],
    blurred: AtomicBool,
    /// The smoothing of the next frames.
    smoothing: Mutex<Smoothing>,
}

/// Exponential smoothing of probabilities over frames.
struct Smoothing {
    /// Weight of the previous mean.
    weight: f32,
    /// Whether the next frame is the first one, which is not smoothed.
    is_first: bool,
}

impl Live {
    /// Prepares a model for frames of size `source`. `size` sets the network's input
    /// size.
    ///
    /// # Errors
    /// Returns an error if the model has no classes or does not take images, or the size is too
    /// large for the device or too small for the network.
    pub fn new(
        device: &Device,
        model: &Model,
        source: Size,
        size: SizeRule,
        tuning: &Tuning,
    ) -> Result<Self> {
        let Some(labeling) = model.network.labeling() else {
            return Err(error!(Weights, "the model is a backbone without a segmentation head")
                .file(&model.path));
        };
        if source.is_empty() {
            return Err(error!(Usage, "frames of {source} have no pixels"));
        }
        let fit = size.fit(source);
        let (graph, buffers) = graphs::segment(model, fit)?;
        let mut pipeline = Pipeline::new(device, tuning);
        buffers.add_to(&mut pipeline)?;
        let segment = pipeline.runner(graph)?;
        let painter =
            |blurred| pipeline.runner(graphs::paint(&buffers, fit, labeling.alignment, blurred)?);
        let painters = [painter(false)?, painter(true)?];
        let (blurred, smoothing) =
            (AtomicBool::new(false), Mutex::new(Smoothing { weight: 0.0, is_first: true }));
        let live = Self {
            pipeline,
            buffers,
            fit,
            table: model.class_table(),
            segment,
            painters,
            blurred,
            smoothing,
        };
        live.set_style(&live.style(Effect::Overlay))?;
        Ok(live)
    }

    /// Packs RGB pixels `[height, width, 3]` as [`Live::set_frame`] expects them: red in the lowest
    /// eight bits, then green, blue, and 255.
    ///
    /// # Errors
    /// Returns an error if memory runs out.
    pub fn pack(rgb: &[u8]) -> Result<Vec<u32>> {
        let pixels = rgb.chunks_exact(3).map(|p| u32::from_le_bytes([p[0], p[1], p[2], 255]));
        memory::collect(rgb.len() / 3, pixels)
    }

    /// Returns the sizes of frames on their way into the network.
    pub fn fit(&self) -> Fit {
        self.fit
    }

    /// Returns the names and colors of the classes.
    pub fn class_table(&self) -> &ClassTable {
        &self.table
    }

    /// Returns the store with all shared buffers: `painted` is the painted frame as packed pixels,
    /// and `counts` the number of pixels of each class on the grid of the scores, both u32.
    pub fn store(&self) -> &Store {
        self.pipeline.store()
    }

    /// Returns the prepared graph from the frame to the scores.
    pub fn network(&self) -> &Runner {
        &self.segment
    }

    /// Uploads a frame for the network and for painting. `pixels` are packed as by [`Live::pack`].
    ///
    /// # Errors
    /// Returns an error if the number of pixels does not match the frame size.
    pub fn set_frame(&self, pixels: &[u32]) -> Result<()> {
        self.store().write_u32(self.buffers.frame.0, pixels)
    }

    /// Sets the weight `a` of the previous frames' probabilities, from 0 (no smoothing) to below 1:
    /// `p = a * old + (1 - a) * new`.
    ///
    /// # Errors
    /// Returns an error if `a` is out of range.
    pub fn set_smoothing(&self, a: f32) -> Result<()> {
        if !(0.0..1.0).contains(&a) {
            return Err(error!(Usage, "smoothing must be at least 0 and below 1, got {a}"));
        }
        self.smoothing().weight = a;
        Ok(())
    }

    /// Discards the previous frames: the next frame is not smoothed.
    pub fn reset_smoothing(&self) {
        self.smoothing().is_first = true;
    }

    fn smoothing(&self) -> std::sync::MutexGuard<'_, Smoothing> {
        self.smoothing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the smoothing weight for the next run.
    fn write_smoothing(&self) -> Result<()> {
        let mut smoothing = self.smoothing();
        let is_first = std::mem::take(&mut smoothing.is_first);
        let weight = if is_first { 0.0 } else { smoothing.weight };
        self.store().write(self.buffers.smoothing.0, &[weight, 0.0, 0.0, 0.0])
    }

    /// Runs the network on the latest frame. On a device it returns without waiting, and nothing is
    /// read back.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn segment(&self) -> Result<()> {
        self.write_smoothing()?;
        self.segment.enqueue(&[])
    }

    /// Divides the network into slices of about `budget` each, measured by running it twice on the
    /// latest frame.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn slices(&self, budget: Duration) -> Result<Slices> {
        self.write_smoothing()?;
        self.segment.slices(&[], budget)
    }

    /// Like [`Live::segment`], but slice by slice, so that other threads can draw in between.
    /// Returns when the last slice is done.
    ///
    /// # Errors
    /// Returns an error if the device fails, or the slices are for another size.
    pub fn segment_in_slices(&self, slices: &Slices) -> Result<()> {
        self.write_smoothing()?;
        self.segment.run_in_slices(&[], slices)
    }

    /// Returns a style with the colors of the class table in which all classes except the
    /// background are shown.
    pub fn style(&self, effect: Effect) -> Style {
        let (vivid, background) = (self.table.vivid(), self.table.background());
        let classes = (0..vivid.len()).map(|c| (vivid.color(c), background != Some(c))).collect();
        let opacity = if effect == Effect::Overlay { OPACITY } else { 1.0 };
        Style { effect, opacity, mirror: false, edge: EDGE, classes }
    }

    /// Sets how frames are painted.
    ///
    /// # Errors
    /// Returns an error if the style has another number of classes.
    pub fn set_style(&self, style: &Style) -> Result<()> {
        if style.classes.len() != self.table.len() {
            return Err(error!(
                Usage,
                "expected a style for {} classes, got {} classes",
                self.table.len(),
                style.classes.len()
            ));
        }
        self.blurred.store(style.effect == Effect::CutOut(Background::Frame), Ordering::Relaxed);
        self.store().write_u32(self.buffers.style.0, style.tensor().u32())
    }

    /// Sets the background image of cut-outs. It is scaled to cover the frame, and the excess is
    /// cropped.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn set_background(&self, image: &Image) -> Result<()> {
        let rgb = cover(&image.rgb, image.size(), self.fit.source)?;
        let values = memory::collect(rgb.len(), rgb.iter().map(|&v| f32::from(v)))?;
        let (name, ty) = self.buffers.background;
        self.store().write(name, &pack_f32(&values, ty.shape, Packing::Channels)?)
    }

    /// Paints the latest frame with the latest scores. On a device it returns without waiting, and
    /// nothing is read back.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn paint(&self) -> Result<()> {
        let blurred = self.blurred.load(Ordering::Relaxed);
        self.painters[usize::from(blurred)].enqueue(&[])
    }

    /// Reads back the painted frame.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn painted(&self) -> Result<Image> {
        let pixels = self.store().read_u32(self.buffers.painted.0)?;
        let bytes = pixels.iter().flat_map(|p| {
            let [r, g, b, _] = p.to_le_bytes();
            [r, g, b]
        });
        let rgb = memory::collect(3 * pixels.len(), bytes)?;
        Image::new(self.fit.source, rgb)
    }

    /// Reads back the fraction of the image that each class covers, on the grid of the scores. The
    /// fractions sum to 1.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn shares(&self) -> Result<Vec<f32>> {
        let counts = self.store().read_u32(self.buffers.counts.0)?;
        let sum = counts.iter().sum::<u32>().max(1) as f32;
        Ok(counts.into_iter().map(|n| n as f32 / sum).collect())
    }
}
