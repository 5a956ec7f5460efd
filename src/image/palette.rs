//! Class names and display colors: [`ClassTable`] and its `classes.txt` format.

use super::colors::{distinct, voc_color};
use super::display::display_colors;
use crate::error::{Error, Result, error};
use crate::files::{BYTE_ORDER_MARK, read_text_at_most};
use crate::text::{class_name, excerpt};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Size limit of a `classes.txt`: masks have at most 65,536 values.
const MAX_BYTES: u64 = 16 << 20;

/// Names of ignored labels: their pixels are left out of losses and scores.
const IGNORED_NAMES: &[&str] = &["ignore", "ignored", "unlabeled", "unlabelled", "void"];

/// The names and display colors of a network's or a data set's classes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawClassTable")]
pub struct ClassTable {
    /// Class names, by class number.
    pub names: Vec<String>,
    /// Display colors (sRGB), by class number; one for each name.
    pub colors: Vec<[u8; 3]>,
    /// Labels that occur in masks but are not classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<IgnoredLabel>,
}

/// A mask label that is not a class ("ignore", "unlabeled"), left out of losses and scores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredLabel {
    /// Value in masks.
    pub label: u16,
    /// Name of the label.
    pub name: String,
    /// Display color, sRGB.
    #[serde(alias = "colour")]
    pub color: [u8; 3],
}

/// The JSON form of [`ClassTable`], not yet validated.
#[derive(Deserialize)]
struct RawClassTable {
    names: Vec<String>,
    #[serde(alias = "colours")]
    colors: Vec<[u8; 3]>,
    #[serde(default)]
    ignored: Vec<IgnoredLabel>,
}

impl TryFrom<RawClassTable> for ClassTable {
    type Error = Error;

    fn try_from(raw: RawClassTable) -> Result<Self> {
        let clean = |label: IgnoredLabel| IgnoredLabel { name: class_name(&label.name), ..label };
        Ok(Self {
            ignored: raw.ignored.into_iter().map(clean).collect(),
            ..Self::new(raw.names, raw.colors)?
        })
    }
}

impl ClassTable {
    /// Creates a table from names and colors. Control characters in names (escape sequences, line
    /// breaks) are replaced with U+FFFD and names longer than 160 characters are cut, because names
    /// come from files and are printed to terminals.
    ///
    /// # Errors
    /// Returns an error if there are no classes, or the numbers of names and colors differ.
    pub fn new(names: Vec<String>, colors: Vec<[u8; 3]>) -> Result<Self> {
        if names.len() != colors.len() {
            return Err(error!(Config, "{} class names, but {} colors", names.len(), colors.len()));
        }
        if names.is_empty() {
            return Err(error!(Config, "a class table with no classes"));
        }
        Ok(Self {
            names: names.iter().map(|name| class_name(name)).collect(),
            colors,
            ignored: Vec::new(),
        })
    }

    /// Creates a table of `n` unnamed classes ("class 0", ...) with distinct colors.
    pub fn generic(n: usize) -> Self {
        let names = (0..n).map(|i| format!("class {i}")).collect();
        Self { names, colors: (0..n).map(distinct).collect(), ignored: Vec::new() }
    }

    /// Returns the same classes with colors for overlays: the tables of data sets are meant for masks,
    /// and some of their colors (VOC's cat, 64 0 0) are too dark.
    ///
    /// A class keeps its color if that is light, saturated and unlike those before. Others have the
    /// color that their name suggests (sky, vegetation, water, person, ...) or one unlike all others,
    /// also for people who cannot tell red from green. The background and ignored labels keep theirs.
    #[must_use]
    pub fn vivid(&self) -> Self {
        Self {
            colors: display_colors(&self.names, &self.colors, self.background()),
            ..self.clone()
        }
    }

    /// Returns the number of classes, without ignored labels.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns whether the table has no classes.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns the name of a label, or "class N" for a label not in the table.
    pub fn name(&self, label: usize) -> String {
        match (self.names.get(label), self.ignored_label(label)) {
            (_, Some(ignored)) => ignored.name.clone(),
            (Some(name), None) => name.clone(),
            (None, None) => format!("class {label}"),
        }
    }

    /// Returns the color of a label, or its VOC color for a label not in the table.
    pub fn color(&self, label: usize) -> [u8; 3] {
        match (self.colors.get(label), self.ignored_label(label)) {
            (_, Some(ignored)) => ignored.color,
            (Some(&color), None) => color,
            (None, None) => voc_color(label),
        }
    }

    fn ignored_label(&self, label: usize) -> Option<&IgnoredLabel> {
        self.ignored.iter().find(|i| usize::from(i.label) == label)
    }

    /// Returns the class named "background", if any. Overlays leave it untinted; cut-outs make it
    /// transparent.
    pub fn background(&self) -> Option<usize> {
        self.names.iter().position(|n| n.eq_ignore_ascii_case("background"))
    }

    /// Returns the class with the given name, ignoring case.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n.eq_ignore_ascii_case(name))
    }

    /// Returns the values of the ignored labels.
    pub fn ignored_values(&self) -> Vec<u32> {
        self.ignored.iter().map(|i| u32::from(i.label)).collect()
    }

    /// Reads a `classes.txt` file; see [`ClassTable::parse`] for the format.
    ///
    /// # Errors
    /// Returns an error with the file and line if the file cannot be read or parsed.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&read_text_at_most(path, MAX_BYTES)?).map_err(|e| e.file(path))
    }

    /// Parses lines of number, name and color, such as `7 car 128 128 128`. Names may contain
    /// spaces. A line without a color (`7 car`) has that of PASCAL VOC; its name must not end in a
    /// number. Lines can be names alone, in the order of their numbers, and then ignored labels.
    /// Empty lines, lines that begin with `#` and a leading byte-order mark are skipped.
    ///
    /// Numbers count up from 0 without gaps. Lines named "ignore", "ignored", "unlabeled",
    /// "unlabelled" or "void" whose number is past the last class, such as 255, define ignored
    /// labels.
    ///
    /// # Errors
    /// Returns an error with the line number if a line is malformed or out of order, or if there
    /// are no classes.
    pub fn parse(text: &str) -> Result<Self> {
        let (mut names, mut colors, mut ignored) =
            (Vec::new(), Vec::new(), Vec::<IgnoredLabel>::new());
        let lines = text.trim_start_matches(BYTE_ORDER_MARK).lines().map(str::trim).enumerate();
        let lines: Vec<(usize, &str)> =
            lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
        let alone = |(_, line): &(usize, &str)| is_name_alone(line) || is_ignored_label(line);
        let names_alone = lines.iter().all(alone) && lines.iter().any(|(_, l)| is_name_alone(l));
        for (number, (index, line)) in lines.into_iter().enumerate() {
            let found = match u16::try_from(number) {
                Ok(label) if names_alone && is_name_alone(line) => {
                    Some((label, line.to_owned(), voc_color(number)))
                }
                _ => parse_line(line),
            };
            let (label, name, color) = found
                .ok_or_else(|| {
                    error!(
                        Data,
                        "expected `NUMBER NAME [R G B]` with colors 0 to 255, found `{}`",
                        excerpt(line)
                    )
                })
                .map_err(|e| e.at(format!("line {}", index + 1)))?;
            if is_ignored_name(&name) && usize::from(label) >= names.len() {
                ignored.push(IgnoredLabel { label, name: class_name(&name), color });
            } else if usize::from(label) == names.len() && ignored.is_empty() {
                names.push(name);
                colors.push(color);
            } else {
                let next = names.len();
                return Err(error!(
                    Data,
                    "expected class {next}, found class {label}; ignored labels come last"
                )
                .at(format!("line {}", index + 1)));
            }
        }
        Ok(Self {
            ignored,
            ..Self::new(names, colors).map_err(|_| error!(Data, "no classes listed"))?
        })
    }

    /// Returns 256 colors for a palette PNG: the table's, then VOC's for values not in the table.
    pub fn palette(&self) -> Vec<u8> {
        (0..256).flat_map(|label| self.color(label)).collect()
    }
}

/// Whether a line can be a name without number and color: it has no characters of lists in other
/// forms, and neither begins with a digit nor ends in a number.
fn is_name_alone(line: &str) -> bool {
    let ends_in_number = line.split_whitespace().next_back().is_some_and(is_number);
    let begins_with_digit = line.starts_with(|c: char| c.is_ascii_digit());
    !begins_with_digit && !ends_in_number && !line.contains([',', ';', ':', '#', '"', '[', '{'])
}

/// Whether a line declares an ignored label: `255 ignore`.
fn is_ignored_label(line: &str) -> bool {
    parse_line(line).is_some_and(|(_, name, _)| is_ignored_name(&name))
}

fn is_ignored_name(name: &str) -> bool {
    IGNORED_NAMES.contains(&name.to_ascii_lowercase().as_str())
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && word.parse::<f64>().is_ok()
}

fn parse_line(line: &str) -> Option<(u16, String, [u8; 3])> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (number, rest) = words.split_first()?;
    let number: u16 = number.parse().ok()?;
    // What belongs to a color in another form, or to a comment, is no name.
    if rest
        .iter()
        .any(|word| word.starts_with('#') || word.split(',').any(is_number) && word.contains(','))
    {
        return None;
    }
    // A number at the end belongs to a color, perhaps one that lacks another number.
    if !is_number(rest.last()?) {
        return Some((number, rest.join(" "), voc_color(number.into())));
    }
    let (name, color) = rest.split_at_checked(rest.len().checked_sub(3)?)?;
    // Four numbers are a color with opacity.
    if name.last().is_none_or(|word| is_number(word)) {
        return None;
    }
    let color: Vec<u8> = color.iter().map(|v| v.parse::<u8>().ok()).collect::<Option<_>>()?;
    Some((number, name.join(" "), color.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn class_files_are_read_with_their_ignored_labels() {
        let table = ClassTable::parse("# comment\n0 sky 1 2 3\n\n1  traffic  light 4 5 6\n2 unlabelled 0 0 0\n255 ignore 9 9 9\n")
            .unwrap();
        assert_eq!(table.names, ["sky", "traffic light"]);
        assert_eq!(table.colors, [[1, 2, 3], [4, 5, 6]]);
        assert_eq!(table.ignored_values(), [2, 255]);
        assert_eq!((table.name(2), table.color(255)), ("unlabelled".into(), [9, 9, 9]));
        assert_eq!((table.name(77), table.color(21)), ("class 77".into(), voc_color(21)));
        let json = serde_json::to_string(&table).unwrap();
        assert_eq!(serde_json::from_str::<ClassTable>(&json).unwrap(), table);
    }

    /// `0 background` was refused.
    #[test]
    fn a_class_without_a_color_has_the_default_one() {
        let table = ClassTable::parse("0 background\n1 traffic light\n2 car 1 2 3\n255 ignore\n");
        let table = table.unwrap();
        assert_eq!(table.names, ["background", "traffic light", "car"]);
        assert_eq!(table.colors, [[0, 0, 0], [128, 0, 0], [1, 2, 3]]);
        assert_eq!((table.ignored_values(), table.color(255)), (vec![255], voc_color(255)));
    }

    #[test]
    fn lines_can_be_names_alone() {
        let table = ClassTable::parse("# of mine\nbackground\ntraffic light\n\nvoid\n").unwrap();
        assert_eq!(table.names, ["background", "traffic light"]);
        assert_eq!((table.colors[1], table.ignored_values()), (voc_color(1), vec![2]));
        let table = ClassTable::parse("background\ncrack\n255 ignore\n").unwrap();
        assert_eq!((table.len(), table.ignored_values()), (2, vec![255]));
        for text in [
            "background\n1 car\n",
            "1: car\n0: sky\n",
            "1) car\n",
            "[\"a\", \"b\"]\n",
            "name,r,g,b\n",
        ] {
            let error = ClassTable::parse(text).unwrap_err().to_string();
            assert!(error.contains("line 1: expected `NUMBER NAME"), "{text}: {error}");
        }
        for line in ["0 a 0 0 0 255", "0 sky 128,128,128", "0 sky #808080", "0 sky 1 2 3 # blue"] {
            assert!(ClassTable::parse(line).unwrap_err().to_string().contains("line 1"), "{line}");
        }
    }

    #[test]
    fn bad_class_files_are_refused_with_the_line() {
        for (text, part) in [
            ("0 sky 1 2", "line 1"),
            ("0 sky 1 2 3\n2 car 1 2 3", "expected class 1, found class 2"),
            ("0 sky 1 2 3\n1 car 1 2 300", "line 2"),
            ("0 1 2 3", "line 1"),
            ("0", "line 1"),
            ("0 class 1", "line 1"),
            ("0 sky 1 2 0.5", "line 1"),
            ("x sky 1 2 3", "line 1"),
            ("# nothing\n", "no classes listed"),
            ("0 sky 1 2 3\n1 void 0 0 0\n2 car 1 2 3", "line 3"),
        ] {
            let error = ClassTable::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data);
            assert!(error.to_string().contains(part), "{text:?}: {error}");
        }
        assert!(serde_json::from_str::<ClassTable>(r#"{"names":["a"],"colors":[]}"#).is_err());
        let earlier = r#"{"names":["a"],"colours":[[1,2,3]],"ignored":[{"label":255,"name":"b","colour":[0,0,0]}]}"#;
        let table: ClassTable = serde_json::from_str(earlier)
            .expect("tables of earlier versions, with British spelling");
        assert_eq!(table.colors, [[1, 2, 3]]);
    }

    #[test]
    fn escape_sequences_in_class_names_are_not_kept() {
        let shown = "\u{fffd}]0;PWNED\u{fffd}";
        let table = ClassTable::parse(
            "0 \u{1b}]0;PWNED\u{7} 1 2 3\n1 road 1 2 3\n2 ignore\u{1b} 0 0 0\n3 ignore 0 0 0\n",
        )
        .unwrap();
        assert_eq!(table.names, [shown, "road", "ignore\u{fffd}"]);
        let json = r#"{"names":["\u001b]0;PWNED\u0007"],"colors":[[1,2,3]],"ignored":[{"label":255,"name":"a\r\nb","color":[0,0,0]}]}"#;
        let table: ClassTable = serde_json::from_str(json).unwrap();
        assert_eq!((&table.names[0][..], &table.name(255)[..]), (shown, "a\u{fffd}\u{fffd}b"));
        let long = ClassTable::new(vec!["é".repeat(1 << 20)], vec![[0; 3]]).unwrap();
        assert_eq!(long.names[0], "é".repeat(160) + "...");
        let bin = "ashcan, trash can, garbage can, wastebin, ash bin, ash-bin, ashbin, dustbin, trash barrel, trash bin";
        assert_eq!(
            ClassTable::new(vec![bin.into()], vec![[0; 3]]).unwrap().names,
            [bin],
            "the longest real name, of ADE20K"
        );
    }

    #[test]
    fn an_error_quotes_no_more_than_the_start_of_a_line_of_a_megabyte() {
        let error = ClassTable::parse(&format!("0 sky 1 2 3\n{}", "x".repeat(1 << 20)))
            .unwrap_err()
            .to_string();
        let start = "line 2: expected `NUMBER NAME [R G B]` with colors 0 to 255, found `xxx";
        assert!(error.starts_with(start) && error.len() < 200, "{error}");
    }

    #[test]
    fn a_class_file_with_a_byte_order_mark_is_read_as_one_without() {
        let text = "0 sky 1 2 3\n1 car 4 5 6\n";
        let expected = ClassTable::parse(text).unwrap();
        let marked = format!("\u{feff}{text}");
        assert_eq!(ClassTable::parse(&marked).unwrap(), expected);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("classes.txt");
        std::fs::write(&path, marked).unwrap();
        assert_eq!(ClassTable::read(&path).unwrap(), expected);
    }
}
