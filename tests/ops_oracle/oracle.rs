//! Naive reference implementations of the operations in double precision: one formula per output
//! element.

use atrous::engine::geometry::{Size, Spacing};
use atrous::engine::ops::{
    Activation, AvgPool, Conv2d, MaxPool, Padding, PixelAlignment, ResampleWindow,
};
use atrous::engine::{Shape, Tensor};

/// A tensor of f64.
#[derive(Clone)]
pub struct Map {
    pub shape: Shape,
    pub data: Vec<f64>,
}

impl Map {
    pub fn of(tensor: &Tensor) -> Self {
        Self { shape: tensor.shape(), data: tensor.f32().iter().map(|&v| f64::from(v)).collect() }
    }

    pub fn build(shape: Shape, f: impl Fn(usize, usize, usize, usize) -> f64) -> Self {
        let mut data = Vec::with_capacity(shape.len());
        for i in 0..shape.len() {
            let (c, p) = (i % shape.c, i / shape.c);
            data.push(f(p / shape.w / shape.h, p / shape.w % shape.h, p % shape.w, c));
        }
        Self { shape, data }
    }

    pub fn at(&self, n: usize, y: usize, x: usize, c: usize) -> f64 {
        self.data[self.shape.index(n, y, x, c)]
    }

    /// The value at a position that may be outside the map.
    fn inside(&self, n: usize, y: isize, x: isize, c: usize) -> Option<f64> {
        let (y, x) = (usize::try_from(y).ok()?, usize::try_from(x).ok()?);
        (y < self.shape.h && x < self.shape.w).then(|| self.at(n, y, x, c))
    }

    /// The channels of one pixel.
    pub fn pixel(&self, n: usize, y: usize, x: usize) -> &[f64] {
        &self.data[self.shape.index(n, y, x, 0)..][..self.shape.c]
    }
}

pub fn activation(a: Activation, x: f64) -> f64 {
    match a {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    }
}

/// The size of `(rows, columns)`, the order of kernels and maps.
pub fn size((height, width): (usize, usize)) -> Size {
    Size { width, height }
}

/// The spacing of `(rows, columns)`.
pub fn spacing((y, x): (usize, usize)) -> Spacing {
    Spacing { x, y }
}

/// `dilation * tap + stride * i - before`.
fn position(i: usize, stride: usize, tap: usize, dilation: usize, before: usize) -> isize {
    (i * stride + tap * dilation) as isize - before as isize
}

pub fn conv2d(conv: &Conv2d, x: &Map, w: &Map, bias: Option<&Map>, residual: Option<&Map>) -> Map {
    let out = |size, before, after, k, s, d| (size + before + after - d * (k - 1) - 1) / s + 1;
    let (p, Spacing { y: sy, x: sx }, Spacing { y: dy, x: dx }) =
        (conv.padding, conv.stride, conv.dilation);
    let h = out(x.shape.h, p.top, p.bottom, w.shape.n, sy, dy);
    let width = out(x.shape.w, p.left, p.right, w.shape.h, sx, dx);
    Map::build(Shape::new(x.shape.n, h, width, w.shape.c), |n, oy, ox, co| {
        let first = co / (w.shape.c / conv.groups) * w.shape.w;
        let mut sum = bias.map_or(0.0, |b| b.at(if b.shape.n > 1 { n } else { 0 }, 0, 0, co));
        for ky in 0..w.shape.n {
            for kx in 0..w.shape.h {
                let (iy, ix) = (position(oy, sy, ky, dy, p.top), position(ox, sx, kx, dx, p.left));
                for ci in 0..w.shape.w {
                    sum += x.inside(n, iy, ix, first + ci).unwrap_or(0.0) * w.at(ky, kx, ci, co);
                }
            }
        }
        activation(conv.activation, sum + residual.map_or(0.0, |r| r.at(n, oy, ox, co)))
    })
}

/// Starts of the windows along one axis, relative to the corner of the padding. With `ceil` the
/// last one may extend past the end, but all must begin inside the image or the padding before it.
fn starts(
    size: usize,
    before: usize,
    after: usize,
    span: usize,
    stride: usize,
    ceil: bool,
) -> Vec<usize> {
    let padded = size + before + after;
    let mut starts: Vec<usize> =
        (0..).map(|i| i * stride).take_while(|s| s + span <= padded).collect();
    if ceil {
        if starts.last().is_some_and(|s| s + span < padded) {
            starts.push(starts.len() * stride);
        }
        starts.retain(|&s| s < size + before);
    }
    starts
}

/// For each output element all taps of its window: the value in the image, 0 in the padding, none
/// past the padding.
fn windows(
    x: &Map,
    kernel: Size,
    stride: Spacing,
    dilation: Spacing,
    p: Padding,
    ceil: bool,
    f: impl Fn(&[Tap]) -> f64,
) -> Map {
    let span = |k: usize, d: usize| d * (k - 1) + 1;
    let rows = starts(x.shape.h, p.top, p.bottom, span(kernel.height, dilation.y), stride.y, ceil);
    let columns =
        starts(x.shape.w, p.left, p.right, span(kernel.width, dilation.x), stride.x, ceil);
    let (height, width) = (x.shape.h + p.top + p.bottom, x.shape.w + p.left + p.right);
    Map::build(x.shape.with_hw(rows.len(), columns.len()), |n, oy, ox, c| {
        let mut taps = Vec::new();
        for ky in 0..kernel.height {
            for kx in 0..kernel.width {
                let (iy, ix) = (rows[oy] + ky * dilation.y, columns[ox] + kx * dilation.x);
                taps.push(
                    match x.inside(
                        n,
                        iy as isize - p.top as isize,
                        ix as isize - p.left as isize,
                        c,
                    ) {
                        Some(v) => Tap::Image(v),
                        None if iy < height && ix < width => Tap::Padding,
                        None => Tap::Beyond,
                    },
                );
            }
        }
        f(&taps)
    })
}

/// Value that a tap of a pooling window reads.
#[derive(PartialEq)]
enum Tap {
    Image(f64),
    Padding,
    Beyond,
}

impl Tap {
    fn image(&self) -> Option<f64> {
        if let Tap::Image(v) = self { Some(*v) } else { None }
    }
}

pub fn max_pool(p: &MaxPool, x: &Map) -> Map {
    windows(x, p.kernel, p.stride, p.dilation, p.padding, p.ceil_mode, |taps| {
        taps.iter().filter_map(Tap::image).fold(f64::NEG_INFINITY, f64::max)
    })
}

pub fn avg_pool(p: &AvgPool, x: &Map) -> Map {
    windows(x, p.kernel, p.stride, Spacing::ONE, p.padding, p.ceil_mode, |taps| {
        let sum: f64 = taps.iter().filter_map(Tap::image).sum();
        let counts = |t: &&Tap| t.image().is_some() || (p.count_include_pad && **t == Tap::Padding);
        sum / taps.iter().filter(counts).count() as f64
    })
}

pub fn global_avg_pool(x: &Map) -> Map {
    let (h, w) = (x.shape.h, x.shape.w);
    Map::build(x.shape.with_hw(1, 1), |n, _, _, c| {
        let sum: f64 = (0..h * w).map(|i| x.at(n, i / w, i % w, c)).sum();
        sum / (h * w) as f64
    })
}

/// PyTorch's `interpolate(mode="bilinear")`, or from the top left; with a window, of that region of the image.
pub fn resize(
    x: &Map,
    (h, w): (usize, usize),
    alignment: impl Into<PixelAlignment>,
    window: Option<ResampleWindow>,
) -> Map {
    let alignment = alignment.into();
    let source = |d: usize, from: usize, to: usize, part: Option<(usize, usize)>| {
        let (from, to, d) = (from as f64, to as f64, d as f64);
        // The output's pixel among those of the image that the source covers.
        let (size, pixel) = match part {
            None => (to, d),
            Some((padded, scaled)) => (padded as f64, (d + 0.5) * scaled as f64 / to - 0.5),
        };
        let place = match alignment {
            PixelAlignment::HalfPixel => (pixel + 0.5) * from / size - 0.5,
            PixelAlignment::Corners if size > 1.0 => pixel * (from - 1.0) / (size - 1.0),
            PixelAlignment::Corners => 0.0,
            PixelAlignment::TopLeft => pixel * from / size,
        };
        place.clamp(0.0, from - 1.0)
    };
    let (rows, columns) = (
        window.map(|v| (v.padded.height, v.scaled.height)),
        window.map(|v| (v.padded.width, v.scaled.width)),
    );
    Map::build(x.shape.with_hw(h, w), |n, oy, ox, c| {
        let (sy, sx) = (source(oy, x.shape.h, h, rows), source(ox, x.shape.w, w, columns));
        let (y0, x0) = ((sy as usize).min(x.shape.h - 1), (sx as usize).min(x.shape.w - 1));
        let (y1, x1) = ((y0 + 1).min(x.shape.h - 1), (x0 + 1).min(x.shape.w - 1));
        let (fy, fx) = (sy - y0 as f64, sx - x0 as f64);
        (1.0 - fy) * ((1.0 - fx) * x.at(n, y0, x0, c) + fx * x.at(n, y0, x1, c))
            + fy * ((1.0 - fx) * x.at(n, y1, x0, c) + fx * x.at(n, y1, x1, c))
    })
}

pub fn softmax(x: &Map) -> Map {
    Map::build(x.shape, |n, y, column, c| {
        let pixel = x.pixel(n, y, column);
        let max = pixel.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (pixel[c] - max).exp() / pixel.iter().map(|v| (v - max).exp()).sum::<f64>()
    })
}

/// The first channel of the largest value.
pub fn argmax(x: &Map) -> Map {
    Map::build(x.shape.with_c(1), |n, y, column, _| {
        let pixel = x.pixel(n, y, column);
        (0..pixel.len())
            .rev()
            .max_by(|&a, &b| pixel[a].total_cmp(&pixel[b]))
            .expect("a pixel has channels") as f64
    })
}
