//! The loss on the CPU. Rows are computed in parallel, and added in an order that depends only on
//! their number.

use super::dice::DiceSlopes;
use super::exponential::exponentials;
use super::{Denominator, PixelLoss, SegmentationLoss, cross_entropy, focal, smoothing};
use crate::ops::bilinear::{self, Tap};
use crate::ops::channel_sum::{add, sum_positions};
use crate::tensor::{Shape, Tensor};
use rayon::prelude::*;

/// Per-pixel results of the first pass that the second pass needs.
#[derive(Debug, Clone, Copy)]
struct Pixel {
    loss: f32,
    /// Contribution to the denominator.
    counted: f32,
    /// Log-sum-exp of the scores.
    log_sum: f32,
    /// The derivative of the loss is this times `p - 1` for the label's score and this times `p`
    /// for any other score. Negative if the pixel is left out.
    factor: f32,
}

impl Pixel {
    const LEFT_OUT: Self = Self { loss: 0.0, counted: 0.0, log_sum: 0.0, factor: -1.0 };
}

/// Class weights and their sum.
struct Weights<'a> {
    each: Option<&'a [f32]>,
    total: f32,
}

impl Weights<'_> {
    fn of(&self, class: usize) -> f32 {
        self.each.map_or(1.0, |w| w[class])
    }
}

impl PixelLoss {
    /// Computes the loss of a pixel with scores `x`. `terms` is scratch memory of the same length.
    fn pixel(&self, x: &[f32], target: usize, weights: &Weights, terms: &mut [f32]) -> Pixel {
        let top = x.iter().copied().fold(f32::MIN, f32::max);
        exponentials(terms, x, top);
        let others = terms[..target].iter().sum::<f32>() + terms[target + 1..].iter().sum::<f32>();
        let own = x[target] - top;
        let sum = others + terms[target];
        let log_sum = sum.ln();
        // `1 - p` and `-ln p` of the label.
        let missing = others / sum;
        let surprise = cross_entropy::value(missing, log_sum - own);
        let hard = (1.0 - self.smoothing) * weights.of(target);
        let (focus, slope) = if self.gamma > 0.0 {
            focal::value_and_slope(missing, surprise, self.gamma)
        } else {
            (1.0, 1.0)
        };
        let mut loss = hard * focus * surprise;
        if self.smoothing > 0.0 {
            let surprises =
                x.iter().enumerate().map(|(c, x)| weights.of(c) * (log_sum - (x - top)));
            loss += smoothing::value(smoothing::factor(self.smoothing, x.len()), surprises.sum());
        }
        let counted = match self.denominator {
            Denominator::Weights => weights.of(target),
            Denominator::Pixels => 1.0,
        };
        Pixel { loss, counted, log_sum: top + log_sum, factor: hard * slope }
    }
}

/// Returns a key that orders losses: positive floats compare like their bits. NaN is larger than
/// all numbers, so that it is kept and becomes visible.
fn key(loss: f32) -> u32 {
    if loss > 0.0 || loss.is_nan() { loss.to_bits() & 0x7fff_ffff } else { 0 }
}

/// Leaves out the pixels whose loss is 0 or smaller than the `kept`-th largest.
fn mine(pixels: &mut [Pixel], kept: usize) {
    let mut keys: Vec<u32> = pixels.iter().map(|p| key(p.loss)).collect();
    let index = keys.len() - kept;
    let threshold = (*keys.select_nth_unstable(index).1).max(1);
    for pixel in pixels.iter_mut().filter(|p| key(p.loss) < threshold) {
        *pixel = Pixel { log_sum: pixel.log_sum, ..Pixel::LEFT_OUT };
    }
}

/// The scores, and the positions of the labels' pixels between them.
struct Source<'a> {
    x: &'a [f32],
    from: Shape,
    to: Shape,
    labels: &'a [u32],
    rows: Vec<Tap>,
    columns: Vec<Tap>,
}

impl Source<'_> {
    /// Calls `each` with the column, the label and the scores of every pixel of a row that is not
    /// ignored. Rows are numbered through the batch.
    fn for_row(
        &self,
        loss: &PixelLoss,
        line: usize,
        scratch: &mut Scratch,
        mut each: impl FnMut(usize, usize, &[f32]),
    ) {
        let (from, c) = (self.from, self.from.c);
        let row = from.w * c;
        let image = &self.x[line / self.to.h * from.h * row..][..from.h * row];
        let between = bilinear::row_at(image, row, self.rows[line % self.to.h], &mut scratch.row);
        scratch.scores.resize(c, 0.0);
        for (ox, (tap, &label)) in
            self.columns.iter().zip(&self.labels[line * self.to.w..]).enumerate()
        {
            if loss.counts(label, c) {
                bilinear::blend(
                    &between[tap.lo * c..][..c],
                    &between[tap.hi * c..][..c],
                    tap.weight,
                    &mut scratch.scores,
                );
                each(ox, label as usize, &scratch.scores);
            }
        }
    }
}

#[derive(Default)]
struct Scratch {
    row: Vec<f32>,
    scores: Vec<f32>,
}

/// Computes the sums over the pixels for [`DiceSlopes::new`].
fn dice_sums(source: &Source, loss: &PixelLoss, pixels: &[Pixel]) -> Vec<f32> {
    let c = source.from.c;
    let lines: Vec<Vec<f32>> = (0..source.to.n * source.to.h)
        .into_par_iter()
        .map_init(Scratch::default, |scratch, line| {
            let mut sums = vec![0.0; 3 * c];
            source.for_row(loss, line, scratch, |ox, target, scores| {
                let log_sum = pixels[line * source.to.w + ox].log_sum;
                for (class, x) in scores.iter().enumerate() {
                    let p = (x - log_sum).exp();
                    sums[c + class] += p;
                    if class == target {
                        sums[class] += p;
                        sums[2 * c + class] += 1.0;
                    }
                }
            });
            sums
        })
        .collect();
    sum_positions(lines.len(), 3 * c, |line, sum| add(sum, &lines[line]))
}

/// Returns the bytes that [`run`] allocates in addition to inputs and outputs: the per-pixel
/// results, the keys for mining, the Dice sums, and the gradients of groups of rows.
pub(super) fn scratch(loss: &PixelLoss, from: Shape, to: Shape) -> u64 {
    let each = size_of::<Pixel>() + if loss.mined { size_of::<u32>() } else { 0 };
    let pixels = to.positions().saturating_mul(each);
    let dice = if loss.dice.is_some() {
        (to.n * to.h).saturating_mul(3 * 4 * from.c + size_of::<Vec<f32>>())
    } else {
        0
    };
    pixels.saturating_add(dice).saturating_add(from.len().saturating_mul(2 * 4)) as u64
}

/// Computes loss and gradient.
pub(super) fn run(op: &SegmentationLoss, inputs: &[&Tensor], outputs: &mut [Tensor]) {
    let (from, to) = (inputs[0].shape(), inputs[1].shape());
    let (loss, c) = (&op.pixel, from.c);
    let grid = op.grid(from, to);
    // Past the last value there is nothing to interpolate. Scores are then exactly those of the
    // last value, so that equal pixels stay equal.
    let exact = |tap: Tap| Tap { weight: if tap.lo == tap.hi { 0.0 } else { tap.weight }, ..tap };
    let rows = grid.y.taps(to.h).into_iter().map(exact).collect();
    let columns = grid.x.taps(to.w).into_iter().map(exact).collect();
    let source = Source { x: inputs[0].f32(), from, to, labels: inputs[1].u32(), rows, columns };
    let each = loss.weighted.then(|| inputs[2].f32());
    let weights = Weights { each, total: each.map_or(c as f32, |w| w.iter().sum()) };

    let mut pixels = vec![Pixel::LEFT_OUT; to.positions()];
    let scratch = || (Scratch::default(), vec![0.0; c]);
    pixels.par_chunks_exact_mut(to.w).enumerate().for_each_init(
        scratch,
        |(scratch, terms), (line, pixels)| {
            source.for_row(loss, line, scratch, |ox, target, scores| {
                pixels[ox] = loss.pixel(scores, target, &weights, terms)
            });
        },
    );
    if loss.mined {
        let kept = PixelLoss::kept(inputs[op.fraction_input()].f32()[0], pixels.len());
        mine(&mut pixels, kept);
    }
    let sums = sum_positions(pixels.len(), 2, |p, sum| {
        sum[0] += pixels[p].loss;
        sum[1] += pixels[p].counted;
    });
    let scale = if sums[1] > 0.0 { op.factor / sums[1] } else { 0.0 };
    let mut total = sums[0] * scale;
    let dice = loss.dice.map(|dice| {
        let slopes = DiceSlopes::new(&dice_sums(&source, loss, &pixels), c, dice);
        total += op.factor * dice.weight * slopes.loss;
        (op.factor * dice.weight, slopes)
    });
    outputs[0].f32_mut()[0] = total;
    let by_score = |pixel: Pixel, target: usize, scores: &[f32], gradient: &mut [f32]| {
        pixel_gradient(loss, pixel, target, scores, &weights, scale, dice.as_ref(), gradient);
    };
    gather(&source, loss, &pixels, by_score, outputs[1].f32_mut());
}

/// Computes the gradient with respect to the scores of a pixel.
fn pixel_gradient(
    loss: &PixelLoss,
    pixel: Pixel,
    target: usize,
    scores: &[f32],
    weights: &Weights,
    scale: f32,
    dice: Option<&(f32, DiceSlopes)>,
    gradient: &mut [f32],
) {
    let soft = smoothing::factor(loss.smoothing, scores.len());
    let own = |c: usize| if c == target { 1.0 } else { 0.0 };
    exponentials(gradient, scores, pixel.log_sum);
    // Softmax: dL/dx[c] = p[c] * (dL/dp[c] - sum over k of p[k] * dL/dp[k]).
    let slope = |slopes: &DiceSlopes, c: usize| slopes.all[c] + own(c) * slopes.own[c];
    let dice = dice.map(|(factor, slopes)| {
        let mean: f32 = gradient.iter().enumerate().map(|(c, p)| p * slope(slopes, c)).sum();
        (factor, slopes, mean)
    });
    // NaN counts.
    let left_out = pixel.factor < 0.0;
    for (c, g) in gradient.iter_mut().enumerate() {
        let p = *g;
        *g = if left_out {
            0.0
        } else {
            let soft = smoothing::slope(soft, p, weights.of(c), weights.total);
            scale * (pixel.factor * (p - own(c)) + soft)
        };
        if let Some((factor, slopes, mean)) = dice {
            *g += factor * p * (slope(slopes, c) - mean);
        }
    }
}

/// Computes the gradient with respect to the input scores from the gradient with respect to the
/// interpolated scores.
///
/// Rows of pixels between the same two rows of scores form a group. Each group computes two rows:
/// its contributions to the upper and to the lower row of scores. Then each row of scores adds the
/// contributions of the groups below and above it. So groups run in parallel, the gradient of each
/// pixel is computed once, and the order of additions is fixed.
fn gather(
    source: &Source,
    loss: &PixelLoss,
    pixels: &[Pixel],
    by_score: impl Fn(Pixel, usize, &[f32], &mut [f32]) + Sync,
    dx: &mut [f32],
) {
    let (from, to, c) = (source.from, source.to, source.from.c);
    let row = from.w * c;
    let mut groups = vec![0.0; from.n * from.h * 2 * row];
    groups.par_chunks_exact_mut(2 * row).enumerate().for_each_init(
        || (Scratch::default(), vec![0.0; row], vec![0.0; c]),
        |(scratch, across, gradient), (group, rows)| {
            let (image, upper) = (group / from.h, group % from.h);
            let (above, below) = rows.split_at_mut(row);
            for (oy, tap) in source.rows.iter().enumerate().filter(|(_, tap)| tap.lo == upper) {
                let line = image * to.h + oy;
                across.fill(0.0);
                source.for_row(loss, line, scratch, |ox, target, scores| {
                    by_score(pixels[line * to.w + ox], target, scores, gradient);
                    let column = source.columns[ox];
                    accumulate(&mut across[column.lo * c..][..c], gradient, 1.0 - column.weight);
                    accumulate(&mut across[column.hi * c..][..c], gradient, column.weight);
                });
                accumulate(above, across, 1.0 - tap.weight);
                accumulate(below, across, tap.weight);
            }
        },
    );
    dx.par_chunks_exact_mut(row).enumerate().for_each(|(line, dx)| {
        let above = &groups[2 * line * row..][..row];
        dx.copy_from_slice(above);
        if line % from.h > 0 {
            add(dx, &groups[(2 * line - 1) * row..][..row]);
        }
    });
}

fn accumulate(sum: &mut [f32], x: &[f32], factor: f32) {
    if factor != 0.0 {
        sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += factor * x);
    }
}
