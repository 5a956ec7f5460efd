//! The shader variants that the program can emit, collected from the operations: nothing here names
//! a shader.

use atrous::engine::geometry::{Size, Spacing};
use atrous::engine::graph::{Graph, ValueId};
use atrous::engine::models::mobilenet_v2::MobileNetV2;
use atrous::engine::models::mobilenet_v3::MobileNetV3;
use atrous::engine::models::resnet::ResNet;
use atrous::engine::models::xception::Xception;
use atrous::engine::models::{
    Aux, Backbone, Config, ConvKind, Decoder, LowLevel, Outputs, PaddingRule, PlusDecoder, Pooling,
    build_network,
};
use atrous::engine::ops::kernel::{
    Caps, KernelContext, ShaderVariant, SubgroupSizes, TensorLayout,
};
use atrous::engine::ops::{
    Accumulate, Activate, Activation, AdamW, Add, Align, Argmax, AvgPool, BatchNorm,
    BatchNormTrain, ClassCounts, Concat, Conv2d, Denominator, Dice, Dropout, DropoutTrain, Flip,
    GlobalAvgPool, GradientScale, MaxPool, Mul, Op, Packing, Padding, Paint, PixelAlignment,
    PixelLoss, Prepend, Preprocess, PreprocessFrame, Resize, RunningStatistics, SegmentationLoss,
    Sgd, Softmax, Style, TemporalMean, Threshold, UpsampleArgmax, UpsampleProbabilities,
    Upsampling,
};
use atrous::engine::plan::Plan;
use atrous::engine::tune::{CHAINS, multiply_add};
use atrous::engine::{Shape, TensorType, passes};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The devices whose kernels are checked: the WebGPU limits, a software adapter, one that needs
/// short shaders, a desktop GPU.
pub fn devices() -> [(&'static str, Caps); 4] {
    let software = Caps {
        software: true,
        subgroup: Some(SubgroupSizes::fixed(8)),
        workgroup_memory: 32 << 10,
        max_invocations: 1024,
        ..Caps::PORTABLE
    };
    let desktop = Caps {
        software: false,
        subgroup: Some(SubgroupSizes::fixed(32)),
        workgroup_memory: 48 << 10,
        ..software.clone()
    };
    let short = Caps {
        software: true,
        short_code: true,
        subgroup: Some(SubgroupSizes::fixed(4)),
        ..Caps::PORTABLE
    };
    [
        ("portable", Caps::PORTABLE),
        ("software", software),
        ("short code", short),
        ("desktop", desktop),
    ]
}

/// Every variant for a device.
pub fn variants(caps: &Caps) -> BTreeSet<ShaderVariant> {
    let mut all = BTreeSet::new();
    for graph in networks() {
        let plan = Plan::new(&graph);
        let layout = |v: ValueId| {
            plan.places[v.index()]
                .map_or_else(|| TensorLayout::contiguous(graph.ty(v)), |p| p.layout)
        };
        for &step in &plan.steps {
            let node = &graph.nodes()[step];
            let layouts = |ids: &[ValueId]| ids.iter().map(|&v| layout(v)).collect::<Vec<_>>();
            add(&mut all, node.op.as_ref(), &layouts(&node.inputs), &layouts(&node.outputs), caps);
        }
    }
    for (op, inputs) in calls() {
        for node in gradient_nodes(op.clone(), &inputs) {
            add(&mut all, node.op.as_ref(), &node.inputs, &node.outputs, caps);
        }
        let outputs = op.infer(&inputs).expect("the call is well-formed");
        let layouts = |types: Vec<TensorType>| {
            types.into_iter().map(TensorLayout::contiguous).collect::<Vec<_>>()
        };
        add(&mut all, op.as_ref(), &layouts(inputs), &layouts(outputs), caps);
    }
    // The only shader that is not an operation's: the measurement of peak throughput.
    all.extend(CHAINS.map(|chains| multiply_add(1 << 12, chains).variant));
    all
}

/// A node of a gradient, and the types of its values.
struct Call {
    op: Arc<dyn Op>,
    inputs: Vec<TensorLayout>,
    outputs: Vec<TensorLayout>,
}

/// The nodes that the operation's gradient adds to a graph; none if it has no gradient.
fn gradient_nodes(op: Arc<dyn Op>, inputs: &[TensorType]) -> Vec<Call> {
    let mut graph = Graph::new();
    let x: Vec<ValueId> =
        (0..).zip(inputs).map(|(i, ty)| graph.input(&format!("x{i}"), *ty)).collect();
    let y = graph.push("op", op, &x).expect("the call is well-formed");
    // Outputs after the first are by-products: statistics have no gradient.
    let seeds = [(y[0], graph.input("dy", graph.ty(y[0])))];
    let forward = graph.nodes().len();
    if graph.gradients(&seeds, &x).is_err() {
        return Vec::new();
    }
    let layouts =
        |ids: &[ValueId]| ids.iter().map(|&v| TensorLayout::contiguous(graph.ty(v))).collect();
    let calls = graph.nodes()[forward..].iter();
    calls
        .map(|n| Call {
            op: n.op.clone(),
            inputs: layouts(&n.inputs),
            outputs: layouts(&n.outputs),
        })
        .collect()
}

fn add(
    all: &mut BTreeSet<ShaderVariant>,
    op: &dyn Op,
    inputs: &[TensorLayout],
    outputs: &[TensorLayout],
    caps: &Caps,
) {
    let kernels = op.kernels(&KernelContext { inputs, outputs, caps });
    assert!(!kernels.is_empty(), "{} {} has no kernel", op.name(), op.attributes());
    all.extend(kernels.into_iter().flat_map(|k| k.dispatches).map(|d| d.variant));
}

/// Optimized graphs of every backbone under every kind of head and padding, at sizes with and
/// without remainders.
fn networks() -> Vec<Graph> {
    let configs = configs();
    let shapes = [Shape::new(1, 65, 97, 3), Shape::new(2, 64, 48, 3)];
    let all = configs.iter().enumerate().flat_map(|(i, config)| {
        shapes.map(|shape| {
            let labels = config.head.is_some();
            let (h, w) = (shape.h, shape.w);
            let outputs = Outputs {
                labels,
                confidence: labels && i % 2 == 0,
                logits_full: labels,
                aux: labels,
                image: Some(Size::new(w - 1, h)),
                ..Outputs::default()
            };
            let network =
                build_network(config, shape, &outputs).expect("the config is well-formed");
            passes::optimize(network.graph).expect("passes support every network")
        })
    });
    all.collect()
}

fn configs() -> Vec<Config> {
    let mobilenet = || Backbone::MobileNetV2(MobileNetV2::with_width(0.25, 8));
    let plus = |kind, low_level, low_level_first| {
        Decoder::Plus(PlusDecoder {
            low_level,
            low_level_channels: 48,
            channels: 256,
            kind,
            dropouts: vec![0.1; 2],
            low_level_first,
        })
    };
    let with = |backbone: Backbone, stride: usize, decoder: Decoder, padding: PaddingRule| {
        let mut config = Config::deeplab_v3plus(backbone, 21);
        config.padding = padding;
        config.head.as_mut().expect("made with a head").decoder = decoder;
        config.with_output_stride(stride).expect("rates can be doubled")
    };
    let stage = LowLevel::Stage;
    let mut all = vec![
        with(
            Backbone::ResNet(ResNet::new(18).expect("exists")),
            16,
            plus(ConvKind::Plain, stage, false),
            PaddingRule::Symmetric,
        ),
        with(
            Backbone::ResNet(ResNet::new(50).expect("exists")),
            8,
            Decoder::Conv,
            PaddingRule::Symmetric,
        ),
        with(
            Backbone::Xception(Xception::new(41).expect("exists")),
            16,
            plus(ConvKind::SeparableNorm, LowLevel::InsideUnit, false),
            PaddingRule::TfSame,
        ),
        with(
            mobilenet(),
            16,
            plus(ConvKind::Separable, stage, true),
            PaddingRule::BeforeExpansion { stem: 1 },
        ),
        with(mobilenet(), 8, Decoder::None, PaddingRule::TfSame),
        with(Backbone::MobileNetV3(MobileNetV3 {}), 16, Decoder::Conv, PaddingRule::Symmetric),
        with(mobilenet(), 32, Decoder::None, PaddingRule::Symmetric).without_head(),
        with(
            Backbone::named("se_resnext50_32x4d").expect("exists"),
            16,
            Decoder::None,
            PaddingRule::Symmetric,
        ),
    ];
    all[1].multi_grid = vec![1, 2, 4];
    let head = all[4].head.as_mut().expect("made with a head");
    head.aspp.pooling = Pooling::Window { crop: Size::square(33), stride: Spacing { y: 2, x: 1 } };
    head.align_corners = true;
    let head = all[5].head.as_mut().expect("made with a head");
    head.aux = Some(Aux { dropout: 0.1 });
    all
}

/// Calls with combinations of attributes that the networks above do not contain.
fn calls() -> Vec<(Arc<dyn Op>, Vec<TensorType>)> {
    let x = Shape::new(2, 19, 23, 24);
    let mut all = convolutions();
    let mut call = |op: Arc<dyn Op>, shapes: &[Shape]| {
        all.push((op, shapes.iter().map(|&s| TensorType::f32(s)).collect()))
    };
    for activation in ACTIVATIONS {
        call(Arc::new(Activate(activation)), &[x]);
    }
    call(Arc::new(Add), &[x, x]);
    call(Arc::new(Mul), &[x, Shape::new(2, 1, 1, 24)]);
    call(Arc::new(Argmax), &[x]);
    call(Arc::new(Softmax), &[x]);
    call(Arc::new(Flip), &[x]);
    call(Arc::new(GlobalAvgPool), &[x]);
    call(Arc::new(Dropout { p: 0.5 }), &[x]);
    call(
        Arc::new(BatchNorm { eps: 1e-5 }),
        &[x, Shape::vector(24), Shape::vector(24), Shape::vector(24), Shape::vector(24)],
    );
    call(Arc::new(MaxPool::square(3, 2, 1)), &[x]);
    for count_include_pad in [false, true] {
        call(Arc::new(AvgPool { count_include_pad, ..AvgPool::square(3, 2, 1) }), &[x]);
    }
    // Inputs that begin inside a vec4, and inputs that do not.
    call(Arc::new(Concat), &[x, x.with_c(5), x.with_c(6)]);
    for (h, w) in [(76, 91), (7, 5)] {
        for alignment in [PixelAlignment::HalfPixel, PixelAlignment::Corners] {
            call(Arc::new(Resize { size: Size::new(w, h), alignment, window: None }), &[x]);
            let upsampling =
                Upsampling { size: Size::new(w, h), alignment, window: None, rows: None };
            for confidence in [false, true] {
                for sigmoid in [None, Some(Threshold::HALF)] {
                    call(Arc::new(UpsampleArgmax { upsampling, confidence, sigmoid }), &[x]);
                }
            }
            for sigmoid in [false, true] {
                let op = UpsampleProbabilities { upsampling, weighted: false, sigmoid };
                call(Arc::new(op), &[x]);
                let op = UpsampleProbabilities { weighted: true, ..op };
                call(Arc::new(op), &[x, Shape::vector(x.c)]);
            }
        }
    }
    call(Arc::new(Prepend { value: 0.0 }), &[x]);
    call(Arc::new(BatchNormTrain { eps: 1e-5 }), &[x, Shape::vector(24), Shape::vector(24)]);
    all.extend(losses(x));
    updates(&mut all);
    let step = TensorType::u32(Shape::vector(1));
    all.push((Arc::new(DropoutTrain { p: 0.1, key: 1 }), vec![TensorType::f32(x), step]));
    let preprocess = Preprocess {
        size: Size::new(40, 33),
        scale: [1.0; 3],
        shift: [0.0; 3],
        pad_value: [0.5; 3],
    };
    all.push((Arc::new(preprocess), vec![TensorType::u8(Shape::new(1, 30, 40, 3))]));
    live(&mut all);
    all
}

/// Frames in, painted frames out.
fn live(all: &mut Vec<(Arc<dyn Op>, Vec<TensorType>)>) {
    let (image, f32) = (TensorType::u32(Shape::new(1, 60, 80, 1)), TensorType::f32);
    let (logits, mean) = (Shape::new(1, 9, 9, 21), f32(Shape::new(1, 9, 9, 24)));
    let frame = PreprocessFrame {
        size: Size::square(33),
        scaled: Size::new(33, 25),
        scale: [1.0; 3],
        shift: [0.0; 3],
        pad_value: [0.5; 3],
    };
    all.push((Arc::new(frame), vec![image]));
    all.push((
        Arc::new(TemporalMean { threshold: Threshold::HALF }),
        vec![f32(logits), mean, f32(Shape::vector(4))],
    ));
    all.push((Arc::new(ClassCounts { classes: 21, rows: 7, columns: 9 }), vec![mean]));
    let paint = Paint { classes: 21, alignment: PixelAlignment::HalfPixel, window: None };
    all.push((
        Arc::new(paint),
        vec![image, mean, TensorType::u32(Style::shape(21)), f32(Shape::new(1, 15, 20, 3))],
    ));
}

/// Every kind of loss, with labels of the scores' size and of another.
fn losses(x: Shape) -> Vec<(Arc<dyn Op>, Vec<TensorType>)> {
    let kinds = [
        (0.0, 0.0, false, None),
        (0.1, 0.0, false, None),
        (0.0, 2.0, true, None),
        (0.1, 0.0, true, Some(1.0)),
    ];
    let mut all: Vec<(Arc<dyn Op>, Vec<TensorType>)> = Vec::new();
    for labels in [x.with_c(1), x.with_c(1).with_hw(76, 91)] {
        for (smoothing, gamma, mined, dice) in kinds {
            for (weighted, denominator) in [
                (false, Denominator::Weights),
                (false, Denominator::Pixels),
                (true, Denominator::Weights),
                (true, Denominator::Pixels),
            ] {
                let dice = dice.map(|smooth| Dice { weight: 0.5, smooth, background: true });
                let pixel =
                    PixelLoss { ignore: 255, smoothing, weighted, denominator, gamma, mined, dice };
                let mut inputs = vec![TensorType::f32(x), TensorType::u32(labels)];
                inputs.extend(weighted.then(|| TensorType::f32(Shape::vector(x.c))));
                inputs.extend(mined.then(|| TensorType::f32(Shape::vector(4))));
                all.push((Arc::new(SegmentationLoss::from(pixel)), inputs));
            }
        }
    }
    all
}

/// Operations on flat vectors after a step, and those that align tensors for them.
fn updates(all: &mut Vec<(Arc<dyn Op>, Vec<TensorType>)>) {
    let vector = |n: usize| TensorType::f32(Shape::vector(n));
    let (w, scale) = (vector(192), vector(4));
    let (groups, table) =
        (TensorType::u32(Shape::vector(3)), TensorType::f32(Shape::new(1, 1, 2, 4)));
    for nesterov in [false, true] {
        all.push((Arc::new(Sgd { momentum: 0.9, nesterov }), vec![w, w, w, scale, groups, table]));
    }
    all.push((
        Arc::new(AdamW { betas: [0.9, 0.999].into(), eps: 1e-8 }),
        vec![w, w, w, w, scale, groups, table],
    ));
    all.push((Arc::new(RunningStatistics), vec![w, w, groups, table]));
    all.push((Arc::new(Accumulate), vec![w, w, scale]));
    all.push((Arc::new(GradientScale { scale: 1.0, max_norm: None }), vec![w, w]));
    all.push((Arc::new(Align(Packing::Matrix)), vec![TensorType::f32(Shape::new(3, 3, 3, 5))]));
}

const ACTIVATIONS: [Activation; 6] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Relu6,
    Activation::HardSwish,
    Activation::HardSigmoid,
    Activation::Sigmoid,
];

/// Every epilogue on one shape, and every kind of kernel with some epilogues: in the shaders the
/// two interact only in `store`.
fn convolutions() -> Vec<(Arc<dyn Op>, Vec<TensorType>)> {
    let mut all: Vec<(Arc<dyn Op>, Vec<TensorType>)> = Vec::new();
    let mut call = |conv: Conv2d, kernel: (usize, usize), x: Shape, c_out: usize| {
        let w = Shape::new(kernel.0, kernel.1, x.c / conv.groups, c_out);
        let mut inputs = vec![TensorType::f32(x), TensorType::f32(w)];
        if conv.bias {
            inputs.push(TensorType::f32(Shape::vector(c_out)));
        }
        if conv.residual {
            let plain = Conv2d { bias: false, residual: false, ..conv };
            inputs.extend(plain.infer(&inputs[..2]).expect("the call is well-formed"));
        }
        all.push((Arc::new(conv), inputs));
    };
    let x = Shape::new(1, 33, 33, 64);
    for activation in ACTIVATIONS {
        for (bias, residual) in [(false, false), (true, false), (false, true), (true, true)] {
            let conv = Conv2d { bias, residual, activation, ..Conv2d::default() };
            call(conv, (1, 1), x, 128);
            call(Conv2d { groups: 64, padding: Padding::all(1), ..conv }, (3, 3), x, 64);
        }
    }
    let x = Shape::new(2, 33, 40, 24);
    for groups in [1, 3, 24] {
        let spacing = |(y, x): (usize, usize)| Spacing { x, y };
        for (stride, dilation, padding, kernel) in [
            ((1, 1), (1, 1), 1, (3, 3)),
            ((1, 1), (1, 1), 0, (3, 3)),
            ((1, 1), (1, 1), 2, (5, 5)),
            ((1, 1), (6, 6), 6, (3, 3)),
            ((1, 1), (36, 36), 36, (3, 3)),
            ((2, 2), (1, 1), 1, (3, 3)),
            ((2, 2), (1, 1), 3, (7, 7)),
            ((2, 1), (2, 3), 3, (3, 2)),
            ((2, 2), (1, 1), 0, (1, 1)),
        ] {
            call(
                Conv2d {
                    stride: spacing(stride),
                    dilation: spacing(dilation),
                    padding: Padding::all(padding),
                    groups,
                    ..Conv2d::default()
                },
                kernel,
                x,
                48,
            );
            call(
                Conv2d {
                    stride: spacing(stride),
                    dilation: spacing(dilation),
                    padding: Padding::all(padding),
                    groups,
                    bias: true,
                    ..Conv2d::default()
                },
                kernel,
                x,
                24,
            );
        }
    }
    all
}
