//! The configuration of a network: everything except its weights. It is stored as JSON in the
//! metadata of weight files in the native dialect.

mod head;
mod preprocessing;

pub(crate) use head::BACKGROUND;
pub use head::{Aspp, Aux, Decoder, Head, OutputActivation, PlusDecoder, Pooling};
pub use preprocessing::{PadRule, Preprocessing};

use super::backbone::Backbone;
use super::conventions::{Conventions, DilationRule, Eps, LowLevel, Norm, PaddingRule};
use crate::error::{Error, ErrorKind, Result, error};
use serde::{Deserialize, Serialize};

/// Metadata key of the [`Config`], as JSON, in a weight file.
pub const CONFIG_KEY: &str = "atrous.config";
/// Upper limit of channels, classes and other counts. A larger value means a damaged file.
const MAX_COUNT: usize = 1 << 16;

/// The architecture of a network, and the conventions that it was trained with.
///
/// ```
/// use atrous::engine::Shape;
/// use atrous::engine::models::{Config, build};
/// let config = Config::deeplab_v3plus(atrous::engine::models::Backbone::resnet(50)?, 21);
/// let graph = build(&config, Shape::new(1, 65, 97, 3))?;
/// assert_eq!(graph.shape(graph.outputs()[0].1), Shape::new(1, 17, 25, 21));
/// # Ok::<(), atrous::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The feature extractor.
    pub backbone: Backbone,
    /// Ratio of the image size to the size of the last features: 8, 16 or 32.
    /// [`Config::with_output_stride`] changes it for the same weights.
    pub output_stride: usize,
    /// Dilation of the units of a stage that is dilated instead of strided.
    pub dilation: DilationRule,
    /// Multi-grid: factors of the dilations of the units of the last stage (DeepLabv3, section
    /// 3.2.1). Empty means all ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub multi_grid: Vec<usize>,
    /// Padding of the backbone's convolutions.
    pub padding: PaddingRule,
    /// Channels of the image.
    pub input_channels: usize,
    /// Whether batch norms are separate layers or folded into the convolutions.
    pub norm: Norm,
    /// Epsilon of the batch norms.
    pub eps: Eps,
    /// Segmentation head. `None` for a bare backbone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Head>,
    /// Preprocessing of an image.
    pub preprocess: Preprocessing,
}

impl Config {
    /// Creates a DeepLabv3+ as in the paper, as a starting point: output stride 16, atrous rates 6,
    /// 12 and 18, plain convolutions.
    pub fn deeplab_v3plus(backbone: Backbone, classes: usize) -> Self {
        let decoder = Decoder::Plus(PlusDecoder::default());
        let head = Head::new(classes, Aspp::default(), decoder, false);
        Self { output_stride: 16, head: Some(head), ..Self::bare(backbone) }
    }

    /// Creates a bare backbone with the conventions of most ImageNet classifiers: output stride 32,
    /// symmetric padding.
    pub fn bare(backbone: Backbone) -> Self {
        Self {
            backbone,
            output_stride: 32,
            dilation: DilationRule::AfterStride,
            multi_grid: Vec::new(),
            padding: PaddingRule::Symmetric,
            input_channels: 3,
            norm: Norm::Separate,
            eps: Eps { backbone: 1e-5, head: 1e-5 },
            head: None,
            preprocess: Preprocessing::IMAGENET,
        }
    }

    /// Returns the config without its head, a bare backbone.
    #[must_use]
    pub fn without_head(self) -> Self {
        Self { head: None, ..self }
    }

    /// Returns the config for the same weights at another output stride. The atrous rates of the
    /// ASPP are scaled so that they span the same distance in the image (DeepLabv3, section 3.3:
    /// rates double from stride 16 to stride 8).
    ///
    /// # Errors
    /// Returns an error if the stride is not 8, 16 or 32, or if a scaled rate is not an integer.
    pub fn with_output_stride(mut self, output_stride: usize) -> Result<Self> {
        if let Some(head) = &mut self.head {
            for rate in &mut head.aspp.rates {
                let pixels = *rate * self.output_stride;
                if output_stride == 0 || !pixels.is_multiple_of(output_stride) {
                    return Err(error!(
                        Config,
                        "atrous rate {rate} at output stride {} is not an integer at output stride {output_stride}",
                        self.output_stride
                    )
                    .advice("set the rates manually"));
                }
                *rate = pixels / output_stride;
            }
        }
        self.output_stride = output_stride;
        self.validate()?;
        Ok(self)
    }

    /// Returns the conventions that the layers follow.
    pub(super) fn conventions(&self) -> Conventions<'_> {
        Conventions {
            output_stride: self.output_stride,
            dilation: self.dilation,
            multi_grid: &self.multi_grid,
            padding: self.padding,
            norm: self.norm,
        }
    }

    /// Returns the source of the low-level features.
    pub(super) fn low_level(&self) -> LowLevel {
        match self.head.as_ref().map(|head| &head.decoder) {
            Some(Decoder::Plus(plus)) => plus.low_level,
            _ => LowLevel::Stage,
        }
    }

    /// Returns the number of classes that a label can have, `None` for a bare backbone.
    pub fn classes(&self) -> Option<usize> {
        self.head.as_ref().map(|h| h.classes)
    }

    /// Sets the names and display colors of the classes, which weight files store.
    ///
    /// # Errors
    /// Returns an error if their number differs from the number of classes.
    pub fn name_classes(&mut self, names: &[String], colors: &[[u8; 3]]) -> Result<()> {
        let Some(head) = &mut self.head else {
            return Err(error!(Config, "a bare backbone has no classes to name"));
        };
        (head.class_names, head.class_colors) = (names.to_vec(), colors.to_vec());
        self.validate()
    }

    /// Returns the config as JSON, for metadata.
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("invariant: a config has no map with non-string keys")
    }

    /// Parses and validates a config.
    ///
    /// # Errors
    /// Returns an error if the text is not a config in JSON, or if [`Config::validate`] fails.
    pub fn from_json(json: &str) -> Result<Self> {
        let mut config: Self = serde_json::from_str(json)
            .map_err(|e| Error::new(ErrorKind::Config, "invalid network config").source(e))?;
        if let Some(head) = &mut config.head {
            head.single_output_is_a_sigmoid();
        }
        config.validate()?;
        Ok(config)
    }

    /// Checks that the config is consistent.
    ///
    /// # Errors
    /// Returns an error that names the first invalid field.
    pub fn validate(&self) -> Result<()> {
        let os = self.output_stride;
        check(matches!(os, 8 | 16 | 32), || {
            format!("the output stride must be 8, 16 or 32, got {os}")
        })?;
        check_count("input channels", self.input_channels)?;
        for eps in [self.eps.backbone, self.eps.head] {
            check(eps.is_finite() && eps > 0.0, || {
                format!("batch norm eps must be positive, got {eps}")
            })?;
        }
        for &factor in &self.multi_grid {
            check_count("multi-grid factors", factor)?;
        }
        check(self.preprocess.std.iter().all(|s| s.is_normal() && *s > 0.0), || {
            format!("standard deviations must be positive, got {:?}", self.preprocess.std)
        })?;
        self.backbone.validate(&self.conventions(), self.low_level())?;
        self.head.as_ref().map_or(Ok(()), Head::validate)
    }
}

impl Head {
    fn validate(&self) -> Result<()> {
        check_count("classes", self.classes)?;
        check(self.channels() > 0, || "a sigmoid needs at least one class".to_owned())?;
        let names = self.class_names.len();
        check(names == 0 || names == self.classes, || {
            format!("expected {} class names, got {names}", self.classes)
        })?;
        let colors = self.class_colors.len();
        check(colors == 0 || colors == self.classes, || {
            format!("expected {} class colors, got {colors}", self.classes)
        })?;
        check_count("ASPP channels", self.aspp.channels)?;
        for &rate in &self.aspp.rates {
            check_count("ASPP rates", rate)?;
        }
        check(matches!(self.aspp.project_kernel, 1 | 3), || {
            format!("the ASPP's projection must be 1x1 or 3x3, got {}", self.aspp.project_kernel)
        })?;
        check_dropout("ASPP dropout", self.aspp.dropout)?;
        if let Pooling::Window { crop, stride } = self.aspp.pooling {
            for n in [crop.height, crop.width, stride.y, stride.x] {
                check_count("pooling window and stride", n)?;
            }
        }
        if let Decoder::Plus(plus) = &self.decoder {
            check_count("low-level channels", plus.low_level_channels)?;
            check_count("decoder channels", plus.channels)?;
            check(plus.dropouts.len() <= 16, || {
                format!(
                    "at most 16 decoder convolutions are supported, got {}",
                    plus.dropouts.len()
                )
            })?;
            for &dropout in &plus.dropouts {
                check_dropout("decoder dropout", dropout)?;
            }
        }
        self.aux.map_or(Ok(()), |aux| check_dropout("auxiliary head dropout", aux.dropout))
    }
}

fn check(valid: bool, message: impl Fn() -> String) -> Result<()> {
    if valid { Ok(()) } else { Err(Error::new(ErrorKind::Config, message())) }
}

fn check_count(field: &str, n: usize) -> Result<()> {
    check((1..=MAX_COUNT).contains(&n), || format!("{field} must be 1 to {MAX_COUNT}, got {n}"))
}

fn check_dropout(field: &str, p: f32) -> Result<()> {
    check((0.0..1.0).contains(&p), || format!("{field} must be at least 0 and below 1, got {p}"))
}
