//! Numbers and tables as text for people.

/// Formats rows as a table with aligned columns; the columns in `right` are right-aligned.
pub(super) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(c, cell)| {
            if right.contains(&c) {
                format!("{cell:>0$}", widths[c])
            } else {
                format!("{cell:<0$}", widths[c])
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Formats 1234567 as "1,234,567".
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// Formats bytes as mebibytes with one decimal.
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Formats an output stride, which not every network states: `, output stride 16`.
pub(super) fn stride(output_stride: Option<usize>) -> String {
    output_stride.map_or_else(String::new, |stride| format!(", output stride {stride}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_spaces() {
        let rows = [["a", "1"], ["bcd", "1000"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows, &[1]), "a       1\nbcd  1000\n");
        assert_eq!(table(&rows, &[]), "a    1\nbcd  1000\n");
        assert_eq!(["1", "999", "1,000", "1,234,567"], [1, 999, 1000, 1_234_567].map(thousands));
    }
}
