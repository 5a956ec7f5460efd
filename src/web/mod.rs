//! The way in for web pages: what `web/worker.js` calls, through the bindings in
//! `web/pkg/atrous.js`. Only on `wasm32`, where wgpu's device is the browser's WebGPU.
//!
//! A page owns a [`Network`]: bytes of a weight file in, pixels of a canvas in, labels out. Images
//! are decoded by the browser, and drawn by it.

use crate::exec::Device;
use crate::gpu::Gpu;
use crate::image::{Image, LabelMap, SizeRule, legend};
use crate::segmenter::{Model, OutputOptions, Segmentation, Segmenter};
use crate::tune::TuningMode;
use crate::{Error, image::ClassTable};
use serde::Serialize;
use std::sync::Arc;
use wasm_bindgen::prelude::*;

/// Has panics told in the page's console: without that they are a bare `unreachable`.
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
    /// A JavaScript `Error` with the same words.
    fn from(error: Error) -> Self {
        js_sys::Error::new(&error.to_string()).into()
    }
}

/// The browser's adapter, opened.
#[wasm_bindgen]
pub struct Adapter(Arc<Gpu>);

#[wasm_bindgen]
impl Adapter {
    /// Asks the browser for an adapter.
    ///
    /// # Errors
    /// Where it has none.
    pub async fn open() -> Result<Adapter, JsValue> {
        Ok(Self(Gpu::open_in_browser().await?))
    }

    /// What it is called, as far as the browser tells.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.0.summary().name.clone()
    }

    /// Name, kind and what kernels may use, as JSON.
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

/// What a page shows of a network.
#[derive(Serialize)]
struct Description<'a> {
    /// Whose names the file had.
    dialect: &'a str,
    classes: &'a [String],
    /// sRGB, one for each class.
    colors: &'a [[u8; 3]],
    /// The class that is no thing, which a page begins with untinted.
    background: Option<usize>,
    output_stride: usize,
    /// The size that it was made for, as [`SizeRule`] is written.
    size: String,
    parameters: usize,
}

#[wasm_bindgen]
impl Network {
    /// Reads the bytes of a weight file of any dialect; `name` is for messages.
    ///
    /// # Errors
    /// Where they are no weights of a network that segments.
    #[wasm_bindgen(constructor)]
    pub fn new(adapter: &Adapter, bytes: Vec<u8>, name: String) -> Result<Network, JsValue> {
        let model = Model::from_bytes(bytes, name)?;
        let table = model.class_table().vivid();
        // Measurements would have to wait for the device, which a page cannot.
        let segmenter =
            Segmenter::on(model, &Device::Gpu(adapter.0.clone()))?.with_tuning(TuningMode::Off);
        Ok(Self { segmenter, table })
    }

    /// Dialect, classes with colors, size and number of parameters, as JSON.
    #[wasm_bindgen(getter)]
    pub fn description(&self) -> String {
        let model = self.segmenter.model();
        json(&Description {
            dialect: model.dialect,
            classes: &self.table.names,
            colors: &self.table.colors,
            background: self.table.background(),
            output_stride: model.config.output_stride,
            size: self.segmenter.usual_size().to_string(),
            parameters: model.weights.values().map(|p| p.shape().len()).sum(),
        })
    }

    /// Segments an image.
    ///
    /// `rgba` has four bytes a pixel in rows, as a canvas gives them; transparency is not looked
    /// at. `size` is written as for the command line (`native`, `513`, `640x480`); empty for the
    /// size that the network was made for. One call at a time.
    ///
    /// # Errors
    /// Where sizes do not fit, or the device fails.
    pub async fn segment(
        &self,
        rgba: Vec<u8>,
        width: usize,
        height: usize,
        size: String,
    ) -> Result<Found, JsValue> {
        let rule =
            if size.is_empty() { self.segmenter.usual_size() } else { size.parse::<SizeRule>()? };
        let rgb = rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
        let image = Image::new(width, height, rgb)?;
        let found = self.segmenter.segment_async(&image, rule, OutputOptions::default()).await?;
        Ok(Found { found, table: self.table.clone(), plain: self.segmenter.model().class_table() })
    }
}

/// What was found in an image.
#[wasm_bindgen]
pub struct Found {
    found: Segmentation,
    /// Colors for looking at.
    table: ClassTable,
    /// The data set's own colors.
    plain: ClassTable,
}

#[wasm_bindgen]
impl Found {
    /// The class of each pixel, in rows.
    #[wasm_bindgen(getter)]
    pub fn labels(&self) -> Vec<u16> {
        self.labels_of().labels.clone()
    }

    /// The classes' colors as four bytes a pixel, for a canvas. Classes whose number stands in
    /// `hidden` are transparent.
    pub fn tint(&self, hidden: &[u16]) -> Vec<u8> {
        let color = |&label: &u16| {
            let [r, g, b] = self.table.color(label.into());
            [r, g, b, if hidden.contains(&label) { 0 } else { 255 }]
        };
        self.labels_of().labels.iter().flat_map(color).collect()
    }

    /// The classes found with color, pixels and share, the largest first, as JSON.
    #[wasm_bindgen(getter)]
    pub fn legend(&self) -> String {
        json(&legend(self.labels_of(), &self.table))
    }

    /// The mask as `atrous segment --style mask` writes it: a PNG in which the value of a pixel is
    /// its class.
    ///
    /// # Errors
    /// Where the image is too large for a PNG.
    pub fn mask(&self) -> Result<Vec<u8>, JsValue> {
        Ok(self.labels_of().png(&self.plain)?)
    }

    /// Milliseconds from the upload of the image to its labels.
    #[wasm_bindgen(getter)]
    pub fn milliseconds(&self) -> f64 {
        (self.found.network_time + self.found.labels_time).as_secs_f64() * 1e3
    }

    /// Width and height at which the network saw the image.
    #[wasm_bindgen(getter, js_name = networkSize)]
    pub fn network_size(&self) -> Vec<usize> {
        vec![self.found.fit.padded.0, self.found.fit.padded.1]
    }

    fn labels_of(&self) -> &LabelMap {
        &self.found.labels
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("invariant: names and numbers can always be written")
}
