//! The networks in the tables of the paper.

use super::backbone::Backbone;
use super::config::{Config, Decoder, PlusDecoder, Preprocessing};
use super::conventions::{ConvKind, Eps, LowLevel, PaddingRule};
use crate::error::Result;

/// The heads compared in the paper (arXiv 1802.02611, tables 3, 5 and 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaperHead {
    /// DeepLabv3: ASPP, classifier, upsampling.
    NoDecoder,
    /// DeepLabv3+ with plain 3x3 convolutions.
    Decoder,
    /// DeepLabv3+ with separable convolutions in ASPP and decoder.
    Separable,
    /// Image-level features and one 1x1 convolution, for mobile phones (MobileNetV2 paper, section
    /// 4, and TensorFlow's code).
    Phone,
}

impl Config {
    /// Creates a network of the paper with the conventions of its training code, at output stride
    /// 16.
    ///
    /// # Errors
    /// Returns an error if the backbone does not support the head.
    #[expect(clippy::missing_panics_doc, reason = "what is expected is an invariant")]
    pub fn paper(backbone: Backbone, head: PaperHead, classes: usize) -> Result<Self> {
        let inside_unit = backbone.family().low_level_inside_unit;
        let low_level = if inside_unit { LowLevel::InsideUnit } else { LowLevel::Stage };
        let multi_grid = backbone.paper_multi_grid();
        let mut config = Self::deeplab_v3plus(backbone, classes);
        config.padding = PaddingRule::TfSame;
        config.eps = Eps { backbone: 1e-3, head: 1e-5 };
        config.preprocess = Preprocessing::SYMMETRIC_513;
        config.multi_grid = multi_grid;
        let kind =
            if head == PaperHead::Separable { ConvKind::SeparableNorm } else { ConvKind::Plain };
        let head_config = config.head.as_mut().expect("invariant: deeplab_v3plus has a head");
        head_config.align_corners = true;
        head_config.aspp.pool_first = true;
        head_config.aspp.kind = kind;
        if head == PaperHead::Phone {
            head_config.aspp.rates.clear();
        }
        head_config.decoder = match head {
            PaperHead::NoDecoder | PaperHead::Phone => Decoder::None,
            PaperHead::Decoder | PaperHead::Separable => {
                Decoder::Plus(PlusDecoder { low_level, kind, ..PlusDecoder::default() })
            }
        };
        config.validate()?;
        Ok(config)
    }
}
