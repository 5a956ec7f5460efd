//! The graphs of a live segmentation, built from ordinary operations. They share the buffers of a
//! [`Pipeline`], by the names in [`Buffers`].

use crate::error::Result;
use crate::geometry::Size;
use crate::graph::{Graph, Resident, ValueId};
use crate::image::Fit;
use crate::models::{Labeling, Outputs};
use crate::ops::kernel::TensorLayout;
use crate::ops::{
    AvgPool, ClassCounts, Packing, Padding, Paint, PixelAlignment, PreprocessFrame, Style,
    TemporalMean,
};
use crate::passes;
use crate::pipeline::Pipeline;
use crate::segmenter::Model;
use crate::tensor::{Shape, TensorType};

/// The blurred frame is computed at a size smaller by this factor.
const BLUR_SCALE: usize = 8;
/// The blur window is the short side divided by this.
const BLUR_DIVISOR: usize = 10;

/// A shared buffer: its name in the store and its type.
pub(super) type Buffer = (&'static str, TensorType);

/// The buffers of one live segmentation.
#[derive(Clone, Copy)]
pub(super) struct Buffers {
    /// The newest frame, packed pixels.
    pub frame: Buffer,
    /// Smoothing: the weight of the previous mean.
    pub smoothing: Buffer,
    /// The moving average of the probabilities.
    pub mean: Buffer,
    /// The logarithms of `mean`.
    pub scores: Buffer,
    /// Number of pixels of each class on the grid of the scores.
    pub counts: Buffer,
    /// The painting style.
    pub style: Buffer,
    /// The background image of cut-outs.
    pub background: Buffer,
    /// The painted frame, packed pixels.
    pub painted: Buffer,
}

impl Buffers {
    fn new(fit: Fit, logits: Shape) -> Self {
        let pixels = Shape::images(1, fit.source, 1);
        let scores = TensorType::f32(TemporalMean::shape(logits));
        Self {
            frame: ("frame", TensorType::u32(pixels)),
            smoothing: ("smoothing", TensorType::f32(Shape::vector(4))),
            mean: ("mean", scores),
            scores: ("scores", scores),
            counts: ("counts", TensorType::u32(Shape::vector(logits.c))),
            style: ("style", TensorType::u32(Style::shape(logits.c))),
            background: ("background", TensorType::f32(pixels.with_c(3))),
            painted: ("painted", TensorType::u32(pixels)),
        }
    }

    fn all(&self) -> [Buffer; 8] {
        [
            self.frame,
            self.smoothing,
            self.mean,
            self.scores,
            self.counts,
            self.style,
            self.background,
            self.painted,
        ]
    }

    /// Allocates all buffers.
    pub(super) fn add_to(&self, pipeline: &mut Pipeline) -> Result<()> {
        for (name, ty) in self.all() {
            pipeline.add(name, (TensorLayout::bytes(ty, Packing::Channels) / 4) as usize)?;
        }
        Ok(())
    }

    /// Optimizes a graph whose inputs and outputs are named after buffers, and binds them to the
    /// store.
    fn bind(&self, graph: Graph) -> Result<Graph> {
        let mut graph = passes::optimize(graph)?;
        let inputs = graph.inputs().map(|(name, v)| (name.to_owned(), v)).collect::<Vec<_>>();
        for (name, v) in graph.outputs().to_vec().into_iter().chain(inputs) {
            graph.remove_output(&name);
            graph.set_resident(v, Resident { buffer: name, first: 0, packing: Packing::Channels });
        }
        Ok(graph)
    }
}

/// Builds the graph from the frame to the scores and class counts.
pub(super) fn segment(model: &Model, fit: Fit) -> Result<(Graph, Buffers)> {
    let preprocess = model.network.preprocess();
    let (scale, shift) = preprocess.scale_shift();
    let mut graph = Graph::new();
    let frame = graph.input("frame", TensorType::u32(Shape::images(1, fit.source, 1)));
    let op = PreprocessFrame {
        size: fit.padded,
        scaled: fit.scaled,
        scale,
        shift,
        pad_value: preprocess.pad_value,
    };
    let x = graph.root().op("frame", op, &[frame])?;
    let outputs = Outputs { background: true, ..Outputs::default() };
    let network = model.network(graph.shape(x), &outputs)?;
    let logits = network.embed_in(&mut graph, "network", x)?;
    let shape = graph.shape(logits);
    let buffers = Buffers::new(fit, shape);
    let [mean, smoothing] =
        [buffers.mean, buffers.smoothing].map(|(name, ty)| graph.input(name, ty));
    let threshold =
        model.network.labeling().as_ref().and_then(Labeling::sigmoid).unwrap_or_default();
    let op = TemporalMean { threshold };
    let results = graph.root().ops("scores", op, &[logits, mean, smoothing])?;
    let inside = |side: usize, scaled: usize, padded: usize| (side * scaled).div_ceil(padded);
    let (scaled, padded) = (fit.scaled, fit.padded);
    let rows = inside(shape.h, scaled.height, padded.height);
    let columns = inside(shape.w, scaled.width, padded.width);
    let counts = graph.root().op(
        "counts",
        ClassCounts { classes: shape.c, rows, columns },
        &[results[1]],
    )?;
    for (name, value) in [("mean", results[0]), ("scores", results[1]), ("counts", counts)] {
        graph.output(name, value);
    }
    Ok((buffers.bind(graph)?, buffers))
}

/// Builds the graph from the frame and the scores to the painted frame. The background is the image
/// in the store or the blurred frame.
pub(super) fn paint(
    buffers: &Buffers,
    fit: Fit,
    alignment: PixelAlignment,
    blurred: bool,
) -> Result<Graph> {
    let mut graph = Graph::new();
    let [frame, scores, style] =
        [buffers.frame, buffers.scores, buffers.style].map(|(name, ty)| graph.input(name, ty));
    let background = if blurred {
        blur(&mut graph, frame)?
    } else {
        graph.input(buffers.background.0, buffers.background.1)
    };
    let window = Some(fit.into());
    let op = Paint { classes: buffers.counts.1.shape.c, alignment, window };
    let painted = graph.root().op("painted", op, &[frame, scores, style, background])?;
    graph.output("painted", painted);
    buffers.bind(graph)
}

/// Blurs the frame at a smaller size, 0 to 255: a box filter applied twice, which is a triangle
/// filter.
fn blur(graph: &mut Graph, frame: ValueId) -> Result<ValueId> {
    let from = graph.shape(frame);
    let size = from.size().map(|side| side.div_ceil(BLUR_SCALE));
    let op = PreprocessFrame {
        size,
        scaled: size,
        scale: [1.0; 3],
        shift: [0.0; 3],
        pad_value: [0.0; 3],
    };
    let mut root = graph.root();
    let mut scope = root.scope("blur");
    let mut x = scope.op("small", op, &[frame])?;
    // Odd, so that the image is not shifted.
    let k = (size.height.min(size.width) / BLUR_DIVISOR).max(1) | 1;
    let padding = |rows: usize, columns: usize| Padding {
        top: rows,
        bottom: rows,
        left: columns,
        right: columns,
    };
    for round in 0..2 {
        for (name, kernel) in [("rows", Size::new(1, k)), ("columns", Size::new(k, 1))] {
            let mean = AvgPool {
                count_include_pad: false,
                kernel,
                padding: padding(kernel.height / 2, kernel.width / 2),
                ..AvgPool::square(1, 1, 0)
            };
            x = scope.op(&format!("{name}{round}"), mean, &[x])?;
        }
    }
    Ok(x)
}
