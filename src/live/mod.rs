//! A network over the frames of a camera, with everything on the device: frames go up, painted
//! frames stay there to be drawn.
//!
//! [`Live`] has two kinds of graphs. One goes from the frame to scores and is as slow as the
//! network. The other takes the newest frame and the newest scores and paints, which is quick. They
//! share buffers in a [`Store`] and nothing else, so a program can paint every frame of the camera
//! while the network is still busy with an earlier one. `examples/segment_webcam/` does so, in two
//! threads.
//!
//! ```no_run
//! use atrous::exec::Device;
//! use atrous::live::{Effect, Live};
//! use atrous::tune::Tuning;
//! use atrous::{DeviceChoice, Model, image};
//!
//! let model = Model::open("deeplab.safetensors")?;
//! let frame = image::decode("frame.png")?;
//! let live = Live::new(&Device::open(&DeviceChoice::Auto)?, &model, (frame.width, frame.height), model.usual_size(), &Tuning::default())?;
//! live.set_style(&live.style(Effect::Overlay))?;
//! live.set_frame(&Live::packed(&frame.rgb))?;
//! live.segment()?;
//! live.paint()?;
//! live.painted()?.save("overlay.png")?;
//! # Ok::<(), atrous::Error>(())
//! ```

mod graphs;

pub use crate::ops::{Background, Effect, Style};

use crate::error::{Result, error};
use crate::exec::{Device, Runner, Slices, Store};
use crate::gpu::pack_f32;
use crate::image::{ClassTable, Fit, Image, SizeRule, cover};
use crate::ops::Packing;
use crate::segmenter::Model;
use crate::tune::Tuning;
use graphs::Parts;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How strongly an overlay colors the frame, until the program says otherwise.
const OPACITY: f32 = 0.55;
/// How steep soft edges are, until the program says otherwise.
const EDGE: f32 = 2.5;

/// A network made ready for frames of one size.
///
/// It can be shared between threads. Calls from several threads take effect in the order in which
/// they reach the device.
pub struct Live {
    store: Arc<Store>,
    parts: Parts,
    fit: Fit,
    table: ClassTable,
    segment: Runner,
    /// With the image behind from the store, and with the blurred frame.
    painters: [Runner; 2],
    blurred: AtomicBool,
    /// The share of the old mean, and whether there is none yet.
    smoothing: Mutex<(f32, bool)>,
}

impl Live {
    /// Makes a model ready for frames of `source` (width, height), which enter the network at the
    /// size that `size` says.
    ///
    /// # Errors
    /// Where the model has no classes or takes no images, or the size is too large for the device
    /// or too small for the network.
    pub fn new(
        device: &Device,
        model: &Model,
        source: (usize, usize),
        size: SizeRule,
        tuning: &Tuning,
    ) -> Result<Self> {
        let Some(head) = &model.config.head else {
            return Err(
                error!(Weights, "holds a bare backbone, which does not segment").file(&model.path)
            );
        };
        if source.0 == 0 || source.1 == 0 {
            return Err(error!(Usage, "frames of {} x {} hold no pixel", source.0, source.1));
        }
        let fit = size.fit(source.0, source.1);
        let (graph, parts) = graphs::segment(model, fit)?;
        let mut store = Store::new(device);
        parts.add_to(&mut store)?;
        let store = Arc::new(store);
        let segment = tuning.runner_in(&store, graph)?;
        let painter = |blurred| {
            tuning.runner_in(&store, graphs::paint(&parts, fit, head.align_corners, blurred)?)
        };
        let painters = [painter(false)?, painter(true)?];
        let (blurred, smoothing) = (AtomicBool::new(false), Mutex::new((0.0, true)));
        let live = Self {
            store,
            parts,
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

    /// The pixels of an image `[height, width, 3]` as frames are given: red in the lowest eight
    /// bits, then green, blue, and 255.
    pub fn packed(rgb: &[u8]) -> Vec<u32> {
        rgb.chunks_exact(3).map(|p| u32::from_le_bytes([p[0], p[1], p[2], 255])).collect()
    }

    /// The sizes that a frame passes through.
    pub fn fit(&self) -> Fit {
        self.fit
    }

    /// Names and colors of the classes.
    pub fn table(&self) -> &ClassTable {
        &self.table
    }

    /// The store with everything that lives on the device: `painted` is the painted frame, packed
    /// pixels, and `counts` the pixels of each class on the grid of the scores, both u32.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The graph from the frame to the scores, made ready.
    pub fn network(&self) -> &Runner {
        &self.segment
    }

    /// Uploads a frame: the newest one for the network and for painting. `pixels` are those of
    /// [`Live::packed`].
    ///
    /// # Errors
    /// Where there are not as many pixels as the frames have.
    pub fn set_frame(&self, pixels: &[u32]) -> Result<()> {
        self.store.write_u32(self.parts.frame.0, pixels)
    }

    /// How much of the earlier frames' probabilities is kept, 0 (nothing) to below 1:
    /// `p = a * old + (1 - a) * new`.
    ///
    /// # Errors
    /// Where it is not within these.
    pub fn set_smoothing(&self, a: f32) -> Result<()> {
        if !(0.0..1.0).contains(&a) {
            return Err(error!(
                Usage,
                "smoothing keeps a share of at least 0 and below 1, not {a}"
            ));
        }
        self.smoothing().0 = a;
        Ok(())
    }

    /// Forgets the earlier frames: the next one's probabilities are taken as they are.
    pub fn restart(&self) {
        self.smoothing().1 = true;
    }

    fn smoothing(&self) -> std::sync::MutexGuard<'_, (f32, bool)> {
        self.smoothing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the next run how much to keep.
    fn write_keep(&self) -> Result<()> {
        let mut smoothing = self.smoothing();
        let (a, fresh) = *smoothing;
        smoothing.1 = false;
        self.store.write(self.parts.keep.0, &[if fresh { 0.0 } else { a }, 0.0, 0.0, 0.0])
    }

    /// Runs the network on the newest frame. On a device it does not wait, and nothing is read
    /// back.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn segment(&self) -> Result<()> {
        self.write_keep()?;
        self.segment.enqueue(&[])
    }

    /// Finds out how the network is cut into slices of about `budget`, by running it twice on the
    /// newest frame.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn slices(&self, budget: Duration) -> Result<Slices> {
        self.write_keep()?;
        self.segment.slices(&[], budget)
    }

    /// As [`Live::segment`], slice by slice, so that what another thread draws comes in between;
    /// returns when the last is done.
    ///
    /// # Errors
    /// Where the device fails, or the slices are those of another size.
    pub fn segment_in_slices(&self, slices: &Slices) -> Result<()> {
        self.write_keep()?;
        self.segment.run_in_slices(&[], slices)
    }

    /// A style with the table's colors in which all classes but the background are shown.
    pub fn style(&self, effect: Effect) -> Style {
        let (vivid, background) = (self.table.vivid(), self.table.background());
        let classes = (0..vivid.len()).map(|c| (vivid.color(c), background != Some(c))).collect();
        let opacity = if effect == Effect::Overlay { OPACITY } else { 1.0 };
        Style { effect, opacity, mirror: false, edge: EDGE, classes }
    }

    /// Says how frames are painted from now on.
    ///
    /// # Errors
    /// Where the style is for another number of classes.
    pub fn set_style(&self, style: &Style) -> Result<()> {
        if style.classes.len() != self.table.len() {
            return Err(error!(
                Usage,
                "a style for {} classes, of {}",
                style.classes.len(),
                self.table.len()
            ));
        }
        self.blurred.store(style.effect == Effect::CutOut(Background::Frame), Ordering::Relaxed);
        self.store.write(self.parts.look.0, style.tensor().f32())
    }

    /// Says which image stands behind cut-outs. It is scaled so that it covers the frame, and what
    /// sticks out is cut off.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn set_behind(&self, image: &Image) -> Result<()> {
        let rgb = cover(&image.rgb, (image.width, image.height), self.fit.source)?;
        let numbers: Vec<f32> = rgb.into_iter().map(f32::from).collect();
        let (name, ty) = self.parts.behind;
        self.store.write(name, &pack_f32(&numbers, ty.shape, Packing::Channels)?)
    }

    /// Paints the newest frame with the newest scores. On a device it does not wait, and nothing is
    /// read back.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn paint(&self) -> Result<()> {
        let blurred = self.blurred.load(Ordering::Relaxed);
        self.painters[usize::from(blurred)].enqueue(&[])
    }

    /// Reads the painted frame back, for files.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn painted(&self) -> Result<Image> {
        let pixels = self.store.read_u32(self.parts.painted.0)?;
        let rgb = pixels
            .iter()
            .flat_map(|p| {
                let [r, g, b, _] = p.to_le_bytes();
                [r, g, b]
            })
            .collect();
        Image::new(self.fit.source.0, self.fit.source.1, rgb)
    }

    /// Reads back which share of the image each class has, on the grid of the scores; adds up to 1.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn shares(&self) -> Result<Vec<f32>> {
        let counts = self.store.read_u32(self.parts.counts.0)?;
        let sum = counts.iter().sum::<u32>().max(1) as f32;
        Ok(counts.into_iter().map(|n| n as f32 / sum).collect())
    }
}
