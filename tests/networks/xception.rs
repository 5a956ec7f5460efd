//! Xception: strides, dilations and shortcuts as in the paper's code, and invalid configs.

use atrous::engine::Shape;
use atrous::engine::models::mobilenet_v2::MobileNetV2;
use atrous::engine::models::xception::{Xception, XceptionVariant};
use atrous::engine::models::{
    Backbone, Config, Decoder, DilationRule, LowLevel, Outputs, PaddingRule, build, build_network,
};
use atrous::engine::ops::Conv2d;

use atrous::ErrorKind;

fn config(depth: usize, output_stride: usize) -> Config {
    let backbone = Backbone::Xception(Xception::new(depth).unwrap());
    Config::deeplab_v3plus(backbone, 3).with_output_stride(output_stride).unwrap()
}

/// Returns the strides and dilations of the three depthwise convolutions of a unit, and the stride
/// of the shortcut if it is a convolution.
fn unit(config: &Config, name: &str) -> ([(usize, usize); 3], Option<usize>) {
    let graph = build(config, Shape::new(1, 65, 65, 3)).unwrap();
    let conv = |path: &str| {
        let node = graph.find_node(&format!("backbone.{name}.{path}"))?;
        let conv = node.op.downcast_ref::<Conv2d>().unwrap();
        assert_eq!((conv.stride.y, conv.dilation.y), (conv.stride.x, conv.dilation.x));
        Some((conv.stride.y, conv.dilation.y))
    };
    let convs = [1, 2, 3].map(|i| {
        conv(&format!("conv{i}.depthwise")).unwrap_or_else(|| panic!("{name} has no conv{i}"))
    });
    (convs, conv("shortcut").map(|(stride, _)| stride))
}

fn plain(dilation: usize) -> [(usize, usize); 3] {
    [(1, dilation); 3]
}

const STRIDED: [(usize, usize); 3] = [(1, 1), (1, 1), (2, 1)];

#[test]
fn the_stride_is_in_the_third_convolution_and_in_the_shortcut() {
    for (depth, strides) in [(41, [2, 2, 2].as_slice()), (65, &[2, 2, 2]), (71, &[2, 1, 2, 1, 2])] {
        let config = config(depth, 32);
        for (i, &stride) in (1..).zip(strides) {
            let expected = if stride == 2 { STRIDED } else { plain(1) };
            assert_eq!(
                unit(&config, &format!("entry{i}")),
                (expected, Some(stride)),
                "Xception-{depth}, entry{i}"
            );
        }
        let middle = if depth == 41 { 8 } else { 16 };
        assert_eq!(unit(&config, &format!("middle{middle}")), (plain(1), None));
        assert_eq!(unit(&config, "exit1"), (STRIDED, Some(2)));
        assert_eq!(unit(&config, "exit2"), (plain(1), None));
        let graph = build(&config, Shape::new(1, 65, 65, 3)).unwrap();
        assert!(
            graph.find_node(&format!("backbone.middle{}.conv1.depthwise", middle + 1)).is_none()
        );
    }
}

#[test]
fn units_beyond_the_output_stride_are_dilated() {
    let at16 = config(65, 16);
    assert_eq!(unit(&at16, "entry3"), (STRIDED, Some(2)));
    assert_eq!(unit(&at16, "middle1"), (plain(1), None));
    assert_eq!(unit(&at16, "exit1"), (plain(1), Some(1)));
    assert_eq!(unit(&at16, "exit2"), (plain(2), None));
    let at8 = config(65, 8);
    assert_eq!(unit(&at8, "entry3"), (plain(1), Some(1)));
    assert_eq!(unit(&at8, "middle16"), (plain(2), None));
    assert_eq!(unit(&at8, "exit1"), (plain(2), Some(1)));
    assert_eq!(unit(&at8, "exit2"), (plain(4), None));
}

#[test]
fn xception_71_keeps_the_shortcut_of_entry5_at_output_stride_8() {
    // There the unit has 728 input and output channels and stride 1, so that its shapes would allow
    // an identity.
    assert_eq!(unit(&config(71, 8), "entry5"), (plain(1), Some(1)));
    assert_eq!(unit(&config(71, 8), "entry4"), (plain(1), Some(1)));
}

#[test]
fn the_multi_grid_goes_to_the_convolutions_of_the_last_unit() {
    let grid = Config { multi_grid: vec![1, 2, 4], ..config(65, 16) };
    assert_eq!(unit(&grid, "exit2").0, [(1, 2), (1, 4), (1, 8)]);
    assert_eq!(unit(&grid, "exit1").0, plain(1));
    let error = build(&Config { multi_grid: vec![1, 2], ..grid }, Shape::new(1, 65, 65, 3))
        .unwrap_err()
        .to_string();
    assert!(error.contains("Xception-65 expects a multi-grid of 3 factors, got 2"), "{error}");
}

#[test]
fn in_place_the_last_convolution_of_exit1_is_not_dilated() {
    let mut config = config(65, 8);
    config.backbone = Backbone::Xception(Xception { depth: 65, variant: XceptionVariant::InPlace });
    assert_eq!(unit(&config, "exit1").0, [(1, 2), (1, 2), (1, 1)]);
    assert_eq!(unit(&config, "exit2").0, plain(4));
}

#[test]
fn low_level_features_are_at_a_quarter_of_the_image_at_every_output_stride() {
    for (depth, stage_channels) in [(41, 128), (65, 128), (71, 256)] {
        for (tap, channels) in [(LowLevel::Stage, stage_channels), (LowLevel::InsideUnit, 256)] {
            for output_stride in [8, 16, 32] {
                let mut config = config(depth, output_stride);
                let Some(Decoder::Plus(plus)) = config.head.as_mut().map(|h| &mut h.decoder) else {
                    unreachable!()
                };
                plus.low_level = tap;
                let network =
                    build_network(&config, Shape::new(1, 97, 65, 3), &Outputs::default()).unwrap();
                let graph = &network.graph;
                let low_level = graph.find_node("decoder.low_level").unwrap().inputs[0];
                assert_eq!(
                    graph.shape(low_level),
                    Shape::new(1, 25, 17, channels),
                    "Xception-{depth} at {output_stride}"
                );
                let last = network.stages.iter().find(|(name, _)| name == "exit2").unwrap().1;
                let size = |pixels: usize| (pixels - 1) / output_stride + 1;
                assert_eq!(graph.shape(last), Shape::new(1, size(97), size(65), 2048));
            }
        }
    }
}

#[test]
fn groups_of_blocks_keep_one_dilation_by_jfzhang95s_rule() {
    let backbone = Backbone::MobileNetV2(MobileNetV2::with_width(0.25, 8));
    let rule = Config { dilation: DilationRule::AfterGroup, ..Config::deeplab_v3plus(backbone, 3) };
    for (output_stride, expected) in [
        (32, [1; 17]),
        (16, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2]),
        (8, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 4]),
    ] {
        let graph = build(
            &rule.clone().with_output_stride(output_stride).unwrap(),
            Shape::new(1, 65, 65, 3),
        )
        .unwrap();
        let depthwise = graph
            .nodes()
            .iter()
            .filter(|n| n.name.contains("block") && n.name.ends_with(".depthwise"));
        let dilations: Vec<usize> = depthwise
            .filter_map(|n| n.op.downcast_ref::<Conv2d>())
            .map(|conv| conv.dilation.y)
            .collect();
        assert_eq!(dilations, expected, "at output stride {output_stride}");
    }
}

#[test]
fn invalid_configs_are_rejected() {
    assert_eq!(Xception::new(66).unwrap_err().kind(), ErrorKind::Config);
    let valid = config(41, 16);
    let unknown = Backbone::Xception(Xception { depth: 42, variant: XceptionVariant::OutOfPlace });
    for (message, invalid) in [
        ("unknown Xception-42", Config { backbone: unknown, ..valid.clone() }),
        (
            "padding rule `before_expansion` requires MobileNetV2",
            Config { padding: PaddingRule::BeforeExpansion { stem: 1 }, ..valid.clone() },
        ),
        (
            "dilation rule `after_group` requires MobileNetV2",
            Config { dilation: DilationRule::AfterGroup, ..valid.clone() },
        ),
    ] {
        let error = build(&invalid, Shape::new(1, 65, 65, 3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(message), "expected `{message}`, got: {error}");
    }
    assert_eq!(Config::from_json(&valid.to_json()).unwrap(), valid);
}
