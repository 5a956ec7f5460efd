//! Sections about the run: key figures, curves, and facts about the start.

use super::super::{EvaluationRecord, Record, StartRecord, StepRecord};
use super::curve::{Curve, Points, smoothed};
use super::{escape, percent};

/// Number of records over which speeds are averaged.
const RECENT: usize = 50;

fn steps(records: &[Record]) -> Vec<&StepRecord> {
    records.iter().filter_map(|r| if let Record::Step(r) = r { Some(r) } else { None }).collect()
}

fn evaluations(records: &[Record]) -> Vec<&EvaluationRecord> {
    records
        .iter()
        .filter_map(|r| if let Record::Evaluation(r) = r { Some(r) } else { None })
        .collect()
}

fn starts(records: &[Record]) -> Vec<&StartRecord> {
    records.iter().filter_map(|r| if let Record::Start(r) = r { Some(r) } else { None }).collect()
}

/// The evaluation with the highest mIoU; the first of equal ones.
pub(super) fn best(records: &[Record]) -> Option<&EvaluationRecord> {
    let score = |e: &EvaluationRecord| e.mean_iou.unwrap_or(-1.0);
    evaluations(records).into_iter().reduce(|a, b| if score(b) > score(a) { b } else { a })
}

pub(super) fn title(records: &[Record]) -> String {
    match starts(records).last().map(|s| s.network.as_str()) {
        Some(network) if !network.is_empty() => escape(network),
        _ => "Training run".to_owned(),
    }
}

pub(super) fn state(records: &[Record]) -> String {
    match records.last() {
        None => "No records yet.".to_owned(),
        Some(Record::End(end)) => {
            format!("Ended after step {}: {}.", grouped(end.step), escape(&end.reason))
        }
        Some(last) => format!("At step {} when this page was generated.", grouped(last.step())),
    }
}

pub(super) fn tiles(records: &[Record]) -> String {
    let mut tiles: Vec<(String, String)> = Vec::new();
    if let Some(best) = best(records) {
        tiles.push((percent(best.mean_iou), format!("best mIoU, at step {}", grouped(best.step))));
        tiles.push((percent(best.pixel_accuracy), "pixel accuracy at that step".to_owned()));
    }
    let steps = steps(records);
    if let Some(last) = steps.last() {
        let losses: Points = steps.iter().map(|s| (s.step as f64, s.loss)).collect();
        let recent = &steps[steps.len().saturating_sub(RECENT)..];
        let mean = |f: fn(&StepRecord) -> f64| {
            recent.iter().map(|s| f(s)).sum::<f64>() / recent.len() as f64
        };
        if let Some(&(_, loss)) = smoothed(&losses, window(losses.len())).last() {
            tiles.push((format!("{loss:.4}"), "loss, smoothed".to_owned()));
        }
        tiles.push((grouped(last.step), format!("steps, {:.1} epochs", last.epoch)));
        if last.seconds.is_finite() && last.seconds > 0.0 {
            tiles.push((duration(last.seconds), "training time".to_owned()));
        }
        let (speed, idle) = (mean(|s| s.images_per_second), mean(|s| s.idle));
        if speed.is_finite() && speed > 0.0 {
            tiles.push((format!("{speed:.1}"), "images per second".to_owned()));
            tiles.push((
                percent(Some(idle).filter(|i| i.is_finite())),
                "of the time waiting for data".to_owned(),
            ));
        }
    }
    tiles
        .iter()
        .map(|(figure, caption)| {
            format!(
                "<div class=\"tile\"><b>{figure}</b><span class=\"pale\">{caption}</span></div>"
            )
        })
        .collect()
}

/// Window of the moving averages, in records.
fn window(records: usize) -> f64 {
    (records as f64 / 40.0).clamp(1.0, 500.0)
}

pub(super) fn curves(records: &[Record]) -> String {
    let (steps, evaluations) = (steps(records), evaluations(records));
    let breaks: Vec<f64> = starts(records).iter().map(|s| s.step as f64).collect();
    let series =
        |f: fn(&StepRecord) -> f64| steps.iter().map(|s| (s.step as f64, f(s))).collect::<Points>();
    let with_breaks = |curve: Curve| Curve { breaks: breaks.clone(), ..curve };
    let averaged = |raw: Points| {
        let line = smoothed(&raw, window(raw.len()));
        with_breaks(Curve { raw, line, ..Curve::default() })
    };
    let scores: Points =
        evaluations.iter().filter_map(|e| Some((e.step as f64, e.mean_iou?))).collect();
    let losses: Points =
        evaluations.iter().filter_map(|e| Some((e.step as f64, e.loss?))).collect();
    let best = best(records).and_then(|e| {
        Some(((e.step as f64, e.mean_iou?), format!("best: {}", percent(e.mean_iou))))
    });
    let norms: Points =
        steps.iter().filter_map(|s| Some((s.step as f64, s.gradient_norm?))).collect();
    let average = match window(steps.len()).ceil() {
        1.0 => "Raw values.".to_owned(),
        window => format!("Light: raw. Bold: moving average over {window:.0} records."),
    };
    let scores = Curve { line: scores, dots: true, best, percent: true, ..Curve::default() };
    let losses = Curve { line: losses, dots: true, ..Curve::default() };
    let learning_rates = Curve { line: series(|s| s.learning_rate), ..Curve::default() };
    let cards = [
        ("Loss", average.as_str(), averaged(series(|s| s.loss))),
        ("mIoU", "On the validation images.", with_breaks(scores)),
        ("Validation loss", "On the validation images.", with_breaks(losses)),
        ("Learning rate", "As scheduled.", with_breaks(learning_rates)),
        ("Gradient norm", "Before clipping.", averaged(norms)),
    ];
    let cards: String = cards
        .iter()
        .map(|(title, caption, curve)| (title, caption, curve.svg(&format!("{title} by step"))))
        .filter(|(_, _, svg)| !svg.is_empty())
        .map(|(title, caption, svg)| {
            format!("<figure class=\"card\" style=\"margin:0\"><h3>{title}</h3><figcaption>{caption}</figcaption>{svg}</figure>")
        })
        .collect();
    if cards.is_empty() {
        return String::new();
    }
    let resumed =
        if breaks.iter().any(|&b| b > 0.0) { " Dotted lines: the run was resumed." } else { "" };
    format!(
        "<h2>Curves</h2><p class=\"pale\">By step.{resumed}</p><div class=\"curves\">{cards}</div>"
    )
}

pub(super) fn facts(records: &[Record]) -> String {
    let Some(start) = starts(records).pop() else { return String::new() };
    let rows =
        [("command", &start.command), ("device", &start.device), ("network", &start.network)];
    let mut list: String = rows
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| match *name {
            "command" => format!("<dt>{name}</dt><dd><code>{}</code></dd>", escape(text)),
            _ => format!("<dt>{name}</dt><dd>{}</dd>", escape(text)),
        })
        .collect();
    for record in records {
        if let Record::Note(note) = record {
            list += &format!(
                "<dt>note</dt><dd>after step {}: {}</dd>",
                grouped(note.step),
                escape(&note.text)
            );
        }
    }
    if !start.classes.is_empty() {
        list += &format!(
            "<dt>classes</dt><dd>{}: {}</dd>",
            start.classes.len(),
            escape(&start.classes.join(", "))
        );
    }
    let settings = match serde_json::to_string_pretty(&start.config) {
        Ok(text) if !start.config.is_null() => {
            format!(
                "<details style=\"margin-top:.8rem\"><summary>All settings</summary><pre>{}</pre></details>",
                escape(&text)
            )
        }
        _ => String::new(),
    };
    format!("<h2>Run</h2><div class=\"card\"><dl>{list}</dl>{settings}</div>")
}

/// Formats 1234567 as "1,234,567".
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|p| std::str::from_utf8(p).ok()).collect();
    groups.join(",")
}

fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0 => format!("{seconds:.0} s"),
        m if m < 60 => format!("{m} min"),
        m => format!("{} h {:02} min", m / 60, m % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [12.3, 59.0 * 60.0, 3.0 * 3600.0 + 61.0].map(duration),
            ["12 s", "59 min", "3 h 01 min"]
        );
    }
}
