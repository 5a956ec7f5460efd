//! TensorFlow's DeepLab (`tensorflow/models/research/deeplab`): names of checkpoints, with separate
//! or folded batch norms.

use super::tensorflow_backbones as backbones;
use super::{Dialect, KernelLayout, Tensors};
use crate::error::{Result, error};
use crate::graph::Part;
use crate::models::mobilenet_v2::MobileNetV2;
use crate::models::{
    Aspp, Backbone, Config, ConvKind, Decoder, DilationRule, Eps, Head, LowLevel, Norm,
    PaddingRule, PlusDecoder, Pooling, Preprocessing,
};

/// Minimum eps of TensorFlow's fused batch norm.
const HEAD_EPS: f32 = 1.001e-5;
/// Suffix of the averaged weights, which evaluation uses.
const AVERAGE: &str = "/ExponentialMovingAverage";
/// Suffixes of the optimizer state.
const OPTIMIZER_STATE: [&str; 5] = ["/Momentum", "/RMSProp", "/RMSProp_1", "/Adam", "/Adam_1"];
const STEM: &str = "MobilenetV2/Conv/weights";

/// The dialect of TensorFlow.
pub struct TensorFlow;

impl Dialect for TensorFlow {
    fn name(&self) -> &'static str {
        "tensorflow"
    }

    fn title(&self) -> &'static str {
        "TensorFlow"
    }

    fn description(&self) -> &'static str {
        "TensorFlow's DeepLab: MobileNetV2, Xception, ResNet (also beta) with the mobile, v3 or v3+ head"
    }

    fn detect(&self, tensors: &Tensors) -> bool {
        tensors.any("MobilenetV2/") || backbones::find(tensors).is_some()
    }

    fn infer(&self, tensors: &Tensors) -> Result<Config> {
        let file = File { tensors, layout: self.layout(tensors) };
        let (backbone, padding, eps) = match backbones::find(tensors) {
            None => (Backbone::MobileNetV2(mobilenet_v2(&file)?), PaddingRule::TfSame, 1e-3),
            Some(net) => {
                let (padding, eps) = (backbones::padding(&net), backbones::eps(&net, HEAD_EPS));
                (net, padding, eps)
            }
        };
        let folded = tensors.has("MobilenetV2/Conv/Conv2D_bias");
        Ok(Config {
            backbone,
            output_stride: 16,
            dilation: DilationRule::AfterStride,
            multi_grid: Vec::new(),
            padding,
            input_channels: file.in_channels(&stem(tensors)).unwrap_or(3),
            norm: if folded { Norm::Folded } else { Norm::Separate },
            eps: Eps { backbone: eps, head: HEAD_EPS },
            head: head(&file),
            preprocess: Preprocessing::SYMMETRIC_513,
        })
    }

    fn rename(&self, config: &Config, path: &str, part: Part) -> Option<String> {
        let layer = match path.strip_prefix("backbone.") {
            Some(inner) => match &config.backbone {
                Backbone::MobileNetV2(_) => mobilenet_v2_layer(inner)?,
                other => backbones::layer(other, inner)?,
            },
            None => head_layer(path)?,
        };
        let depthwise = path.ends_with("depthwise");
        let suffix = match part {
            Part::Kernel if depthwise => "depthwise_weights",
            Part::Kernel => "weights",
            Part::Bias if config.norm == Norm::Separate => "biases",
            Part::Bias if depthwise => "depthwise_bias",
            Part::Bias => "Conv2D_bias",
            Part::Gamma => "BatchNorm/gamma",
            Part::Beta => "BatchNorm/beta",
            Part::RunningMean => "BatchNorm/moving_mean",
            Part::RunningVar => "BatchNorm/moving_variance",
        };
        Some(format!("{layer}/{suffix}"))
    }

    fn stored_name(&self, tensors: &Tensors, name: String) -> String {
        let average = format!("{name}{AVERAGE}");
        if tensors.has(&average) { average } else { name }
    }

    fn ignores(&self, tensors: &Tensors, name: &str) -> bool {
        // The ImageNet classifier, the training state, and weights that have an average.
        name.starts_with("MobilenetV2/Logits/")
            || backbones::is_classifier(name)
            || name == "MobilenetV2/Conv_1"
            || name.starts_with("MobilenetV2/Conv_1/")
            || name == "global_step"
            || OPTIMIZER_STATE.iter().any(|suffix| name.ends_with(suffix))
            || tensors.has(&format!("{name}{AVERAGE}"))
    }

    fn layout(&self, tensors: &Tensors) -> KernelLayout {
        let name = self.stored_name(tensors, stem(tensors));
        // The stem's kernel is 3x3 or 7x7 with at least 8 output channels, so the position of the
        // two equal axes identifies the layout.
        match tensors.dims(&name) {
            Some([3, 3, _, c_out]) if *c_out != 3 => KernelLayout::Hwio,
            Some([7, 7, _, c_out]) if *c_out != 7 => KernelLayout::Hwio,
            _ => KernelLayout::Oihw,
        }
    }

    fn has_separable_aspp(&self) -> bool {
        true
    }

    fn copy_flags(&self, inferred: &mut Config, config: &Config) {
        inferred.multi_grid.clone_from(&config.multi_grid);
        if let (Some(inferred), Some(head)) = (&mut inferred.head, &config.head)
            && inferred.aspp.pooling != Pooling::Off
            && head.aspp.pooling != Pooling::Off
        {
            inferred.aspp.pooling = head.aspp.pooling;
        }
    }
}

/// Returns the name of the first convolution's kernel.
fn stem(tensors: &Tensors) -> String {
    let layer = backbones::find(tensors).and_then(|net| backbones::stem(&net));
    layer.map_or(STEM.to_owned(), |layer| format!("{layer}/weights"))
}

/// Access to the dimensions of a file's kernels, independent of their layout.
struct File<'a> {
    tensors: &'a Tensors,
    layout: KernelLayout,
}

impl File<'_> {
    fn dims(&self, name: &str) -> Option<&[usize]> {
        self.tensors.dims(&format!("{name}{AVERAGE}")).or_else(|| self.tensors.dims(name))
    }

    fn out_channels(&self, name: &str) -> Option<usize> {
        self.dims(name)?.get(if self.layout == KernelLayout::Hwio { 3 } else { 0 }).copied()
    }

    fn in_channels(&self, name: &str) -> Option<usize> {
        self.dims(name)?.get(if self.layout == KernelLayout::Hwio { 2 } else { 1 }).copied()
    }

    fn has(&self, name: &str) -> bool {
        self.dims(name).is_some()
    }
}

fn block(index: usize) -> String {
    let number = if index == 0 { String::new() } else { format!("_{index}") };
    format!("MobilenetV2/expanded_conv{number}")
}

fn mobilenet_v2(file: &File) -> Result<MobileNetV2> {
    let out_channels = |name: &str| {
        file.out_channels(name).ok_or_else(|| {
            error!(Weights, "tensor `{name}` is missing, which determines the width")
        })
    };
    let mut net = MobileNetV2::with_width(1.0, 8);
    net.stem = out_channels(STEM)?;
    for (channels, last) in net.channels.iter_mut().zip(MobileNetV2::LAST_BLOCKS) {
        *channels = out_channels(&format!("{}/project/weights", block(last)))?;
    }
    Ok(net)
}

fn head(file: &File) -> Option<Head> {
    let classes = file.out_channels("logits/semantic/weights")?;
    let branch =
        |i: usize| [format!("aspp{i}_depthwise/depthwise_weights"), format!("aspp{i}/weights")];
    let branches = (1..).take_while(|&i| branch(i).iter().any(|name| file.has(name))).count();
    let kind = |separable: bool| if separable { ConvKind::SeparableNorm } else { ConvKind::Plain };
    let aspp = Aspp {
        channels: file.out_channels("aspp0/weights").unwrap_or(256),
        rates: (1..=branches).map(|i| 6 * i).collect(),
        kind: kind(branches == 0 || file.has(&branch(1)[0])),
        pooling: if file.has("image_pooling/weights") { Pooling::Global } else { Pooling::Off },
        pool_first: true,
        ..Aspp::default()
    };
    let projection = "decoder/feature_projection0/weights";
    let decoder = file.out_channels(projection).map_or(Decoder::None, |low_level_channels| {
        let conv = |i: usize| {
            [
                format!("decoder/decoder_conv{i}_pointwise/weights"),
                format!("decoder/decoder_conv{i}/weights"),
            ]
        };
        let convs = (0..).take_while(|&i| conv(i).iter().any(|name| file.has(name))).count();
        Decoder::Plus(PlusDecoder {
            low_level: LowLevel::InsideUnit,
            low_level_channels,
            channels: conv(0).iter().find_map(|name| file.out_channels(name)).unwrap_or(256),
            kind: kind(convs == 0 || file.has(&conv(0)[0])),
            dropouts: vec![0.0; convs],
            ..PlusDecoder::default()
        })
    });
    Some(Head::new(classes, aspp, decoder, true))
}

fn mobilenet_v2_layer(path: &str) -> Option<String> {
    if path == "stem.conv1" {
        return Some("MobilenetV2/Conv".to_owned());
    }
    let (index, layer) = path.strip_prefix("block")?.split_once('.')?;
    Some(format!("{}/{layer}", block(index.parse().ok()?)))
}

fn head_layer(path: &str) -> Option<String> {
    Some(match path {
        "aspp.conv1x1" => "aspp0".to_owned(),
        "aspp.pool.conv" => "image_pooling".to_owned(),
        "aspp.project" => "concat_projection".to_owned(),
        "decoder.low_level" => "decoder/feature_projection0".to_owned(),
        "logits" => "logits/semantic".to_owned(),
        _ => {
            let (module, layer) = path.split_once('.')?;
            let (layer, suffix) = layer
                .split_once('.')
                .map_or((layer, String::new()), |(layer, kind)| (layer, format!("_{kind}")));
            match module {
                "aspp" => format!("aspp{}{suffix}", layer.strip_prefix("rate")?),
                "decoder" => {
                    let i: usize = layer.strip_prefix("conv")?.parse().ok()?;
                    format!("decoder/decoder_conv{}{suffix}", i.checked_sub(1)?)
                }
                _ => return None,
            }
        }
    })
}
