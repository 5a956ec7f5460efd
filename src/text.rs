//! Foreign text in messages: names out of files and names of files, which anybody may have chosen.
//!
//! A terminal obeys what is printed on it: an escape sequence in a class name sets the window's
//! title or clears the screen, a line break forges a line of output, and a bidirectional override
//! shows another name than is stored. So foreign text goes through this module on its way to
//! people. Programs that read JSON get it unchanged, in escapes.

use crate::error::{Error, ErrorKind};
use std::borrow::Cow;
use std::path::Path;

/// Characters of a quoted line or name before it is cut.
pub(crate) const LONGEST_EXCERPT: usize = 80;

/// Whether a character does something to a terminal, or to the order of the text around it, instead
/// of being seen.
///
/// Control characters (C0 with line breaks and tabs, DEL, C1), line and paragraph separators,
/// bidirectional embeddings, overrides and isolates.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text on one line with U+FFFD for each character that a terminal would obey. Ordinary Unicode
/// stays as it is.
///
/// [`Error`] and [`ClassTable`](crate::image::ClassTable) apply it themselves; it is for names that
/// a program prints without them.
///
/// ```
/// assert_eq!(atrous::text::printable("a\u{1b}[2J.png"), "a\u{fffd}[2J.png");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    clean(text, acts)
}

/// As [`printable`], of a text whose line breaks are meant.
pub(crate) fn printable_lines(text: &str) -> Cow<'_, str> {
    clean(text, |c| c != '\n' && acts(c))
}

fn clean(text: &str, bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    match text.contains(&bad) {
        true => text
            .chars()
            .map(|c| if bad(c) { char::REPLACEMENT_CHARACTER } else { c })
            .collect::<String>()
            .into(),
        false => text.into(),
    }
}

/// A path for people. What is no Unicode becomes U+FFFD as well.
pub(crate) fn path(path: impl AsRef<Path>) -> String {
    printable(&path.as_ref().to_string_lossy()).into_owned()
}

/// At most [`LONGEST_EXCERPT`] characters of a line or a name, for a message: files may have lines
/// of megabytes. Tabs become blanks.
pub(crate) fn excerpt(line: &str) -> String {
    printable(&cut(line, LONGEST_EXCERPT).replace('\t', " ")).into_owned()
}

/// A class's name as tables and legends show it: no longer than a name can be, so that one name
/// does not push all the columns out of sight.
pub(crate) fn class_name(name: &str) -> String {
    // ADE20K's longest has 97 characters.
    const LONGEST: usize = 160;
    printable(&cut(name, LONGEST)).into_owned()
}

/// At most `most` characters of a text.
pub(crate) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text.into(),
    }
}

/// What the TOML parser has to say about `text`, with the line at fault below: its own words repeat
/// that line whole.
pub(crate) fn toml_error(kind: ErrorKind, what: &str, text: &str, e: &toml::de::Error) -> Error {
    // "unknown field `x`, expected one of ..." lists the fields, and they are worth their space;
    // what comes out of the file is cut.
    const LONGEST_MESSAGE: usize = 1500;
    let message = cut(e.message(), LONGEST_MESSAGE);
    let Some(before) = e.span().and_then(|span| text.get(..span.start)) else {
        return Error::new(kind, format!("{what}: {message}"));
    };
    let (number, start) =
        (before.matches('\n').count() + 1, before.rfind('\n').map_or(0, |at| at + 1));
    let line = text[start..].lines().next().unwrap_or_default();
    Error::new(kind, format!("{what}: line {number}: {message}"))
        .detail(format!("{number} | {line}"))
}

/// JSON that can be shown on a terminal too: serde_json escapes C0 alone, so the rest of [`acts`]
/// gets its `\u` escapes here.
///
/// In JSON these characters stand inside strings only, so the meaning stays the same.
#[cfg(any(feature = "cli", test))]
pub(crate) fn printable_json(json: &str) -> Cow<'_, str> {
    // Line breaks and blanks between values are JSON's own.
    let bad = |c: char| !c.is_ascii_control() && acts(c) || c == '\u{7f}';
    match json.contains(bad) {
        true => json
            .chars()
            .map(|c| if bad(c) { format!("\\u{:04x}", u32::from(c)) } else { c.into() })
            .collect::<String>()
            .into(),
        false => json.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window's title, a cleared screen, a forged line, C1's CSI, and a name that reads `cat.exe`
    /// backwards.
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
    fn an_error_of_toml_shows_its_line_and_not_the_whole_of_a_long_one() {
        #[derive(serde::Deserialize, Debug)]
        #[serde(deny_unknown_fields)]
        struct Two {
            #[serde(rename = "steps")]
            _steps: u32,
        }
        let shown = |text: &str| {
            let e = toml::from_str::<Two>(text).unwrap_err();
            toml_error(ErrorKind::Config, "is no recipe", text, &e).to_string()
        };
        assert_eq!(
            shown("steps = 1\nstep = 2\n"),
            "is no recipe: line 2: unknown field `step`, expected `steps`\n  2 | step = 2"
        );
        for long in [
            format!("steps = \"{}\"", "é".repeat(1 << 18)),
            format!("{} = 1", "x".repeat(1 << 18)),
            "[".repeat(1 << 18),
        ] {
            let text = shown(&long);
            assert!(text.chars().count() < 2000, "{} characters", text.chars().count());
        }
    }

    #[test]
    fn json_means_the_same_with_nothing_left_that_a_terminal_obeys() {
        let json = serde_json::to_string_pretty(&[HOSTILE, "plain"]).unwrap();
        let shown = printable_json(&json);
        assert!(!shown.contains(|c| c != '\n' && acts(c)), "{shown:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [HOSTILE, "plain"]);
    }
}
