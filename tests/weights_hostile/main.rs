//! Weight files that are damaged or made to do harm: each is an error that names the file (or,
//! where only values, names or text have changed, loads with finite values), none panics, none
//! takes memory past its own size by more than a bound.

mod archives;
mod build;
mod headers;
mod memory;
mod pickles;
mod random;

use atrous::weights::WeightFile;
use build::{Case, Either, Outcome, case};
use std::path::Path;

/// The project's own limit for any damaged file.
const LIMIT: usize = 1 << 30;

/// Opens a file and reads all that a network would: everything but batch norm's counters.
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

/// Small steps of a linear congruential generator: the same files on every machine.
struct Steps(u64);

impl Steps {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// One valid file of each kind.
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

/// 200 files, and more where the directed ones are more.
fn damaged() -> Vec<Case> {
    let mut cases = headers::cases();
    cases.extend(headers::strangers());
    cases.extend(pickles::cases());
    cases.extend(archives::cases());
    cases.extend(archives::legacy_cases());
    let mut steps = Steps(1);
    for (name, bytes) in valid() {
        for cut in [1, bytes.len() / 2, bytes.len() - 9 - steps.below(30), bytes.len() - 1] {
            cases.push(case(format!("{name}, cut to {cut}"), &bytes[..cut], Outcome::Fails("")));
        }
        for _ in 0..12 {
            let (mut flipped, at, bit) = (bytes.clone(), steps.below(bytes.len()), steps.below(8));
            flipped[at] ^= 1 << bit;
            cases.push(case(format!("{name}, bit {bit} of byte {at} flipped"), flipped, Either));
        }
    }
    cases
}

/// What is wrong with the outcome of one case, if anything.
fn judge(path: &Path, case: &Case) -> Option<String> {
    let (result, peak) = memory::peak_of(|| std::panic::catch_unwind(|| load(path)));
    // One step of a pickle machine takes one byte of the file and makes one node.
    let allowed = (128 * case.bytes.len() + (32 << 20)).min(LIMIT);
    if peak > allowed {
        return Some(format!("took {peak} bytes, {allowed} are allowed"));
    }
    let result = match result {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => return Some("panicked".into()),
    };
    let file = path.file_name().unwrap().to_str().unwrap();
    match (case.outcome, result) {
        (Outcome::Fails(_), Ok(_)) => Some("was read".into()),
        (Outcome::Loads, Err(e)) => Some(format!("was not read: {e}")),
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
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let path = directory.path().join(format!("damaged-{number:03}.bin"));
        std::fs::write(&path, &case.bytes).unwrap();
        wrong.extend(judge(&path, case).map(|what| format!("{number} ({}): {what}", case.name)));
        std::fs::remove_file(&path).unwrap();
    }
    assert!(wrong.is_empty(), "{} of {} files:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    for place in [Path::new("."), Path::new("/tmp")] {
        assert!(!place.join(pickles::TRACE).exists(), "a pickle's command was run");
    }
}

#[test]
fn the_files_that_are_damaged_were_in_order_before() {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in valid() {
        let path = directory.path().join("valid");
        std::fs::write(&path, &bytes).unwrap();
        let count = load(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(count > 9, "{name}");
    }
}

#[test]
fn what_is_not_a_file_is_refused_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let error = load(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains(directory.path().to_str().unwrap())
            && error.contains("is a directory; pass a file of weights"),
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
    assert!(error.contains("shrinks.safetensors: tensor `a`: cannot read the weights"), "{error}");
}
