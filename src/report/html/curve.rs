//! Curves over the steps of a run, as SVG.

use std::fmt::Write;

/// Width and height in SVG units; the page scales the drawing. Small enough that text is legible on
/// a phone.
const W: f64 = 460.0;
const H: f64 = 250.0;
/// Edges of the plot area.
const LEFT: f64 = 66.0;
const RIGHT: f64 = W - 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = H - 30.0;
/// Maximum number of points of a line: about as many as a screen has pixels for it.
const MAX_POINTS: usize = 800;

/// Points (step, value), in the order of their steps.
pub(super) type Points = Vec<(f64, f64)>;

/// A plot of one quantity. Non-finite values leave a gap.
#[derive(Debug, Default)]
pub(super) struct Curve {
    /// Raw values, drawn light, in the background.
    pub raw: Points,
    /// Values drawn bold.
    pub line: Points,
    /// Whether to draw a dot at each point of the line.
    pub dots: bool,
    /// A highlighted point with its label.
    pub best: Option<((f64, f64), String)>,
    /// Steps at which the run was resumed.
    pub breaks: Vec<f64>,
    /// Whether values are fractions, to be formatted as percentages.
    pub percent: bool,
}

impl Curve {
    /// Draws the curve, with `label` for screen readers. Returns an empty string without points.
    pub fn svg(&self, label: &str) -> String {
        let finite = |points: &Points| {
            points.iter().copied().filter(|p| p.1.is_finite()).collect::<Points>()
        };
        let (raw, line) = (finite(&self.raw), finite(&self.line));
        let Some(last) = raw.iter().chain(&line).map(|p| p.0).reduce(f64::max) else {
            return String::new();
        };
        let x = Axis::new(0.0, last.max(1.0), LEFT, RIGHT, 5.0);
        let top = ceiling(&raw, &line);
        let y = Axis::new(0.0, if self.percent { top.min(1.0) } else { top }, BOTTOM, TOP, 5.0);
        let mut out = format!("<svg viewBox=\"0 0 {W} {H}\" role=\"img\" aria-label=\"{label}\">");
        self.draw_axes(&mut out, &x, &y);
        for (class, points) in [("raw", &self.raw), ("curve", &self.line)] {
            let path = path(&thinned(points), &x, &y);
            if !path.is_empty() {
                let _ = write!(out, "<path class=\"{class}\" d=\"{path}\"/>");
            }
        }
        if self.dots {
            self.draw_dots(&mut out, &line, &x, &y);
        }
        self.draw_best(&mut out, &x, &y);
        out + "</svg>"
    }

    /// Draws the grid, the numbers of both axes, and the steps at which the run was resumed.
    fn draw_axes(&self, out: &mut String, x: &Axis, y: &Axis) {
        for tick in y.ticks() {
            let at = y.at(tick);
            let text = if self.percent {
                format!("{} %", decimals(100.0 * tick, 100.0 * y.step))
            } else {
                decimals(tick, y.step)
            };
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 7.0,
                at + 4.5
            );
        }
        for tick in x.ticks() {
            let at = x.at(tick);
            let _ = write!(
                out,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                H - 6.0,
                steps(tick, x.step)
            );
        }
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>"
        );
        for at in self.breaks.iter().filter(|&&s| s > 0.0 && s <= x.to).map(|&s| x.at(s)) {
            let _ = write!(
                out,
                "<line class=\"break\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"><title>resumed</title></line>"
            );
        }
    }

    fn draw_dots(&self, out: &mut String, line: &Points, x: &Axis, y: &Axis) {
        for &(step, value) in line {
            let value_text =
                if self.percent { format!("{:.2} %", 100.0 * value) } else { format!("{value}") };
            let _ = write!(
                out,
                "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\"><title>step {step}: {value_text}</title></circle>",
                x.at(step),
                y.at(value)
            );
        }
    }

    fn draw_best(&self, out: &mut String, x: &Axis, y: &Axis) {
        if let Some(((step, value), text)) = self.best.as_ref().filter(|((_, v), _)| v.is_finite())
        {
            let (cx, cy) = (x.at(*step), y.at(*value));
            // Place the label towards the middle, and below the point near the top.
            let (anchor, dx) =
                if cx > (LEFT + RIGHT) / 2.0 { ("end", -4.0) } else { ("start", 4.0) };
            let dy = if cy < TOP + 22.0 { 22.0 } else { -10.0 };
            let _ = write!(
                out,
                "<circle class=\"best\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"5\"/>\
                 <text class=\"best-text\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{text}</text>",
                cx + dx,
                cy + dy
            );
        }
    }
}

/// Top of the plot. The first losses of a run are often many times the later ones, so one percent
/// of the raw values may be above it.
fn ceiling(raw: &Points, line: &Points) -> f64 {
    let mut values: Vec<f64> = raw.iter().map(|p| p.1).collect();
    values.sort_by(f64::total_cmp);
    let max_raw = values
        .get((values.len() * 99 / 100).min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0);
    let top = line.iter().map(|p| p.1).fold(max_raw, f64::max);
    if top > 0.0 { top } else { 1.0 }
}

/// Maps values to positions, with ticks at round numbers. The value axis ends at a tick, the step
/// axis at the last step.
struct Axis {
    to: f64,
    from: f64,
    step: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn new(from: f64, to: f64, start: f64, end: f64, ticks: f64) -> Self {
        let rough = (to - from) / ticks;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|f| f * power)
            .into_iter()
            .find(|s| *s >= rough * 0.999)
            .unwrap_or(10.0 * power);
        // The value axis, which is inverted, ends at a grid line.
        let to = if end < start { from + ((to - from) / step - 1e-9).ceil() * step } else { to };
        Self { to, from, step, start, end }
    }

    fn at(&self, value: f64) -> f64 {
        let fraction = (value - self.from) / (self.to - self.from);
        self.start + fraction.clamp(0.0, 1.0) * (self.end - self.start)
    }

    fn ticks(&self) -> Vec<f64> {
        let count = ((self.to - self.from) / self.step + 1e-6).floor() as usize;
        (0..=count).map(|i| self.from + i as f64 * self.step).collect()
    }
}

/// Formats a value with as many decimals as the tick distance has; very small values in scientific
/// notation.
fn decimals(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).max(0.0) as usize;
    if value == 0.0 {
        "0".to_owned()
    } else if digits > 4 {
        let text = format!("{value:.1e}");
        text.replace(".0e", "e").replace("e-", "e−")
    } else {
        format!("{value:.digits$}")
    }
}

fn steps(value: f64, step: f64) -> String {
    match step {
        _ if value == 0.0 => "0".to_owned(),
        s if s >= 1e6 => format!("{} M", value / 1e6),
        s if s >= 1e3 => format!("{} k", value / 1e3),
        s if s >= 1.0 => format!("{value:.0}"),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        // Runs of a few steps: ticks between two steps have no label.
        _ => String::new(),
    }
}

/// Reduces points to the minimum and maximum of each chunk, in order, so that no peak is lost.
fn thinned(points: &Points) -> Points {
    if points.len() <= MAX_POINTS {
        return points.clone();
    }
    let chunk = points.len().div_ceil(MAX_POINTS / 2);
    let mut out = Points::new();
    for points in points.chunks(chunk) {
        if points.iter().any(|p| !p.1.is_finite()) {
            // Keep gaps.
            out.extend(points);
            continue;
        }
        let by = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (Some(low), Some(high)) = (points.iter().min_by(by), points.iter().max_by(by)) else {
            continue;
        };
        let mut both = [*low, *high];
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        out.extend(both);
    }
    out
}

fn path(points: &Points, x: &Axis, y: &Axis) -> String {
    let mut out = String::new();
    let mut drawing = false;
    for &(step, value) in points {
        if value.is_finite() {
            let _ = write!(
                out,
                "{}{:.1} {:.1}",
                if drawing { "L" } else { "M" },
                x.at(step),
                y.at(value)
            );
        }
        drawing = value.is_finite();
    }
    out
}

/// Exponential moving average over about `window` points: each point weighs `1 - 1 / window` times
/// the one after it. Starts at the first value, not at 0.
pub(super) fn smoothed(points: &Points, window: f64) -> Points {
    let keep = 1.0 - 1.0 / window.max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let finite = points.iter().filter(|p| p.1.is_finite());
    finite
        .map(|&(step, value)| {
            sum = keep * sum + value;
            weight = keep * weight + 1.0;
            (step, sum / weight)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_that_cover_the_values() {
        let y = Axis::new(0.0, 0.73, BOTTOM, TOP, 5.0);
        let texts: Vec<String> = y.ticks().iter().map(|&t| decimals(t, y.step)).collect();
        assert_eq!(texts, ["0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!((y.at(0.0), y.at(0.8)), (BOTTOM, TOP));
        let x = Axis::new(0.0, 12_345.0, LEFT, RIGHT, 5.0);
        assert_eq!(
            x.ticks().iter().map(|&t| steps(t, x.step)).collect::<Vec<_>>(),
            ["0", "5 k", "10 k"]
        );
        assert_eq!(x.at(12_345.0), RIGHT);
        assert_eq!(decimals(2e-5, 1e-5), "2e−5");
    }

    #[test]
    fn thinning_keeps_peaks_and_order() {
        let mut points: Points = (0..50_000).map(|i| (f64::from(i), 1.0)).collect();
        points[31_415].1 = 9.0;
        points[2_718].1 = -3.0;
        let few = thinned(&points);
        assert!(
            few.len() <= MAX_POINTS && few.is_sorted_by(|a, b| a.0 <= b.0),
            "{} points",
            few.len()
        );
        assert!(few.contains(&(31_415.0, 9.0)) && few.contains(&(2_718.0, -3.0)));
    }

    #[test]
    fn a_smoothed_constant_is_the_constant_from_the_first_point_on() {
        let points: Points = (0..100).map(|i| (f64::from(i), 3.0)).collect();
        assert!(smoothed(&points, 20.0).iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
        let ramp: Points = vec![(0.0, 0.0), (1.0, 1.0)];
        // (0 * 1/2 + 1) / (1/2 + 1).
        assert!((smoothed(&ramp, 2.0)[1].1 - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn values_that_are_not_finite_leave_a_gap() {
        let curve =
            Curve { line: vec![(1.0, 1.0), (2.0, f64::NAN), (3.0, 1.0)], ..Curve::default() };
        let svg = curve.svg("loss");
        let path = svg.split("class=\"curve\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 0), "{path}");
        assert_eq!(Curve::default().svg("nothing"), "");
    }
}
