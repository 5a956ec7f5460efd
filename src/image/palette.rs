//! Class names and display colors: [`ClassTable`], its `classes.txt` format, and generated colors
//! for classes without one.

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

    /// Returns the same classes with bright, distinct colors. The background and
    /// ignored labels keep their colors.
    ///
    /// The color tables of data sets are meant for masks; some colors (VOC's cat, 64 0 0) are too
    /// dark for an overlay.
    #[must_use]
    pub fn vivid(&self) -> Self {
        let background = self.background();
        let color =
            |class| if background == Some(class) { self.colors[class] } else { distinct(class) };
        Self { colors: (0..self.len()).map(color).collect(), ..self.clone() }
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

/// Returns the color of a label in the PASCAL VOC color map: the bits of the label are distributed,
/// three at a time, to red, green and blue from the highest bit down (`VOClabelcolormap` of the VOC
/// development kit). 0 is black, 255 is (224, 224, 192).
pub fn voc_color(label: usize) -> [u8; 3] {
    let mut color = [0u8; 3];
    for (round, shift) in (0..8).rev().enumerate() {
        for (channel, value) in color.iter_mut().enumerate() {
            *value |= ((label >> (3 * round + channel) & 1) as u8) << shift;
        }
    }
    color
}

/// Returns color `index` of an endless sequence of distinct colors. Hues advance by the golden
/// angle in OKLCH, so that nearby indices have distant hues; lightness and chroma alternate.
pub fn distinct(index: usize) -> [u8; 3] {
    const GOLDEN_ANGLE: f64 = 137.507_764_050_037_85;
    let hue = (25.0 + GOLDEN_ANGLE * index as f64).to_radians();
    let lightness = [0.70, 0.82, 0.60, 0.76, 0.65][index % 5];
    let chroma = [0.20, 0.14, 0.17][index % 3];
    // Reduce chroma until the color is inside the sRGB gamut. Hue and lightness, which distinguish
    // classes, are preserved.
    (0..20)
        .map(|step| oklch(lightness, chroma * (1.0 - f64::from(step) / 20.0), hue))
        .find(|rgb| rgb.iter().all(|v| (-1e-9..=1.0 + 1e-9).contains(v)))
        .unwrap_or([lightness; 3])
        .map(|v| (encode(v) * 255.0).round() as u8)
}

/// Converts OKLCH to linear sRGB (Björn Ottosson, "A perceptual color space for image processing",
/// 2020).
fn oklch(lightness: f64, chroma: f64, hue: f64) -> [f64; 3] {
    let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
    ]
}

/// The sRGB transfer function.
fn encode(linear: f64) -> f64 {
    let linear = linear.clamp(0.0, 1.0);
    if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_voc_colors_are_the_development_kits() {
        for (label, color) in [
            (0, [0, 0, 0]),
            (1, [128, 0, 0]),
            (8, [64, 0, 0]),
            (15, [192, 128, 128]),
            (20, [0, 64, 128]),
            (255, [224, 224, 192]),
        ] {
            assert_eq!(voc_color(label), color, "label {label}");
        }
    }

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

    #[test]
    fn generic_colors_can_be_told_apart() {
        let colors: Vec<_> = (0..40).map(distinct).collect();
        let mut least = f64::MAX;
        for (i, a) in colors.iter().enumerate() {
            for b in &colors[..i] {
                least = least.min(
                    a.iter()
                        .zip(b)
                        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
                        .sum::<f64>()
                        .sqrt(),
                );
            }
        }
        assert!(least > 18.0, "two of the first forty colors are {least:.1} apart");
        let first: Vec<_> =
            (0..256).map(distinct).collect::<std::collections::HashSet<_>>().into_iter().collect();
        assert!(first.len() > 250, "{} different colors of 256", first.len());
        let (voc, vivid) = (ClassTable::voc(), ClassTable::voc().vivid());
        assert_eq!(
            (&vivid.names, vivid.color(0), vivid.color(255)),
            (&voc.names, [0; 3], [224, 224, 192])
        );
        let bright =
            |c: [u8; 3]| u32::from(c[0]) * 2 + u32::from(c[1]) * 5 + u32::from(c[2]) > 8 * 70;
        assert!((1..21).all(|class| bright(vivid.color(class))) && !bright(voc.color(8)));
    }
}
