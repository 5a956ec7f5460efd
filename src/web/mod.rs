//! The WebAssembly interface that `web/worker.js` calls through the bindings in
//! `web/pkg/atrous.js`. Only on `wasm32`, where wgpu uses the browser's WebGPU.
//!
//! A page creates a [`Network`] from the bytes of a weight file, passes pixels of a canvas, and
//! gets labels. The browser decodes and draws images.

use crate::exec::Device;
use crate::geometry::Size;
use crate::gpu::Gpu;
use crate::image::{Image, LabelMap, SizeRule, legend};
use crate::ops::Threshold;
use crate::segmenter::{Model, OutputOptions, Segmentation, Segmenter};
use crate::tune::TuningMode;
use crate::weights::dialects::ReadOptions;
use crate::weights::statements::{ConfigFiles, Property};
use crate::{Error, image::ClassTable};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use wasm_bindgen::prelude::*;

/// Reports panics to the browser console. Otherwise they only show as `unreachable`.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| console_error(&panic.to_string())));
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

impl From<Error> for JsValue {
    /// Converts to a JavaScript `Error` with the same message.
    fn from(error: Error) -> Self {
        js_sys::Error::new(&error.to_string()).into()
    }
}

/// An open adapter of the browser.
#[wasm_bindgen]
pub struct Adapter(Arc<Gpu>);

#[wasm_bindgen]
impl Adapter {
    /// Requests an adapter from the browser.
    ///
    /// # Errors
    /// Returns an error if it has none.
    pub async fn open() -> Result<Adapter, JsValue> {
        Ok(Self(Gpu::open_in_browser().await?))
    }

    /// Returns the adapter's name, as far as the browser reports it.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.0.summary().name.clone()
    }

    /// Returns name, kind and kernel capabilities as JSON.
    #[wasm_bindgen(getter)]
    pub fn summary(&self) -> String {
        json(self.0.summary())
    }
}

/// A network on a device.
#[wasm_bindgen]
pub struct Network {
    segmenter: Segmenter,
    table: ClassTable,
}

/// Description of a network for display.
#[derive(Serialize)]
struct Description<'a> {
    /// Dialect of the file's parameter names.
    dialect: &'a str,
    classes: &'a [String],
    /// Class colors, sRGB.
    colors: &'a [[u8; 3]],
    /// The background class, initially not tinted.
    background: Option<usize>,
    /// The threshold of sigmoid outputs, in 0 to 1. `null` for a softmax.
    threshold: Option<f32>,
    output_stride: Option<usize>,
    /// Default input size, formatted as a [`SizeRule`].
    size: String,
    /// What to know about how the file was read.
    notes: &'a [String],
    parameters: usize,
}

/// What a page states about a network.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Stated {
    config: Option<String>,
    preprocessor: Option<String>,
    options: HashMap<Property, String>,
}

fn read_options(json: &str) -> Result<ReadOptions, JsValue> {
    let stated: Stated =
        serde_json::from_str(json).map_err(|e| js_sys::Error::new(&e.to_string()))?;
    let mut options = ReadOptions {
        config_files: Some(ConfigFiles::new(stated.config, stated.preprocessor)),
        ..ReadOptions::default()
    };
    for (property, text) in stated.options {
        options.statements.set(property, &text)?;
    }
    Ok(options)
}

#[wasm_bindgen]
impl Network {
    /// Loads a weight file of any dialect from its bytes; `name` identifies it in errors. `stated`
    /// is JSON with what the file cannot state: the texts of `config.json` as `config` and of
    /// `preprocessor_config.json` as `preprocessor`, and in `options` the options of the command
    /// line, such as `{"trained_stride": "8"}`.
    ///
    /// # Errors
    /// Returns an error if they are not the weights of a segmentation network, or if `stated` does
    /// not fit it.
    #[wasm_bindgen(constructor)]
    pub fn new(
        adapter: &Adapter,
        bytes: Vec<u8>,
        name: String,
        stated: Option<String>,
    ) -> Result<Network, JsValue> {
        let options = match stated {
            Some(json) => read_options(&json)?,
            None => ReadOptions::default(),
        };
        let model = Model::from_bytes_with(bytes, name, options)?;
        let table = model.class_table().vivid();
        // Tuning would have to block on the device, which a page cannot.
        let segmenter = Segmenter::with_device(model, &Device::Gpu(adapter.0.clone()))?
            .with_tuning(TuningMode::Off);
        Ok(Self { segmenter, table })
    }

    /// Returns dialect, classes with colors, input size and number of parameters as JSON.
    #[wasm_bindgen(getter)]
    pub fn description(&self) -> String {
        let model = self.segmenter.model();
        json(&Description {
            dialect: model.dialect_name(),
            classes: &self.table.names,
            colors: &self.table.colors,
            background: self.table.background(),
            threshold: model
                .network
                .labeling()
                .and_then(|labeling| labeling.sigmoid())
                .map(Threshold::probability),
            output_stride: model.network.output_stride(),
            size: self.segmenter.default_size().to_string(),
            notes: &model.notes,
            parameters: model.weights.values().map(|p| p.shape().len()).sum(),
        })
    }

    /// Sets the probability in 0 to 1 from which a pixel of sigmoid outputs is of a class. It takes
    /// effect with the next image. Must not be called while an image is segmented.
    ///
    /// # Errors
    /// Returns an error if it is out of range, or the outputs are no sigmoids.
    #[wasm_bindgen(js_name = setThreshold)]
    pub fn set_threshold(&mut self, probability: f32) -> Result<(), JsValue> {
        self.segmenter.set_threshold(Threshold::new(probability)?)?;
        Ok(())
    }

    /// Segments an image.
    ///
    /// `rgba` has four bytes per pixel in row order, as from a canvas; transparency is ignored.
    /// `size` has the format of the command line (`native`, `513`, `640x480`), or is empty for the
    /// network's default size. Calls must not overlap.
    ///
    /// # Errors
    /// Returns an error if the number of bytes does not match the size, the size is invalid, or the
    /// device fails.
    pub async fn segment(
        &self,
        rgba: Vec<u8>,
        width: usize,
        height: usize,
        size: String,
    ) -> Result<SegmentationResult, JsValue> {
        let rule =
            if size.is_empty() { self.segmenter.default_size() } else { size.parse::<SizeRule>()? };
        let rgb = rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
        let image = Image::new(Size::new(width, height), rgb)?;
        let segmentation =
            self.segmenter.segment_async(&image, rule, OutputOptions::default()).await?;
        Ok(SegmentationResult {
            segmentation,
            table: self.table.clone(),
            mask_table: self.segmenter.model().class_table(),
        })
    }
}

/// The result for an image.
#[wasm_bindgen]
pub struct SegmentationResult {
    segmentation: Segmentation,
    /// Colors for display.
    table: ClassTable,
    /// The data set's own colors, for masks.
    mask_table: ClassTable,
}

#[wasm_bindgen]
impl SegmentationResult {
    /// Returns the class of each pixel, in row order.
    #[wasm_bindgen(getter)]
    pub fn labels(&self) -> Vec<u16> {
        self.label_map().labels.clone()
    }

    /// Returns the class colors with four bytes per pixel, for a canvas. The classes in `hidden`
    /// are transparent.
    pub fn tint(&self, hidden: &[u16]) -> Vec<u8> {
        let color = |&label: &u16| {
            let [r, g, b] = self.table.color(label.into());
            [r, g, b, if hidden.contains(&label) { 0 } else { 255 }]
        };
        self.label_map().labels.iter().flat_map(color).collect()
    }

    /// Returns the classes with color, pixels and share, largest first, as JSON.
    #[wasm_bindgen(getter)]
    pub fn legend(&self) -> String {
        json(&legend(self.label_map(), &self.table))
    }

    /// Encodes the mask as `atrous segment --style mask` writes it: a PNG whose pixel values are
    /// classes.
    ///
    /// # Errors
    /// Returns an error if the image is too large for a PNG.
    pub fn mask(&self) -> Result<Vec<u8>, JsValue> {
        Ok(self.label_map().png(&self.mask_table)?)
    }

    /// Returns the milliseconds from the upload of the image to its labels.
    #[wasm_bindgen(getter)]
    pub fn milliseconds(&self) -> f64 {
        (self.segmentation.network_time + self.segmentation.labels_time).as_secs_f64() * 1e3
    }

    /// Returns width and height of the network's input.
    #[wasm_bindgen(getter, js_name = networkSize)]
    pub fn network_size(&self) -> Vec<usize> {
        let Size { width, height } = self.segmentation.fit.padded;
        vec![width, height]
    }

    fn label_map(&self) -> &LabelMap {
        &self.segmentation.labels
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("invariant: names and numbers can always be written")
}
