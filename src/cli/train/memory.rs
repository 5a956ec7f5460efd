//! `--max-memory`: parses the limit and adapts a recipe to it.

use crate::error::Result;
use crate::exec::Device;
use crate::models::Config;
use crate::train::{MemoryEstimate, MemoryFit, NormMode, Recipe, ValidationMemory};

/// Parses a size such as `4GiB`, `1.5 GB` or `800M` (as `MiB`).
pub(in crate::cli) fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let at = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "tib" | "t" => 1 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000u64,
        _ => 0,
    };
    let bytes = number.parse::<f64>().ok().map(|n| n * factor as f64);
    let bytes = bytes.filter(|&b| (1.0..9e18).contains(&b)).map(|b| b as u64);
    bytes.ok_or_else(|| "expected a number with a unit, such as 800MiB or 4GiB".to_owned())
}

/// Adapts a recipe so that training and evaluation need at most `limit` bytes. Returns the memory
/// that training needs then, and notes to print.
pub(super) fn fit(
    recipe: &mut Recipe,
    device: &Device,
    config: &Config,
    limit: u64,
    scoring: Option<&ValidationMemory>,
) -> Result<(MemoryEstimate, Vec<String>)> {
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let fit = MemoryFit::with_validation(device, config, &recipe.options()?, limit, scoring)?;
    let mut notes = vec![format!("to fit into {}: {fit}", mib(limit))];
    if fit.batch < recipe.batch && recipe.norm != NormMode::Frozen {
        notes.push(format!(
            "note: batch norms use the statistics of {} instead of {} images; `--norm frozen` keeps those of `--init`",
            fit.batch, recipe.batch
        ));
    }
    (recipe.batch, recipe.accumulate, recipe.recompute) =
        (fit.batch, fit.accumulate, fit.recompute);
    Ok((fit.estimate, notes))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_numbers_with_units() {
        let known = [
            ("4GiB", 4 << 30),
            ("800MiB", 800 << 20),
            (" 1.5 gib ", 3 << 29),
            ("512k", 512 << 10),
            ("2 G", 2 << 30),
            ("1TiB", 1 << 40),
            ("24GB", 24_000_000_000),
            ("0.5mb", 500_000),
        ];
        for (text, bytes) in known {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "4",
            "GiB",
            "-1GiB",
            "4GiBs",
            "0MiB",
            "1..5GiB",
            "nanGiB",
            "infGiB",
            "1e99GiB",
            "99999999TiB",
            "4 Gi B",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
