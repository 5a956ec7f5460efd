//! Damaged and malicious weight files: each causes an error that names the file (or loads with
//! finite values, if only values, names or text changed). None causes a panic, and the memory used
//! is bounded by the size of the file.

mod archives;
mod build;
mod headers;
mod memory;
mod modules;
mod pickles;
mod random;

use atrous::engine::weights::WeightFile;
use build::{Case, Either, Outcome, case};
use std::path::Path;

/// Memory limit for any damaged file, in bytes.
const LIMIT: usize = 1 << 30;

/// Opens a file and reads everything that a network needs: all tensors except batch norm counters.
fn load(path: &Path) -> atrous::Result<usize> {
    let file = WeightFile::open(path)?;
    let mut count = 0;
    for name in file.names().filter(|name| !name.ends_with("num_batches_tracked")) {
        let (dims, values) = file.read_f32(name)?;
        assert_eq!(dims.iter().product::<usize>(), values.len(), "{name}");
        assert!(values.iter().all(|v| v.is_finite()), "{name}");
        count += values.len();
    }
    Ok(count)
}

/// A linear congruential generator, so that the files are the same on every machine.
struct Lcg(u64);

impl Lcg {
    /// Returns a number below `n`.
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// One valid file of each format.
fn valid() -> Vec<(&'static str, Vec<u8>)> {
    let golden = |name| {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pth").join(name))
            .unwrap()
    };
    vec![
        ("safetensors", headers::valid()),
        ("pth", pickles::valid()),
        ("legacy", archives::valid_legacy()),
        ("pth by PyTorch", golden("checkpoint.pth")),
        ("legacy by PyTorch", golden("legacy_checkpoint.pth")),
        ("deflated", golden("deflated.pth")),
    ]
}

/// All damaged files, at least 200.
fn damaged() -> Vec<Case> {
    let mut cases = headers::cases();
    cases.extend(headers::other_formats());
    cases.extend(pickles::cases());
    cases.extend(modules::cases());
    cases.extend(archives::cases());
    cases.extend(archives::legacy_cases());
    let mut random = Lcg(1);
    for (name, bytes) in valid() {
        for len in [1, bytes.len() / 2, bytes.len() - 9 - random.below(30), bytes.len() - 1] {
            let name = format!("{name}, truncated to {len}");
            cases.push(case(name, &bytes[..len], Outcome::Fails("")));
        }
        for _ in 0..12 {
            let (at, bit) = (random.below(bytes.len()), random.below(8));
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            cases.push(case(format!("{name}, bit {bit} of byte {at} flipped"), flipped, Either));
        }
    }
    cases
}

/// Runs a case, and returns a description of the failure if the outcome is not the expected one.
fn run_case(path: &Path, case: &Case) -> Option<String> {
    let (result, peak) = memory::peak_of(|| std::panic::catch_unwind(|| load(path)));
    // Every byte of a pickle can be an opcode that creates a node.
    let limit = (128 * case.bytes.len() + (32 << 20)).min(LIMIT);
    if peak > limit {
        return Some(format!("used {peak} bytes, the limit is {limit}"));
    }
    let result = match result {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => return Some("panicked".into()),
    };
    let file = path.file_name().unwrap().to_str().unwrap();
    match (case.outcome, result) {
        (Outcome::Fails(_), Ok(_)) => Some("loaded without an error".into()),
        (Outcome::Loads, Err(e)) => Some(format!("failed to load: {e}")),
        (_, Err(e)) if !e.contains(file) => Some(format!("the error does not name the file: {e}")),
        (Outcome::Fails(text), Err(e)) if !e.contains(text) => {
            Some(format!("expected ...{text}..., got: {e}"))
        }
        _ => None,
    }
}

#[test]
fn damaged_files_are_errors_that_name_the_file_within_bounded_memory() {
    let directory = tempfile::tempdir().unwrap();
    let cases = damaged();
    assert!(cases.len() >= 200, "{} files", cases.len());
    let mut failures = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let path = directory.path().join(format!("damaged-{number:03}.bin"));
        std::fs::write(&path, &case.bytes).unwrap();
        failures.extend(run_case(&path, case).map(|e| format!("{number} ({}): {e}", case.name)));
        std::fs::remove_file(&path).unwrap();
    }
    assert!(
        failures.is_empty(),
        "{} of {} files:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    for directory in [Path::new("."), Path::new("/tmp")] {
        assert!(!directory.join(pickles::TRACE).exists(), "the command in a pickle was executed");
    }
}

#[test]
fn the_undamaged_files_load() {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in valid() {
        let path = directory.path().join("valid");
        std::fs::write(&path, &bytes).unwrap();
        let count = load(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(count > 9, "{name}");
    }
}

#[test]
fn directories_and_missing_files_are_rejected_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let error = load(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains(directory.path().to_str().unwrap())
            && error.contains("is a directory")
            && error.contains("a weight file"),
        "{error}"
    );
    let error = load(&directory.path().join("missing.pth")).unwrap_err().to_string();
    assert!(error.contains("missing.pth"), "{error}");
}

#[test]
fn a_file_that_shrinks_after_opening_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shrinks.safetensors");
    std::fs::write(&path, headers::valid()).unwrap();
    let file = WeightFile::open(&path).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    let error = file.read_f32("a").unwrap_err().to_string();
    let expected = "shrinks.safetensors: tensor `a`: could not read the weights";
    assert!(error.contains(expected), "{error}");
}
