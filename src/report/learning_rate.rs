//! Plot of a learning-rate range test, as SVG.

use std::fmt::Write;

const W: f64 = 640.0;
const H: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = W - 20.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = H - 52.0;
/// Number of horizontal lines, including the axis.
const LINES: usize = 5;

/// Draws losses over learning rates, on a logarithmic axis. `points` are learning rate, loss and
/// smoothed loss; those that are not finite are left out. `suggestion` is marked by a line.
pub fn learning_rate_plot(points: &[[f64; 3]], suggestion: Option<f64>) -> String {
    let finite: Vec<[f64; 3]> = points
        .iter()
        .copied()
        .filter(|p| p[0] > 0.0 && p.iter().all(|value| value.is_finite()))
        .map(|[rate, loss, smoothed]| [rate.log10(), loss, smoothed])
        .collect();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {W} {H}\" width=\"{W}\" height=\"{H}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#333\">\
         <rect width=\"{W}\" height=\"{H}\" fill=\"#fff\"/>\
         <text x=\"{LEFT}\" y=\"26\" font-size=\"16\">Loss by learning rate</text>"
    );
    if let (Some(first), Some(last)) = (finite.first(), finite.last()) {
        let (from, to) = (first[0].floor(), last[0].ceil().max(first[0].floor() + 1.0));
        // The losses of a divergence would press the rest to the axis.
        let top = finite.iter().map(|p| p[2]).fold(0.0, f64::max).min(2.0 * finite[0][2]).max(1e-9);
        let x = |rate: f64| LEFT + (rate - from) / (to - from) * (RIGHT - LEFT);
        let y = |loss: f64| BOTTOM - (loss / top).clamp(0.0, 1.05) * (BOTTOM - TOP);
        draw_axes(&mut out, [from, to], top, &x, &y);
        let line = |index: usize| {
            let point = |p: &[f64; 3]| format!("{:.1},{:.1}", x(p[0]), y(p[index]));
            finite.iter().map(point).collect::<Vec<_>>().join(" ")
        };
        for (index, color, width) in [(1, "#9db8d9", 1.2), (2, "#1f5fa8", 2.4)] {
            let _ = write!(
                out,
                "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" points=\"{}\"/>",
                line(index)
            );
        }
        if let Some(rate) = suggestion.filter(|rate| *rate > 0.0 && rate.is_finite()) {
            let at = x(rate.log10()).clamp(LEFT, RIGHT);
            let _ = write!(
                out,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\" stroke=\"#c0392b\" stroke-dasharray=\"5 4\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#c0392b\">suggested: {rate:.1e}</text>",
                at + 6.0,
                TOP + 14.0
            );
        }
    }
    out + "</svg>\n"
}

fn draw_axes(
    out: &mut String,
    [from, to]: [f64; 2],
    top: f64,
    x: &dyn Fn(f64) -> f64,
    y: &dyn Fn(f64) -> f64,
) {
    for i in 0..LINES {
        let loss = top * i as f64 / (LINES - 1) as f64;
        let (at, color) = (y(loss), if i == 0 { "#333" } else { "#ddd" });
        let _ = write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{color}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{loss:.2}</text>",
            LEFT - 8.0,
            at + 4.5
        );
    }
    for decade in (from as i32)..=(to as i32) {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">1e{decade}</text>",
            x(f64::from(decade)),
            BOTTOM + 20.0
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">learning rate (light: raw loss, bold: smoothed)</text>",
        (LEFT + RIGHT) / 2.0,
        H - 10.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_finite_are_left_out_and_the_suggestion_is_marked() {
        let points = [[1e-6, 2.0, 2.0], [1e-3, 1.0, 1.4], [0.1, f64::NAN, 1.3], [1.0, 90.0, 60.0]];
        let svg = learning_rate_plot(&points, Some(1e-4));
        assert!(svg.contains("suggested: 1.0e-4") && svg.contains("1e-6") && svg.contains("1e0"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let lines: Vec<&str> = svg.split("points=\"").skip(1).collect();
        assert!(lines.iter().all(|line| line.split('"').next().unwrap().split(' ').count() == 3));
        assert!(learning_rate_plot(&[], None).ends_with("</svg>\n"));
    }
}
