//! `report.html`: a run on one self-contained page, for desktop and mobile, in light and dark mode.

mod curve;
mod run;
pub(super) mod samples;
mod scores;

use super::Record;
use crate::error::Result;
use crate::eval::Scores;
use crate::files::atomic_write;
use crate::image::{ClassTable, Image, LabelMap};
use std::path::Path;

/// Template of the page, with `{{name}}` placeholders.
const PAGE: &str = include_str!("page.html");

/// Contents of the page.
#[derive(Debug, Clone)]
pub struct ReportData {
    /// Records of the run (see [`super::read`]). Sections without records are omitted.
    pub records: Vec<Record>,
    /// Names and colors of the classes.
    pub table: ClassTable,
    /// Scores on the validation images, for the class table and the confusion matrix.
    pub scores: Option<Scores>,
    /// Sample images with predictions.
    pub samples: Vec<Sample>,
}

/// An image with its true and predicted labels, all of the same size.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Name of the image.
    pub name: String,
    /// The image.
    pub image: Image,
    /// True labels.
    pub truth: LabelMap,
    /// Predicted labels.
    pub prediction: LabelMap,
}

/// Writes the page, atomically.
///
/// # Errors
/// Returns an error if the labels and the image of a sample differ in size, or the file cannot be
/// written.
pub fn write(path: &Path, data: &ReportData) -> Result<()> {
    let page = page(data).map_err(|e| e.file(path))?;
    atomic_write(path, |w| std::io::Write::write_all(w, page.as_bytes()))
}

fn page(data: &ReportData) -> Result<String> {
    let samples = samples::section(data)?;
    Ok(fill(PAGE, |name| match name {
        "title" => run::title(&data.records),
        "state" => run::state(&data.records),
        "tiles" => run::tiles(&data.records),
        "curves" => run::curves(&data.records),
        "classes" => scores::classes(data),
        "confusion" => scores::confusion(data),
        "samples" => samples.clone(),
        "run" => run::facts(&data.records),
        other => unreachable!("invariant: the template has no other placeholder, got `{other}`"),
    }))
}

/// Replaces each `{{name}}` of a template. Does not expand placeholders in the replacements.
fn fill(template: &str, section: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, (name, after))) =
        rest.split_once("{{").and_then(|(b, a)| Some((b, a.split_once("}}")?)))
    {
        out += before;
        out += &section(name);
        rest = after;
    }
    out + rest
}

/// Escapes text for an HTML element or a quoted attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // Control characters are invalid in HTML, even as entities.
            c if c.is_control() && !c.is_whitespace() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Formats a fraction as a percentage, or as a dash.
fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{:.1} %", 100.0 * v))
}

/// A color swatch and the name of a class.
fn swatch(table: &ClassTable, class: usize) -> String {
    let [r, g, b] = table.color(class);
    format!(
        "<span class=\"swatch\" style=\"background:rgb({r} {g} {b})\"></span>{}",
        escape(&table.name(class))
    )
}

#[cfg(test)]
mod tests {
    use super::super::{EndRecord, EvaluationRecord, StartRecord, StepRecord};
    use super::*;
    use crate::eval::Confusion;
    use crate::geometry::Size;

    const NASTY: &str = "</title><script>alert('x')</script>&\"{{samples}}";

    fn data() -> ReportData {
        let mut table = ClassTable::generic(3);
        table.names[1] = NASTY.to_owned();
        let mut confusion = Confusion::new(3, &[255]).unwrap();
        confusion.add(&[0u16, 1, 1, 255], &[0u16, 1, 0, 2]).unwrap();
        let scores = confusion.scores(&table);
        let start = StartRecord {
            network: NASTY.into(),
            command: NASTY.into(),
            config: serde_json::json!({ "a": NASTY }),
            ..Default::default()
        };
        let mut records = vec![Record::Start(start)];
        for step in 1..=3000 {
            let loss = if step == 2000 { f64::NAN } else { 2.0 / f64::from(step as u32).sqrt() };
            records.push(Record::Step(StepRecord {
                step,
                loss,
                learning_rate: 0.007,
                epoch: step as f64 / 100.0,
                ..Default::default()
            }));
        }
        let evaluation = EvaluationRecord::new(3000, 2.0, &scores, true);
        records.push(Record::Evaluation(EvaluationRecord { loss: Some(0.5), ..evaluation }));
        records.push(Record::End(EndRecord {
            step: 3000,
            reason: NASTY.into(),
            ..Default::default()
        }));
        let image = Image::new(Size::square(2), vec![90; 12]).unwrap();
        let map = |labels: [u16; 4]| LabelMap::new(Size::square(2), labels.to_vec()).unwrap();
        let sample = Sample {
            name: NASTY.into(),
            image,
            truth: map([0, 1, 1, 255]),
            prediction: map([0, 1, 0, 2]),
        };
        ReportData { records, table, scores: Some(scores), samples: vec![sample] }
    }

    #[test]
    fn names_are_text_and_never_part_of_the_page() {
        let page = page(&data()).unwrap();
        assert!(!page.contains("<script"), "a name became an element");
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)"));
        assert_eq!(page.matches("<h2>Samples").count(), 1, "a name became a section of the page");
        for open in ["<svg", "<table", "<figure", "<div", "<main", "<dl"] {
            let close = open.replace('<', "</");
            assert_eq!(
                page.matches(open).count(),
                page.matches(&format!("{close}>")).count(),
                "{open}"
            );
        }
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        let page = page(&data()).unwrap();
        let sources: Vec<&str> = page.split("src=\"").skip(1).map(|s| &s[..5]).collect();
        assert_eq!(sources, ["data:"; 3]);
        for call in ["http://", "https://", "url(", "@import", "<link", "href"] {
            assert!(!page.contains(call), "{call}");
        }
    }

    #[test]
    fn figures_of_the_run_are_on_the_page() {
        let page = page(&data()).unwrap();
        // Class 0: 1 of 2; class 1: 1 of 2; class 2 does not occur in the truth.
        assert!(
            page.contains("50.0 %") && page.contains("3,000"),
            "{}",
            &page[page.find("<main>").unwrap()..][..1500]
        );
        assert!(page.contains("Validation loss by step"));
        assert!(!page.contains("NaN") && !page.contains("inf"), "a non-finite number was drawn");
        assert!(page.len() < 200_000, "3,000 steps take {} bytes", page.len());
    }

    #[test]
    fn a_run_that_has_only_started_has_a_page_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.html");
        let empty = ReportData {
            records: Vec::new(),
            table: ClassTable::generic(2),
            scores: None,
            samples: Vec::new(),
        };
        write(&path, &empty).unwrap();
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page.contains("</html>") && !page.contains("{{") && !page.contains("<svg"));
    }

    #[test]
    fn samples_of_two_sizes_are_refused_by_name() {
        let mut data = data();
        data.samples[0].truth = LabelMap::new(Size::square(1), vec![0]).unwrap();
        data.samples[0].name = "street".into();
        let error = page(&data).unwrap_err().to_string();
        assert!(error.contains("street") && error.contains("1x1"), "{error}");
    }
}
