//! The graphs of a live segmentation, made of ordinary operations. What they share lies in a store,
//! by the names of [`Part`].

use crate::error::Result;
use crate::exec::Store;
use crate::graph::{Graph, Resident, ValueId};
use crate::image::Fit;
use crate::models::Outputs;
use crate::ops::kernel::TensorLayout;
use crate::ops::{
    AvgPool, ClassCounts, Packing, Padding, Paint, PreprocessFrame, ResampleWindow, Style,
    TemporalMean,
};
use crate::passes;
use crate::segmenter::Model;
use crate::tensor::{Shape, TensorType};

/// The blurred frame is computed at a size smaller by this factor.
const BLUR_SCALE: usize = 8;
/// The blur's window is this part of the short side.
const BLUR_PART: usize = 10;

/// What the graphs share, and what is read or written between runs: the name in the store, and its
/// type.
pub(super) type Part = (&'static str, TensorType);

/// The parts of one live segmentation.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    /// The newest frame, packed pixels.
    pub frame: Part,
    /// The share of the old mean.
    pub keep: Part,
    /// The mean of the probabilities.
    pub mean: Part,
    /// Their logarithms.
    pub scores: Part,
    /// Pixels of each class on the grid of the scores.
    pub counts: Part,
    /// How to paint.
    pub look: Part,
    /// The image behind cut-outs.
    pub behind: Part,
    /// What was painted, packed pixels.
    pub painted: Part,
}

impl Parts {
    fn new(fit: Fit, logits: Shape) -> Self {
        let (w, h) = fit.source;
        let pixels = Shape::new(1, h, w, 1);
        let scores = TensorType::f32(TemporalMean::shape(logits));
        Self {
            frame: ("frame", TensorType::u32(pixels)),
            keep: ("keep", TensorType::f32(Shape::vector(4))),
            mean: ("mean", scores),
            scores: ("scores", scores),
            counts: ("counts", TensorType::u32(Shape::vector(logits.c))),
            look: ("look", TensorType::f32(Style::shape(logits.c))),
            behind: ("behind", TensorType::f32(pixels.with_c(3))),
            painted: ("painted", TensorType::u32(pixels)),
        }
    }

    fn all(&self) -> [Part; 8] {
        [
            self.frame,
            self.keep,
            self.mean,
            self.scores,
            self.counts,
            self.look,
            self.behind,
            self.painted,
        ]
    }

    /// Makes room for all of them.
    pub(super) fn add_to(&self, store: &mut Store) -> Result<()> {
        self.all().into_iter().try_for_each(|(name, ty)| {
            store.add(name, (TensorLayout::bytes(ty, Packing::Channels) / 4) as usize)
        })
    }

    /// Optimizes a graph whose inputs and outputs are called like parts, and puts them into the
    /// store.
    fn place(&self, graph: Graph) -> Result<Graph> {
        let mut graph = passes::optimize(graph)?;
        let inputs = graph.inputs().map(|(name, v)| (name.to_owned(), v)).collect::<Vec<_>>();
        for (name, v) in graph.outputs().to_vec().into_iter().chain(inputs) {
            graph.remove_output(&name);
            graph.set_resident(v, Resident { buffer: name, first: 0, packing: Packing::Channels });
        }
        Ok(graph)
    }
}

/// From the frame to scores, and their counts.
pub(super) fn segment(model: &Model, fit: Fit) -> Result<(Graph, Parts)> {
    let ((w, h), (source_w, source_h)) = (fit.padded, fit.source);
    let how = &model.config.preprocess;
    let (scale, shift) = how.scale_shift();
    let mut graph = Graph::new();
    let frame = graph.input("frame", TensorType::u32(Shape::new(1, source_h, source_w, 1)));
    let op = PreprocessFrame {
        h,
        w,
        scaled: (fit.scaled.1, fit.scaled.0),
        scale,
        shift,
        pad_value: how.pad_value,
    };
    let x = graph.root().op("frame", op, &[frame])?;
    let network = model.network(graph.shape(x), &Outputs::default())?.graph;
    let outputs = graph.embed("network", &network, &[("input", x)])?;
    let (_, logits) = outputs[0];
    let shape = graph.shape(logits);
    let parts = Parts::new(fit, shape);
    let [mean, keep] = [parts.mean, parts.keep].map(|(name, ty)| graph.input(name, ty));
    let results = graph.root().ops("scores", TemporalMean, &[logits, mean, keep])?;
    let inside = |side: usize, scaled: usize, padded: usize| (side * scaled).div_ceil(padded);
    let (rows, columns) = (inside(shape.h, fit.scaled.1, h), inside(shape.w, fit.scaled.0, w));
    let counts = graph.root().op(
        "counts",
        ClassCounts { classes: shape.c, rows, columns },
        &[results[1]],
    )?;
    for (name, value) in [("mean", results[0]), ("scores", results[1]), ("counts", counts)] {
        graph.output(name, value);
    }
    Ok((parts.place(graph)?, parts))
}

/// From the frame and the scores to a painted frame; what is behind lies in the store, or is the
/// blurred frame.
pub(super) fn paint(parts: &Parts, fit: Fit, align_corners: bool, blurred: bool) -> Result<Graph> {
    let mut graph = Graph::new();
    let [frame, scores, look] =
        [parts.frame, parts.scores, parts.look].map(|(name, ty)| graph.input(name, ty));
    let behind = if blurred {
        blur(&mut graph, frame)?
    } else {
        graph.input(parts.behind.0, parts.behind.1)
    };
    let window = ResampleWindow {
        padded: (fit.padded.1, fit.padded.0),
        scaled: (fit.scaled.1, fit.scaled.0),
    };
    let op = Paint { classes: parts.counts.1.shape.c, align_corners, window: Some(window) };
    let painted = graph.root().op("painted", op, &[frame, scores, look, behind])?;
    graph.output("painted", painted);
    parts.place(graph)
}

/// The frame as it looks out of focus, smaller, 0 to 255: the mean over windows twice, which makes
/// a pyramid of weights.
fn blur(graph: &mut Graph, frame: ValueId) -> Result<ValueId> {
    let from = graph.shape(frame);
    let (h, w) = (from.h.div_ceil(BLUR_SCALE), from.w.div_ceil(BLUR_SCALE));
    let op = PreprocessFrame {
        h,
        w,
        scaled: (h, w),
        scale: [1.0; 3],
        shift: [0.0; 3],
        pad_value: [0.0; 3],
    };
    let mut root = graph.root();
    let mut scope = root.scope("blur");
    let mut x = scope.op("small", op, &[frame])?;
    // Odd, so that nothing is shifted.
    let k = (h.min(w) / BLUR_PART).max(1) | 1;
    let padding = |rows: usize, columns: usize| Padding {
        top: rows,
        bottom: rows,
        left: columns,
        right: columns,
    };
    for round in 0..2 {
        for (name, kernel) in [("rows", (k, 1)), ("columns", (1, k))] {
            let mean = AvgPool {
                count_include_pad: false,
                kernel,
                padding: padding(kernel.0 / 2, kernel.1 / 2),
                ..AvgPool::square(1, 1, 0)
            };
            x = scope.op(&format!("{name}{round}"), mean, &[x])?;
        }
    }
    Ok(x)
}
