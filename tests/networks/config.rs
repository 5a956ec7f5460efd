//! Configs: validation, JSON, changes of the output stride; and networks at extreme sizes.

use atrous::engine::exec::{Device, Runner};
use atrous::engine::geometry::{Size, Spacing};
use atrous::engine::graph::{ParamRef, Weights};
use atrous::engine::models::mobilenet_v2::MobileNetV2;
use atrous::engine::models::mobilenet_v3::MobileNetV3;
use atrous::engine::models::{
    Aux, Backbone, Config, Decoder, DilationRule, LowLevel, Outputs, PaddingRule, Pooling,
    Preprocessing, STEM_WEIGHT, build, build_network, inflate_stem, parameters,
};
use atrous::engine::ops::Conv2d;
use atrous::engine::{DType, Data, Shape, Tensor};

use atrous::ErrorKind;

fn resnet(depth: usize) -> Config {
    Config::deeplab_v3plus(Backbone::resnet(depth).unwrap(), 21)
}

fn mobilenet() -> Config {
    Config::deeplab_v3plus(Backbone::MobileNetV2(MobileNetV2::with_width(0.25, 8)), 5)
}

/// Returns the strides and dilations of the convolutions whose names contain `infix` and end with
/// `suffix`, in order.
fn strides_and_dilations(config: &Config, infix: &str, suffix: &str) -> Vec<(usize, usize)> {
    let graph = build(config, Shape::new(1, 65, 65, 3)).unwrap();
    let nodes = graph.nodes().iter().filter(|n| n.name.contains(infix) && n.name.ends_with(suffix));
    nodes
        .filter_map(|n| n.op.downcast_ref::<Conv2d>())
        .map(|c| (c.stride.y, c.dilation.y))
        .collect()
}

#[test]
fn resnet_dilates_as_the_dialect_requires() {
    let layer = |config: &Config, n: usize| {
        strides_and_dilations(config, &format!("backbone.layer{n}."), ".conv2")
    };
    let mut config = resnet(50);
    assert_eq!(layer(&config, 4), [(1, 1), (1, 2), (1, 2)]);
    config.multi_grid = vec![1, 2, 4];
    config.dilation = DilationRule::WholeStage;
    assert_eq!(layer(&config, 4), [(1, 2), (1, 4), (1, 8)]);
    let config = config.with_output_stride(8).unwrap();
    assert_eq!(layer(&config, 3), [(1, 2); 6]);
    assert_eq!(layer(&config, 4), [(1, 4), (1, 8), (1, 16)]);
    let config = Config { dilation: DilationRule::AfterStride, multi_grid: Vec::new(), ..config };
    assert_eq!(layer(&config, 3), [(1, 1), (1, 2), (1, 2), (1, 2), (1, 2), (1, 2)]);
    assert_eq!(layer(&config, 4), [(1, 2), (1, 4), (1, 4)]);
    let config = config.with_output_stride(32).unwrap();
    assert_eq!(layer(&config, 3)[0], (2, 1));
    assert_eq!(layer(&config, 4), [(2, 1), (1, 1), (1, 1)]);
}

#[test]
fn mobilenet_v2_dilates_as_the_dialect_requires() {
    let dilations = |config: &Config| -> Vec<usize> {
        strides_and_dilations(config, "block", ".depthwise").into_iter().map(|s| s.1).collect()
    };
    let config = mobilenet();
    assert_eq!(dilations(&config), [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2]);
    let config = config.with_output_stride(8).unwrap();
    assert_eq!(dilations(&config), [1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 4, 4, 4]);
    let config = Config { dilation: DilationRule::WholeStage, ..config };
    assert_eq!(dilations(&config), [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 4, 4, 4, 4]);
}

#[test]
fn rates_follow_the_output_stride() {
    let rates = |os: usize| resnet(18).with_output_stride(os).unwrap().head.unwrap().aspp.rates;
    assert_eq!(
        (rates(8), rates(16), rates(32)),
        (vec![12, 24, 36], vec![6, 12, 18], vec![3, 6, 9])
    );
    let mut odd = resnet(18);
    odd.head.as_mut().unwrap().aspp.rates = vec![5];
    assert!(odd.with_output_stride(32).unwrap_err().to_string().contains("rate 5"));
}

#[test]
fn configs_survive_json() {
    let mut config = resnet(101);
    config.padding = PaddingRule::BeforeExpansion { stem: 1 };
    assert_eq!(Config::from_json(&config.to_json()).unwrap_err().kind(), ErrorKind::Config);
    config.padding = PaddingRule::TfSame;
    config.multi_grid = vec![1, 2, 4];
    config.preprocess = Preprocessing::SYMMETRIC_513;
    let head = config.head.as_mut().unwrap();
    head.aspp.pooling = Pooling::Window { crop: Size::square(513), stride: Spacing::ONE };
    head.aux = Some(Aux { dropout: 0.1 });
    head.class_names = (0..21).map(|i| format!("class {i}")).collect();
    head.class_colors = (0..21).map(|i| [i, 255 - i, 7]).collect();
    assert_eq!(Config::from_json(&config.to_json()).unwrap(), config);
    for text in ["", "{}", "[1]", "{\"backbone\":{\"res_net\":{}}}"] {
        assert_eq!(Config::from_json(text).unwrap_err().kind(), ErrorKind::Config, "{text}");
    }
}

#[test]
fn rules_are_read_by_their_old_and_their_new_names_and_written_by_the_old() {
    let mut config = Config::deeplab_v3plus(Backbone::named("xception65").unwrap(), 21);
    plus(&mut config).low_level = LowLevel::InsideUnit;
    let json = config.to_json();
    assert_eq!(json.matches("\"tensor_flow\"").count(), 2, "{json}");
    let renamed = json
        .replace(r#""variant":"tensor_flow""#, r#""variant":"out_of_place""#)
        .replace(r#""low_level":"tensor_flow""#, r#""low_level":"inside_unit""#);
    assert_ne!(renamed, json);
    assert_eq!(Config::from_json(&renamed).unwrap(), config);
    assert_eq!(Config::from_json(&json).unwrap(), config);
}

/// Part of the error message, and a change that makes a config invalid.
type Invalid = (&'static str, fn(&mut Config));

#[test]
fn invalid_configs_are_rejected_with_the_field() {
    let invalid: [Invalid; 15] = [
        ("output stride must be 8, 16 or 32, got 4", |c| c.output_stride = 4),
        ("input channels", |c| c.input_channels = 0),
        ("expects a multi-grid of 3 factors, got 2", |c| c.multi_grid = vec![1, 2]),
        ("eps must be positive", |c| c.eps.head = f32::NAN),
        ("unknown ResNet-51", |c| {
            c.backbone = Backbone::ResNet(atrous::engine::models::resnet::ResNet {
                depth: 51,
                ..resnet_50()
            })
        }),
        ("`before_expansion` requires MobileNetV2, the backbone is ResNet-50", |c| {
            c.padding = PaddingRule::BeforeExpansion { stem: 0 }
        }),
        ("classes must be", |c| c.head.as_mut().unwrap().classes = 0),
        ("expected 21 class names, got 1", |c| {
            c.head.as_mut().unwrap().class_names = vec!["cat".into()]
        }),
        ("expected 21 class colors, got 2", |c| {
            c.head.as_mut().unwrap().class_colors = vec![[0; 3]; 2]
        }),
        ("ASPP rates", |c| c.head.as_mut().unwrap().aspp.rates = vec![0]),
        ("ASPP dropout", |c| c.head.as_mut().unwrap().aspp.dropout = 1.0),
        ("window", |c| {
            c.head.as_mut().unwrap().aspp.pooling =
                Pooling::Window { crop: Size::new(1, 0), stride: Spacing::ONE }
        }),
        ("deviations", |c| c.preprocess.std = [0.0, 1.0, 1.0]),
        ("low-level channels", |c| plus(c).low_level_channels = usize::MAX),
        ("does not support `tensor_flow` low-level features", |c| {
            c.backbone = Backbone::MobileNetV3(MobileNetV3 {});
            plus(c).low_level = LowLevel::InsideUnit;
        }),
    ];
    for (message, change) in invalid {
        let mut config = resnet(50);
        change(&mut config);
        let error = build(&config, Shape::new(1, 65, 65, 3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(message), "expected `{message}`, got: {error}");
    }
}

fn resnet_50() -> atrous::engine::models::resnet::ResNet {
    atrous::engine::models::resnet::ResNet::new(50).unwrap()
}

fn plus(config: &mut Config) -> &mut atrous::engine::models::PlusDecoder {
    match &mut config.head.as_mut().unwrap().decoder {
        Decoder::Plus(plus) => plus,
        _ => unreachable!("`deeplab_v3plus` has a decoder"),
    }
}

#[test]
fn every_network_takes_a_single_pixel_and_odd_sizes() {
    let families = Backbone::families().map(|family| Backbone::named(family.names[0]).unwrap());
    let smallest = families.map(|backbone| Config::deeplab_v3plus(backbone, 3));
    for config in smallest.chain([mobilenet()]) {
        for (h, w) in [(1, 1), (2, 1), (3, 17), (33, 32)] {
            let outputs =
                Outputs { labels: true, confidence: true, logits_full: true, ..Outputs::default() };
            let network = build_network(&config, Shape::new(2, h, w, 3), &outputs).unwrap();
            let (_, labels) =
                network.graph.outputs().iter().find(|(name, _)| name == "labels").unwrap();
            assert_eq!(network.graph.shape(*labels), Shape::new(2, h, w, 1));
        }
    }
}

#[test]
fn inputs_that_vanish_are_refused() {
    let mut config = mobilenet();
    config.padding = PaddingRule::BeforeExpansion { stem: 0 };
    let error = build(&config, Shape::new(1, 2, 2, 3)).unwrap_err().to_string();
    assert!(error.contains("backbone.stem.conv1") && error.contains("too small"), "{error}");
    let error = build(&config, Shape::new(1, 0, 2, 3)).unwrap_err().to_string();
    assert!(error.contains("is empty"), "{error}");
    let error = build(&config, Shape::new(1, 65, 65, 4)).unwrap_err().to_string();
    assert!(error.contains("expects 3 input channels"), "{error}");
}

#[test]
fn windowed_pooling_at_the_training_size_is_the_global_mean() {
    let size = |crop: usize| {
        let mut config = mobilenet();
        config.head.as_mut().unwrap().aspp.pooling =
            Pooling::Window { crop: Size::square(crop), stride: Spacing::ONE };
        let network =
            build_network(&config, Shape::new(1, 97, 65, 3), &Outputs::default()).unwrap();
        let (_, pooled) =
            network.stages.iter().find(|(name, _)| name == "aspp.pool").unwrap().clone();
        network.graph.shape(pooled)
    };
    // The map is 7 x 5 at output stride 16.
    assert_eq!(size(513), Shape::new(1, 1, 1, 256));
    assert_eq!(size(65), Shape::new(1, 3, 1, 256));
    assert_eq!(size(1), Shape::new(1, 7, 5, 256));
}

#[test]
fn the_windowed_pooling_can_be_run_and_left_out() {
    for pooling in
        [Pooling::Window { crop: Size::square(33), stride: Spacing { y: 2, x: 1 } }, Pooling::Off]
    {
        let mut config = mobilenet();
        let head = config.head.as_mut().unwrap();
        head.aspp.pooling = pooling;
        head.align_corners = true;
        let mut graph = build(&config, Shape::new(1, 65, 65, 3)).unwrap();
        let weights: Weights = parameters(&config)
            .unwrap()
            .into_iter()
            .map(|(info, shape)| {
                (
                    info.name,
                    ParamRef::new(Tensor::from_fn(shape, |y, x, i, o| {
                        ((y + 2 * x + 3 * i + 5 * o) % 7) as f32 / 7.0
                    })),
                )
            })
            .collect();
        graph.bind(&weights).unwrap();
        let x = Tensor::from_fn(Shape::new(1, 65, 65, 3), |_, y, x, c| {
            ((y * 3 + x * 5 + c) % 11) as f32 / 11.0 - 0.5
        });
        let logits = Runner::new(&Device::Cpu, graph).unwrap().run(&[("input", &x)]).unwrap();
        assert!(logits[0].f32().iter().all(|v| v.is_finite()));
        assert_eq!(logits[0].shape(), Shape::new(1, 17, 17, 5));
    }
}

#[test]
fn an_image_is_normalized_and_padded_in_the_graph() {
    let config = Config { preprocess: Preprocessing::SYMMETRIC_513, ..mobilenet() };
    let outputs = Outputs { image: Some(Size::new(33, 20)), ..Outputs::default() };
    let mut network = build_network(&config, Shape::new(1, 33, 33, 3), &outputs).unwrap();
    let inputs: Vec<_> =
        network.graph.inputs().map(|(name, v)| (name.to_owned(), network.graph.ty(v))).collect();
    assert_eq!(inputs.len(), 1);
    assert_eq!(
        (inputs[0].0.as_str(), inputs[0].1.dtype, inputs[0].1.shape),
        ("image", DType::U8, Shape::new(1, 20, 33, 3))
    );
    let node = network.graph.find_node("preprocess").unwrap().clone();
    let mut out = [Tensor::zeros(network.graph.ty(node.outputs[0]))];
    let image =
        Tensor::from_data(Shape::new(1, 20, 33, 3), Data::U8(vec![255; 20 * 33 * 3])).unwrap();
    node.op.cpu(&[&image], &mut out).unwrap();
    let at = |y: usize, x: usize| out[0].f32()[out[0].shape().index(0, y, x, 1)];
    assert!((at(19, 32) - 1.0).abs() < 1e-6 && at(20, 0) == 0.0);
    network.keep_stages();
    assert!(network.graph.outputs().iter().any(|(name, _)| name == "stem"));
}

#[test]
fn a_stem_is_inflated_by_smps_rule() {
    let mut config = mobilenet();
    let shape = Shape::new(3, 3, 3, 2);
    let stem = ParamRef::new(Tensor::from_fn(shape, |y, x, i, o| {
        (1000 * y + 100 * x + 10 * i + o) as f32
    }));
    let inflated = |config: &mut Config, channels: usize| {
        let mut weights = Weights::from([(STEM_WEIGHT.to_owned(), stem.clone())]);
        inflate_stem(config, &mut weights, channels).map(|()| weights[STEM_WEIGHT].tensor().clone())
    };
    // One channel gets the sum; five channels are 0 1 2 0 1, scaled by 3 / 5.
    let one = inflated(&mut config, 1).unwrap();
    assert_eq!((config.input_channels, one.shape()), (1, Shape::new(3, 3, 1, 2)));
    assert_eq!(one.f32()[one.shape().index(2, 1, 0, 1)], 2101.0 + 2111.0 + 2121.0);
    let five = inflated(&mut config, 5).unwrap();
    for (i, from) in [0, 1, 2, 0, 1].into_iter().enumerate() {
        let expected = (2100 + 10 * from + 1) as f32 * (3.0 / 5.0);
        assert_eq!(five.f32()[five.shape().index(2, 1, i, 1)], expected);
    }
    assert_eq!(inflated(&mut config, 0).unwrap_err().kind(), ErrorKind::Config);
}
