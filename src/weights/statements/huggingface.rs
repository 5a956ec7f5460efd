//! Hugging Face's `config.json` of MobileNetV2, and `preprocessor_config.json`.

use super::library::{
    Fields, Problem, Stated, contradiction, elsewhere, normalization, parse_object, positive,
    refused, same,
};
use super::{Normalization, Statements};
use crate::models::{Backbone, Config, PadRule, PaddingRule, Preprocessing};
use crate::text::excerpt;
use std::fmt;

/// The only supported `model_type`.
const MODEL: &str = "mobilenet_v2";

pub(super) fn check_supported(fields: Fields) -> Result<(), Problem> {
    if fields.text("model_type")?.is_some_and(|model| model != MODEL) {
        // The file of another network; reported when it is compared with the weights.
        return Ok(());
    }
    match fields.text("hidden_act")? {
        None | Some("relu6") => Ok(()),
        Some(other) => Err(refused(
            format!(
                "the backbone's activation is `{}` (`hidden_act`), MobileNetV2 is computed with relu6",
                excerpt(other)
            ),
            elsewhere("relu6 is supported"),
        )),
    }
}

pub(super) fn read(fields: Fields, inferred: &Config) -> Result<Stated, Problem> {
    let Backbone::MobileNetV2(net) = &inferred.backbone else {
        return Err(contradiction("network", MODEL, inferred.backbone.title()).into());
    };
    if let Some(model) = fields.text("model_type")?
        && model != MODEL
    {
        return Err(contradiction("`model_type`", model, inferred.backbone.title()).into());
    }
    same("`num_channels`", fields.count("num_channels")?, inferred.input_channels)?;
    if let Some(width) = fields.number("depth_multiplier")? {
        // Channels are rounded to multiples of `depth_divisible_by`.
        let (expected, actual) = (320.0 * width, net.channels[6] as f64);
        if (expected - actual).abs() > (0.1 * expected).max(8.0) {
            let actual = inferred.backbone.title();
            return Err(contradiction("`depth_multiplier`", width, actual).into());
        }
    }
    let stride = fields.count("output_stride")?.unwrap_or(32);
    if ![8, 16, 32].contains(&stride) {
        return Err(refused(
            format!("the output stride {stride} is not supported"),
            elsewhere("8, 16 and 32 are supported"),
        ));
    }
    let padding = match fields.boolean("tf_padding")? {
        Some(false) => PaddingRule::Symmetric,
        _ => PaddingRule::TfSame,
    };
    let eps = fields.number("layer_norm_eps")?.unwrap_or(1e-3) as f32;
    if !(eps.is_finite() && eps > 0.0) {
        return Err(format!("its `layer_norm_eps` is {eps}").into());
    }
    Ok(Stated {
        statements: Statements {
            trained_stride: Some(stride),
            padding: Some(padding),
            ..Statements::default()
        },
        eps: Some(eps),
        class_names: match &inferred.head {
            Some(head) => class_names(fields, head.channels())?,
            None => Vec::new(),
        },
        ..Stated::default()
    })
}

/// Returns the names of `id2label` for a classifier with `outputs` channels. None if they are the
/// library's placeholders.
pub(super) fn class_names(fields: Fields, outputs: usize) -> Result<Vec<String>, String> {
    let Some(labels) = fields.object("id2label")? else {
        return Ok(Vec::new());
    };
    same("number of classes (`id2label`)", Some(labels.0.len()), outputs)?;
    let mut names = Vec::with_capacity(labels.0.len());
    for id in 0..labels.0.len() {
        let key = id.to_string();
        let name = labels.text(&key)?.ok_or_else(|| format!("its `id2label` has no class {id}"))?;
        names.push(name.to_owned());
    }
    let placeholders = names.iter().enumerate().all(|(i, name)| *name == format!("LABEL_{i}"));
    Ok(if placeholders { Vec::new() } else { names })
}

/// What a `preprocessor_config.json` states.
#[derive(Debug)]
pub(super) struct Processor {
    pub normalization: Normalization,
    /// How images are scaled; `None` leaves the default.
    pub size: Option<ProcessorSize>,
    pub notes: Vec<String>,
}

/// How a processor scales images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcessorSize {
    /// Not at all.
    Native,
    /// The short side to a number of pixels.
    ShortSide(usize),
    /// Into a square.
    Square(usize),
}

impl Processor {
    /// Reads a `preprocessor_config.json`. The error is the reason not to use it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let object = parse_object(text)?;
        let fields = Fields(&object);
        if fields.boolean("do_flip_channel_order")? == Some(true) {
            return Err("it flips the order of the channels".to_owned());
        }
        if !["image_mean", "do_normalize", "do_rescale", "image_processor_type"]
            .iter()
            .any(|name| object.contains_key(*name))
        {
            return Err("it does not describe the preprocessing of images".to_owned());
        }
        let factor = match fields.boolean("do_rescale")? {
            Some(false) => 1.0,
            _ => fields.number("rescale_factor")?.unwrap_or(1.0 / 255.0),
        };
        // Values are bytes times the factor, which would be 1 / 255 for pixels in 0 to 1.
        let scale = 255.0 * factor;
        let normalization = match fields.boolean("do_normalize")? {
            Some(false) => normalization([0.0; 3], [1.0; 3], scale)?,
            _ => fields
                .normalization("image_mean", "image_std", scale)?
                .ok_or("it has no `image_mean` and `image_std`")?,
        };
        let mut notes = Vec::new();
        let size = size(fields, &mut notes)?;
        if fields.boolean("do_center_crop")? == Some(true) {
            notes.push("preprocessor_config.json crops images to their center, which is left out here: the whole image is segmented".to_owned());
        }
        Ok(Self { normalization, size, notes })
    }

    /// Sets the size that is stated, if one is.
    pub fn apply_size(&self, preprocess: &mut Preprocessing) {
        let Some(size) = self.size else { return };
        (preprocess.size, preprocess.short_side, preprocess.pad) = match size {
            ProcessorSize::Native => (None, None, PadRule::None),
            ProcessorSize::ShortSide(n) => (None, Some(n), PadRule::None),
            ProcessorSize::Square(n) => (Some(n), None, PadRule::Square),
        };
    }
}

impl fmt::Display for ProcessorSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => f.write_str("the image's own size"),
            Self::ShortSide(n) => write!(f, "short side {n}"),
            Self::Square(n) => write!(f, "long side {n}"),
        }
    }
}

fn size(fields: Fields, notes: &mut Vec<String>) -> Result<Option<ProcessorSize>, String> {
    /// Upper limit of a side. A larger one means a damaged file.
    const MAX_SIDE: usize = 1 << 16;
    if fields.boolean("do_resize")? == Some(false) {
        return Ok(Some(ProcessorSize::Native));
    }
    let Some(size) = fields.0.get("size") else { return Ok(None) };
    let (short, height, width) = match size.as_object().map(Fields) {
        Some(size) => (size.count("shortest_edge")?, size.count("height")?, size.count("width")?),
        // Early versions state one number: the short side.
        None => (positive(size), None, None),
    };
    let found = match (short, height, width) {
        (Some(n), _, _) => Some(ProcessorSize::ShortSide(n)),
        (None, Some(height), Some(width)) if height == width => {
            notes.push(format!(
                "preprocessor_config.json stretches images to {width}x{height}; here the long side is scaled to {width} and the rest padded"
            ));
            Some(ProcessorSize::Square(height))
        }
        (None, Some(height), Some(width)) => {
            notes.push(format!(
                "preprocessor_config.json stretches images to {width}x{height}, which is left out here: use --size {width}x{height} to scale into it"
            ));
            None
        }
        _ => None,
    };
    match found {
        Some(ProcessorSize::ShortSide(n) | ProcessorSize::Square(n)) if n > MAX_SIDE => {
            Err(format!("its `size` of {n} is not plausible"))
        }
        found => Ok(found),
    }
}
