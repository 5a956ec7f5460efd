//! The `config.json` of segmentation_models_pytorch, as `save_pretrained` writes it.

use super::Normalization;
use super::library::{
    Fields, Problem, Stated, contradiction, elsewhere, normalization, refused, same,
};
use super::{Statements, timm};
use crate::models::{Backbone, Config, ConvKind, Decoder, OutputActivation};
use crate::text::excerpt;

const ADVICE: &str = "resnet18 to resnet152, resnext, se_resnet, se_resnext, mobilenet_v2, and of timm tu-resnet, tu-resnext, tu-wide_resnet, tu-seresnet, tu-mobilenetv2 and tu-mobilenetv3_large_100 are supported";

pub(super) fn check_supported(fields: Fields) -> Result<(), Problem> {
    if let Some(encoder) = fields.text("encoder_name")?
        && known(encoder).is_none()
    {
        let reason = encoder.strip_prefix("tu-").and_then(timm::other_arithmetic);
        let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
        return Err(refused(
            format!("the encoder `{}` is not supported{reason}", excerpt(encoder)),
            elsewhere(ADVICE),
        ));
    }
    match fields.count("encoder_depth")? {
        Some(depth) if depth != 5 => Err(refused(
            format!("the encoder is cut off after {depth} of its 5 stages (`encoder_depth`)"),
            elsewhere("encoder_depth 5 is supported"),
        )),
        _ => Ok(()),
    }
}

/// Returns the backbone of an encoder: SMP's own, which is named as here, or one of timm (`tu-`).
fn known(encoder: &str) -> Option<Backbone> {
    match encoder.strip_prefix("tu-") {
        None if encoder == "mobilenet_v2" => Backbone::named(encoder).ok(),
        None => timm::resnet(encoder),
        Some(name) => timm::encoder(name),
    }
}

pub(super) fn read(fields: Fields, inferred: &Config) -> Result<Stated, Problem> {
    let Some(head) = &inferred.head else {
        return Err(contradiction("head", "a segmentation head", "none").into());
    };
    let plus = matches!(head.decoder, Decoder::Plus(_));
    check_network(fields, inferred, plus)?;
    let stated_stride = fields.count("encoder_output_stride")?;
    let stride = stated_stride.unwrap_or(if plus { 16 } else { 8 });
    if stride != 8 && stride != 16 {
        return Err(format!("its `encoder_output_stride` is {stride}, not 8 or 16").into());
    }
    let mut stated = Stated {
        statements: Statements {
            trained_stride: stated_stride,
            rates: fields.counts("decoder_atrous_rates")?,
            preprocess: preprocess(fields)?,
            ..Statements::default()
        },
        aspp_dropout: fields.number("decoder_aspp_dropout")?.map(|p| p as f32),
        ..Stated::default()
    };
    let rates = stated.statements.rates.as_ref().map(Vec::len);
    same("the number of atrous rates", rates, head.aspp.rates.len())?;
    match activation(fields) {
        Ok(activation) => stated.statements.activation = activation,
        Err(Problem::Refused(error)) => stated.activation_refused = Some(error),
        Err(problem) => return Err(problem),
    }
    stated.notes.extend(upsampling(fields, if plus { 4 } else { stride })?);
    Ok(stated)
}

/// Checks that the file describes the network of the weights.
fn check_network(fields: Fields, inferred: &Config, plus: bool) -> Result<(), Problem> {
    let Some(head) = &inferred.head else { return Ok(()) };
    let class = if plus { "DeepLabV3Plus" } else { "DeepLabV3" };
    if let Some(stated) = fields.text("_model_class")?
        && stated != class
    {
        return Err(contradiction("`_model_class`", stated, class).into());
    }
    if let Some(encoder) = fields.text("encoder_name")? {
        let fits = match (known(encoder), &inferred.backbone) {
            // Of any width: the channels are those of the tensors.
            (Some(Backbone::MobileNetV2(_)), Backbone::MobileNetV2(_)) => true,
            (known, inferred) => known.is_some_and(|net| net.title() == inferred.title()),
        };
        if !fits {
            let actual = inferred.backbone.title();
            return Err(contradiction("`encoder_name`", encoder, actual).into());
        }
    }
    same("`classes`", fields.count("classes")?, head.channels())?;
    same("`in_channels`", fields.count("in_channels")?, inferred.input_channels)?;
    same("`decoder_channels`", fields.count("decoder_channels")?, head.aspp.channels)?;
    let separable = head.aspp.kind != ConvKind::Plain;
    match fields.boolean("decoder_aspp_separable")? {
        Some(stated) if stated != separable => {
            Err(contradiction("`decoder_aspp_separable`", stated, separable).into())
        }
        _ => Ok(()),
    }
}

/// Returns the normalization, as the configs of the library's encoders state it.
pub(super) fn preprocess(fields: Fields) -> Result<Option<Normalization>, Problem> {
    let (Some(mean), Some(std)) = (fields.rgb("mean")?, fields.rgb("std")?) else {
        return Ok(None);
    };
    if fields.text("input_space")?.is_some_and(|space| space != "RGB") {
        return Err("its `input_space` is not RGB".to_owned().into());
    }
    let range = fields.0.get("input_range").and_then(|range| range.get(1)?.as_f64());
    Ok(Some(normalization(mean, std, range.unwrap_or(1.0))?))
}

/// Returns how the outputs become probabilities. Without an activation the outputs are logits,
/// and the loss decided what they mean.
pub(super) fn activation(fields: Fields) -> Result<Option<OutputActivation>, Problem> {
    match fields.text("activation")? {
        None | Some("identity") => Ok(None),
        Some("sigmoid") => Ok(Some(OutputActivation::Sigmoid)),
        // The largest probability and the largest logit are of the same class.
        Some("softmax" | "softmax2d" | "logsoftmax" | "argmax" | "argmax2d") => {
            Ok(Some(OutputActivation::Softmax))
        }
        Some(other) => Err(refused(
            format!("the activation `{}` is not supported", excerpt(other)),
            elsewhere("state what it is with --activation softmax or sigmoid"),
        )),
    }
}

/// Checks the final upsampling. `natural` is the factor from the logits to the image's size.
fn upsampling(fields: Fields, natural: usize) -> Result<Option<String>, Problem> {
    match fields.count("upsampling")? {
        Some(1) => Ok(Some(format!(
            "`upsampling` is 1 in config.json: the network returns logits at 1/{natural} of the image's size, which are enlarged here to the image's size"
        ))),
        Some(factor) if factor != natural => Err(refused(
            format!(
                "the network's output has {factor}/{natural} of the image's size (`upsampling` {factor})"
            ),
            elsewhere(&format!("`upsampling` {natural} and 1 are supported")),
        )),
        _ => Ok(None),
    }
}
