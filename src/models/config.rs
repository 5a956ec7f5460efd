//! What a network is: everything that its weights do not say. Stored as JSON in the metadata of our
//! weight files.

mod head;
mod preprocessing;

pub use head::{Aspp, Aux, ConvKind, Decoder, Head, LowLevel, PlusDecoder, Pooling};
pub use preprocessing::{PadRule, Preprocessing};

use super::backbone::Backbone;
use crate::error::{Error, ErrorKind, Result, error};
use serde::{Deserialize, Serialize};

/// The metadata key under which weight files hold a [`Config`] as JSON.
pub const CONFIG_KEY: &str = "atrous.config";
/// More than this in one place is a damaged file, not a network.
const MOST: usize = 1 << 16;

/// A network's structure, and the conventions that it was trained with.
///
/// ```
/// use atrous::Shape;
/// use atrous::models::{Config, build};
/// let config = Config::deeplab_v3plus(atrous::models::Backbone::resnet(50)?, 21);
/// let graph = build(&config, Shape::new(1, 65, 97, 3))?;
/// assert_eq!(graph.shape(graph.outputs()[0].1), Shape::new(1, 17, 25, 21));
/// # Ok::<(), atrous::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// What computes the features.
    pub backbone: Backbone,
    /// Pixels of the image to a pixel of the last features: 8, 16 or 32. May be changed on the same
    /// weights ([`Config::with_output_stride`]).
    pub output_stride: usize,
    /// What becomes of a stage's rates once it is dilated instead of strided.
    pub dilation: DilationRule,
    /// Factors of the rates of the last stage's units (DeepLabv3, section 3.2.1). Empty stands for
    /// all ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub multi_grid: Vec<usize>,
    /// How the backbone pads.
    pub padding: PaddingRule,
    /// Channels of the image.
    pub input_channels: usize,
    /// Whether batch norms stand apart from the convolutions.
    pub norm: Norm,
    /// Added to variances, by part.
    pub eps: Eps,
    /// What turns features into classes; none for a bare backbone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Head>,
    /// What is done to an image first.
    pub preprocess: Preprocessing,
}

/// Rates of a stage past the output stride (its strided unit is called first here).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DilationRule {
    /// The first unit keeps the rate of the stage before, the others take the new one:
    /// torchvision's and VainF's ResNets, TensorFlow's networks, Hugging Face, VainF's MobileNetV2.
    AfterStride,
    /// Every unit takes the new rate: SMP, jfzhang95, torchvision's MobileNetV3.
    WholeStage,
    /// The whole group of blocks that lost its stride keeps the rate of the group before, the next
    /// group takes the new one: jfzhang95's MobileNetV2.
    AfterGroup,
}

/// Padding of the backbone's convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaddingRule {
    /// `dilation * (k - 1) / 2` on every side.
    Symmetric,
    /// TensorFlow's `SAME`: strided layers pad even sizes below and to the right only.
    TfSame,
    /// MobileNetV2 as VainF and jfzhang95 write it: a block is padded before its expansion, so that
    /// the border which the depthwise convolution sees holds the expansion's bias.
    BeforeExpansion {
        /// Padding of the stem: 0 for VainF, 1 for jfzhang95.
        stem: usize,
    },
}

/// Where the batch norms are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Layers of their own, with running mean and variance.
    Separate,
    /// Inside the convolutions, which have a bias.
    Folded,
}

/// Added to variances before the square root.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Eps {
    /// In the backbone.
    pub backbone: f32,
    /// In ASPP, decoder and auxiliary head.
    pub head: f32,
}

impl Config {
    /// The paper's DeepLabv3+ on a backbone, as a starting point: output stride 16, rates 6, 12,
    /// 18, plain convolutions.
    pub fn deeplab_v3plus(backbone: Backbone, classes: usize) -> Self {
        let aspp = Aspp {
            channels: 256,
            rates: vec![6, 12, 18],
            kind: ConvKind::Plain,
            pooling: Pooling::Global,
            pool_first: false,
            dropout: 0.1,
            separable_after: false,
        };
        let decoder = Decoder::Plus(PlusDecoder {
            low_level: LowLevel::Stage,
            low_level_channels: 48,
            channels: 256,
            kind: ConvKind::Plain,
            dropouts: vec![0.0; 2],
            low_level_first: false,
        });
        let head = Head {
            classes,
            class_names: Vec::new(),
            class_colors: Vec::new(),
            aspp,
            decoder,
            aux: None,
            align_corners: false,
        };
        Self { output_stride: 16, head: Some(head), ..Self::bare(backbone) }
    }

    /// A bare backbone with the conventions of most ImageNet classifiers: output stride 32,
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

    /// The bare backbone of this config.
    #[must_use]
    pub fn without_head(self) -> Self {
        Self { head: None, ..self }
    }

    /// The same weights at another output stride. ASPP's rates change so that they span as many
    /// pixels of the image as before (DeepLabv3, section 3.3: rates double from 16 to 8).
    ///
    /// # Errors
    /// Where the stride is none of 8, 16, 32, or the rates cannot be divided evenly.
    pub fn with_output_stride(mut self, output_stride: usize) -> Result<Self> {
        if let Some(head) = &mut self.head {
            for rate in &mut head.aspp.rates {
                let pixels = *rate * self.output_stride;
                if output_stride == 0 || !pixels.is_multiple_of(output_stride) {
                    return Err(error!(
                        Config,
                        "rate {rate} at output stride {} has no equal at {output_stride}",
                        self.output_stride
                    )
                    .advice("set the rates by hand"));
                }
                *rate = pixels / output_stride;
            }
        }
        self.output_stride = output_stride;
        self.validate()?;
        Ok(self)
    }

    /// Number of classes; none for a bare backbone.
    pub fn classes(&self) -> Option<usize> {
        self.head.as_ref().map(|h| h.classes)
    }

    /// Gives the classes names and display colors, which the file then keeps.
    ///
    /// # Errors
    /// Where there are not as many as the network has classes.
    pub fn name_classes(&mut self, names: &[String], colors: &[[u8; 3]]) -> Result<()> {
        let Some(head) = &mut self.head else {
            return Err(error!(Config, "has no classes to be named"));
        };
        (head.class_names, head.class_colors) = (names.to_vec(), colors.to_vec());
        self.validate()
    }

    /// The config as JSON, for metadata.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self)
            .expect("invariant: a config has no map with keys that are not strings")
    }

    /// Reads a config, and validates it.
    ///
    /// # Errors
    /// Where it is not the JSON of a config, and as [`Config::validate`].
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(json)
            .map_err(|e| Error::new(ErrorKind::Config, "not the config of a network").source(e))?;
        config.validate()?;
        Ok(config)
    }

    /// Checks that the config does not contradict itself.
    ///
    /// # Errors
    /// With what is wrong, and where.
    pub fn validate(&self) -> Result<()> {
        let check = |good: bool, message: &dyn Fn() -> String| match good {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Config, message())),
        };
        let sane = |what: &str, n: usize| {
            check((1..=MOST).contains(&n), &|| format!("{what} must be 1 to {MOST}, got {n}"))
        };
        let share = |what: &str, p: f32| {
            check((0.0..1.0).contains(&p), &|| format!("{what} must be in 0 to 1, got {p}"))
        };
        let os = self.output_stride;
        check(matches!(os, 8 | 16 | 32), &|| {
            format!("the output stride must be 8, 16 or 32, got {os}")
        })?;
        sane("input channels", self.input_channels)?;
        for eps in [self.eps.backbone, self.eps.head] {
            check(eps.is_finite() && eps > 0.0, &|| {
                format!("a batch norm's eps must be positive, got {eps}")
            })?;
        }
        for &factor in &self.multi_grid {
            sane("a factor of the multi-grid", factor)?;
        }
        check(self.preprocess.std.iter().all(|s| s.is_normal() && *s > 0.0), &|| {
            format!("deviations must be positive, got {:?}", self.preprocess.std)
        })?;
        self.backbone.validate(self)?;
        let Some(head) = &self.head else { return Ok(()) };
        sane("classes", head.classes)?;
        let names = head.class_names.len();
        check(names == 0 || names == head.classes, &|| {
            format!("{} classes but {names} names of classes", head.classes)
        })?;
        let colors = head.class_colors.len();
        check(colors == 0 || colors == head.classes, &|| {
            format!("{} classes but {colors} colors of classes", head.classes)
        })?;
        sane("channels of the ASPP", head.aspp.channels)?;
        for &rate in &head.aspp.rates {
            sane("a rate of the ASPP", rate)?;
        }
        share("dropout of the ASPP", head.aspp.dropout)?;
        if let Pooling::Window { crop, stride } = head.aspp.pooling {
            for n in [crop.0, crop.1, stride.0, stride.1] {
                sane("window and stride of the pooling", n)?;
            }
        }
        if let Decoder::Plus(plus) = &head.decoder {
            sane("low-level channels", plus.low_level_channels)?;
            sane("channels of the decoder", plus.channels)?;
            check(plus.dropouts.len() <= 16, &|| {
                format!("{} convolutions in the decoder", plus.dropouts.len())
            })?;
            plus.dropouts.iter().try_for_each(|&p| share("dropout of the decoder", p))?;
        }
        head.aux.iter().try_for_each(|aux| share("dropout of the auxiliary head", aux.dropout))
    }
}
