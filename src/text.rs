//! Untrusted text in messages: names in files, and names of files.
//!
//! A terminal interprets control characters: an escape sequence in a class name sets the window
//! title or clears the screen, a line break forges a line of output, and a bidirectional override
//! displays a different name than the stored one. This module sanitizes untrusted text before it is
//! displayed. JSON output keeps the original text, with escapes.

use std::borrow::Cow;
use std::path::Path;

/// Maximum length of a quoted line or name, in characters.
pub(crate) const MAX_EXCERPT_CHARS: usize = 80;

/// Maximum number of tensors that a report names; the rest are counted.
const MAX_LISTED_TENSORS: usize = 12;

/// Returns whether a character controls the terminal or the text direction instead of being
/// displayed.
///
/// These are control characters (C0 with line breaks and tabs, DEL, C1), line and paragraph
/// separators, and bidirectional embeddings, overrides and isolates.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Replaces each control character, including line breaks, with U+FFFD. Other Unicode text is
/// unchanged.
///
/// [`Error`](crate::Error) and [`ClassTable`](crate::image::ClassTable) apply it themselves; use it for names
/// that a program prints without them.
///
/// ```
/// assert_eq!(atrous::text::printable("a\u{1b}[2J.png"), "a\u{fffd}[2J.png");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    replace_chars(text, is_control)
}

/// Returns a number of things, such as `1 image` and `2 images`. `noun` is the singular of a noun whose
/// plural ends in s, or in es after s.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let ending = match number {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{number} {noun}{ending}")
}

/// Like [`printable`], but keeps line breaks.
pub(crate) fn printable_lines(text: &str) -> Cow<'_, str> {
    replace_chars(text, |c| c != '\n' && is_control(c))
}

fn replace_chars(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return text.into();
    }
    text.chars()
        .map(|c| if is_bad(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect::<String>()
        .into()
}

/// Returns a path for display. Invalid Unicode becomes U+FFFD as well.
pub(crate) fn path(path: impl AsRef<Path>) -> String {
    printable(&path.as_ref().to_string_lossy()).into_owned()
}

/// Truncates a line or a name to [`MAX_EXCERPT_CHARS`] for a message: lines in files may be
/// megabytes long. Tabs become spaces.
pub(crate) fn excerpt(line: &str) -> String {
    printable(&truncate(line, MAX_EXCERPT_CHARS).replace('\t', " ")).into_owned()
}

/// Truncates a line below an error's message, which has a path and what is wrong there.
pub(crate) fn detail_line(line: &str) -> String {
    const MAX_CHARS: usize = 240;
    printable(&truncate(line, MAX_CHARS).replace('\t', " ")).into_owned()
}

/// Returns a class name for tables and legends, truncated so that an absurdly long name does not
/// push the other columns out of view.
pub(crate) fn class_name(name: &str) -> String {
    // The longest name in ADE20K has 97 characters.
    const MAX_CHARS: usize = 160;
    printable(&truncate(name, MAX_CHARS)).into_owned()
}

/// Truncates a text to `max_chars` characters, followed by `...`.
pub(crate) fn truncate(text: &str, max_chars: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text.into(),
    }
}

/// Returns a report of the tensors that do not match a network, or `None` if all of them match.
/// Each list holds names, with an explanation where needed.
pub(crate) fn tensor_mismatches(
    missing: &[String],
    misshapen: &[String],
    unexpected: &[String],
) -> Option<String> {
    let lists = [("missing", missing), ("misshapen", misshapen), ("unexpected", unexpected)];
    let report: Vec<String> = lists
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(problem, names)| list_tensors(problem, names))
        .collect();
    (!report.is_empty()).then(|| report.join("; "))
}

fn list_tensors(problem: &str, names: &[String]) -> String {
    let (listed, omitted) = names.split_at(names.len().min(MAX_LISTED_TENSORS));
    let more =
        if omitted.is_empty() { String::new() } else { format!(", and {} more", omitted.len()) };
    format!("{} {problem}: {}{more}", names.len(), listed.join(", "))
}

/// Escapes the control characters that serde_json leaves in JSON, so that it can be displayed on a
/// terminal: serde_json escapes C0 only.
///
/// In JSON these characters occur inside strings only, so the meaning is unchanged.
pub(crate) fn printable_json(json: &str) -> Cow<'_, str> {
    // Line breaks and spaces between values belong to the JSON syntax.
    let is_bad = |c: char| !c.is_ascii_control() && is_control(c) || c == '\u{7f}';
    if !json.contains(is_bad) {
        return json.into();
    }
    json.chars()
        .map(|c| if is_bad(c) { format!("\\u{:04x}", u32::from(c)) } else { c.into() })
        .collect::<String>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_singular() {
        let text = |number, noun| count(number, noun);
        assert_eq!([text(0, "image"), text(1, "image")], ["0 images", "1 image"]);
        assert_eq!([text(1, "class"), text(2, "class")], ["1 class", "2 classes"]);
    }

    /// A window title, a cleared screen, a forged line, CSI from C1, and a name that reads
    /// `cat.exe` backwards.
    const HOSTILE: &str = "\u{1b}]0;PWNED\u{7}\u{1b}[2J\r\nerror: forged\u{7f}\u{9b}31m\u{202e}exe.tac\u{2028}x\u{2066}";

    #[test]
    fn what_a_terminal_obeys_becomes_visible_and_ordinary_text_stays() {
        let shown = printable(HOSTILE);
        assert_eq!(
            shown,
            "\u{fffd}]0;PWNED\u{fffd}\u{fffd}[2J\u{fffd}\u{fffd}error: forged\u{fffd}\u{fffd}31m\u{fffd}exe.tac\u{fffd}x\u{fffd}"
        );
        for ordinary in
            ["", "traffic light", "Straßenbahn", "信号機", "قطة", "👩‍🚒", "a\u{200f}b", "café"]
        {
            assert!(
                matches!(printable(ordinary), Cow::Borrowed(same) if same == ordinary),
                "{ordinary:?}"
            );
        }
        assert_eq!(printable_lines("a\nb\r\n\u{1b}c"), "a\nb\u{fffd}\n\u{fffd}c");
        assert_eq!(path("a\n\u{1b}.png"), "a\u{fffd}\u{fffd}.png");
    }

    #[test]
    fn a_line_of_a_megabyte_is_cut_between_characters() {
        assert_eq!(excerpt("0 sky\t1 2"), "0 sky 1 2");
        assert_eq!(excerpt(&"é".repeat(80)), "é".repeat(80));
        assert_eq!(excerpt(&"é".repeat(1 << 20)), "é".repeat(80) + "...");
    }

    #[test]
    fn json_means_the_same_with_nothing_left_that_a_terminal_obeys() {
        let json = serde_json::to_string_pretty(&[HOSTILE, "plain"]).unwrap();
        let shown = printable_json(&json);
        assert!(!shown.contains(|c| c != '\n' && is_control(c)), "{shown:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [HOSTILE, "plain"]);
    }
}
