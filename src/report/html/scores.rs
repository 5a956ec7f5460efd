//! The table of classes, and the confusion matrix.

use super::{ReportData, escape, percent, swatch};
use std::fmt::Write;

/// Table of the classes' IoU: of the scores, or else of the best evaluation.
pub(super) fn classes(data: &ReportData) -> String {
    let mut rows = String::new();
    let bar = |iou: Option<f64>| {
        format!(
            "<td class=\"bar\"><i style=\"--v:{:.1}\">{}</i></td>",
            100.0 * iou.unwrap_or(0.0),
            percent(iou)
        )
    };
    let mut head = "<th>class</th><th style=\"text-align:left\">IoU</th>".to_owned();
    if let Some(scores) = &data.scores {
        head += "<th class=\"wide\">accuracy</th><th class=\"wide\">precision</th><th class=\"wide\">share of pixels</th>";
        for class in &scores.classes {
            let share =
                (scores.pixels > 0).then(|| class.truth_pixels as f64 / scores.pixels as f64);
            let _ = write!(
                rows,
                "<tr><td>{}</td>{}<td class=\"wide\">{}</td><td class=\"wide\">{}</td><td class=\"wide\">{}</td></tr>",
                swatch(&data.table, class.class),
                bar(class.iou),
                percent(class.accuracy),
                percent(class.precision),
                percent(share)
            );
        }
    } else if let Some(best) = super::run::best(&data.records) {
        for (class, &iou) in best.class_ious.iter().enumerate() {
            let _ = write!(rows, "<tr><td>{}</td>{}</tr>", swatch(&data.table, class), bar(iou));
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let summary = data.scores.as_ref().map_or_else(String::new, |s| {
        format!(
            "<p class=\"pale\">mIoU {}, pixel accuracy {}, mean accuracy {}, over the validation images.</p>",
            percent(s.mean_iou),
            percent(s.pixel_accuracy),
            percent(s.mean_accuracy)
        )
    });
    format!(
        "<h2>Classes</h2>{summary}<div class=\"card scroll\"><table class=\"classes\"><thead><tr>{head}</tr></thead>\
         <tbody>{rows}</tbody></table></div>"
    )
}

/// Confusion matrix: rows are the true classes, cells are percentages of the row. Classes that
/// occur neither in the truth nor in the prediction are omitted.
pub(super) fn confusion(data: &ReportData) -> String {
    let Some(scores) = &data.scores else { return String::new() };
    let occurs = |c: &&crate::eval::ClassScore| c.truth_pixels + c.predicted_pixels > 0;
    let classes: Vec<_> = scores.classes.iter().filter(occurs).collect();
    if classes.is_empty() {
        return String::new();
    }
    let mut head = String::from("<th></th>");
    let mut rows = String::new();
    for truth in &classes {
        let _ = write!(head, "<th><span>{}</span></th>", escape(&truth.name));
        let _ = write!(rows, "<tr><th scope=\"row\">{}</th>", escape(&truth.name));
        for prediction in &classes {
            let count = scores.confusion[truth.class][prediction.class];
            let share = if truth.truth_pixels == 0 {
                0.0
            } else {
                count as f64 / truth.truth_pixels as f64
            };
            if share < 0.005 {
                rows += "<td></td>";
                continue;
            }
            // The square root makes small confusions visible.
            let (shade, on) = (share.sqrt(), if share > 0.3 { " class=\"on\"" } else { "" });
            let _ = write!(rows, "<td{on} style=\"--s:{shade:.2}\">{:.0}</td>", 100.0 * share);
        }
        rows += "</tr>";
    }
    format!(
        "<h2>Confusion matrix</h2><p class=\"pale\">Rows: true class. Columns: predicted class, in percent of the row's pixels.</p>\
         <div class=\"card scroll\"><table class=\"matrix\"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
}
