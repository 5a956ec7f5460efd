//! Damaged and malicious files: each is an error that names the file (or loads with finite values, if
//! only values or names changed), without a panic and within bounded memory.

use crate::build::*;
use crate::support::Rng;
use crate::{memory, unpack};
use atrous::engine::weights::WeightFile;
use atrous::engine::weights::dialects::{ReadOptions, load};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Memory limit for any file, in bytes.
const LIMIT: usize = 1 << 30;
const DATA: &str = "model.ckpt.data-00000-of-00002";

struct Case {
    name: String,
    /// Name of the file, which must be in the error.
    file: &'static str,
    bytes: Vec<u8>,
    /// Whether it may load.
    may_load: bool,
    /// Part of the error.
    text: &'static str,
}

fn case(name: &str, file: &'static str, bytes: Vec<u8>, text: &'static str) -> Case {
    Case { name: name.to_owned(), file, bytes, may_load: false, text }
}

/// Opens a file and loads its network, and reads all tensors if it has none.
fn open(path: &Path) -> atrous::Result<()> {
    let file = WeightFile::open(path)?;
    let loaded = load(&file, ReadOptions::default());
    for tensor in file.tensors().iter().filter(|tensor| tensor.dtype().is_float()) {
        let (dims, values) = file.read_f32(tensor.name())?;
        assert_eq!(dims.iter().product::<usize>(), values.len());
        assert!(values.iter().all(|value| value.is_finite()));
    }
    loaded.map(drop)
}

/// Real files, truncated and with flipped bits.
fn changed() -> Vec<Case> {
    let mut graph = unpack("graph.tar.gz");
    let lite = unpack("lite_per_channel.tar.gz").remove("model.tflite").unwrap();
    let archive = std::fs::read(crate::golden("graph.tar.gz")).unwrap();
    let files = [
        ("graph.pb", graph.remove("frozen_inference_graph.pb").unwrap()),
        ("model.ckpt.index", graph.remove("model.ckpt.index").unwrap()),
        ("model.tflite", lite),
        ("model.tar.gz", archive),
    ];
    let (mut cases, mut random) = (Vec::new(), Rng(3));
    for (file, bytes) in &files {
        let len = bytes.len();
        for cut in [9, 60, len / 3, len / 2, len - 3000, len - 40, len - 9, len - 1] {
            let name = format!("{file}, truncated to {cut}");
            // Without its last node a graph can still be whole.
            let may_load = *file != "model.ckpt.index";
            cases.push(Case { name, file, bytes: bytes[..cut].to_vec(), may_load, text: "" });
        }
        for i in 0..28 {
            let (at, bit) = (random.range(0, len - 1), random.range(0, 7));
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let name = format!("{file}, {i}: bit {bit} of byte {at}");
            cases.push(Case { name, file, bytes: flipped, may_load: true, text: "" });
        }
        for i in 0..12 {
            // Lengths and offsets become huge.
            let at = random.range(0, len - 5);
            let mut changed = bytes.clone();
            changed[at..at + 4].fill(0xff);
            let name = format!("{file}, {i}: huge number at byte {at}");
            cases.push(Case { name, file, bytes: changed, may_load: true, text: "" });
        }
    }
    cases
}

/// A graph of an image, a kernel and nodes.
fn graph(nodes: &[Vec<u8>]) -> Vec<u8> {
    let image = node("image", "Placeholder", &[], &[]);
    let kernel = constant("kernel", &[1, 1, 3, 3], &[0; 36]);
    [image, kernel, nodes.concat()].concat()
}

fn graphs() -> Vec<Case> {
    let pb = |name, bytes, text| case(name, "graph.pb", bytes, text);
    let one = [1, 1, 1, 1];
    let layer = |name, input| conv(name, &[input, "kernel"], one, "SAME");
    let mut huge = field(1, &field(1, b"a"));
    huge.extend([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    let nested =
        (0..50_000).fold(
            Vec::new(),
            |inner: Vec<u8>, _| {
                if inner.len() > 4000 { inner } else { field(10, &inner) }
            },
        );
    let groups = [field(1, b"a"), vec![0x7b; 40_000]].concat();
    let chain: Vec<Vec<u8>> = (0..30_000)
        .map(|i| {
            let input = if i == 0 { "image".to_owned() } else { format!("n{}", i - 1) };
            node(&format!("n{i}"), "Relu", &[&input], &[])
        })
        .collect();
    let deep = graph(&[chain.concat(), layer("last", "n29999")]);
    let wide: Vec<&str> = vec!["kernel"; 60_000];
    let empty = [0x0a, 0x00].repeat(70_000);
    let dims = |dims: &[u64]| graph(&[constant("big", dims, &[0; 4]), layer("c", "image")]);
    let fields = field(1, &[field(1, b"a"), field(3, b"").repeat(100_000)].concat());
    let list = attribute("strides", &field(1, &field(3, &vec![1; 60_000])));
    let same = attribute("padding", &field(2, b"SAME"));
    vec![
        pb("a node longer than the file", huge, "truncated"),
        pb("nested functions", graph(&[node("a", "B", &[], &[attribute("f", &nested)])]), ""),
        pb("nested groups", field(1, &groups), ""),
        pb("a deep chain", deep, ""),
        pb("a node with many inputs", graph(&[node("a", "Pack", &wide, &[])]), ""),
        pb("empty nodes", [node("a", "B", &[], &[]), empty].concat(), ""),
        pb("many fields of a node", fields, "fields"),
        pb(
            "a long list",
            graph(&[node("a", "Conv2D", &["image", "kernel"], &[list, same])]),
            "at most",
        ),
        pb("dimensions that overflow", dims(&[1 << 40, 1 << 40]), "address space"),
        pb("a negative dimension", dims(&[u64::MAX]), "negative"),
        pb("many dimensions", dims(&[1; 100]), "axes"),
        pb("a large constant without elements", dims(&[1 << 20, 1 << 20]), ""),
        pb("a cycle", graph(&[layer("a", "b"), layer("b", "a")]), "cycle"),
        pb("a loop of one node", graph(&[layer("a", "a")]), "cycle"),
        pb(
            "a cycle above the logits",
            graph(&[
                node("r", "Relu", &["s"], &[]),
                node("s", "Relu", &["r"], &[]),
                layer("a", "r"),
            ]),
            "",
        ),
        pb(
            "two nodes of one name",
            graph(&[layer("a", "image"), layer("a", "image")]),
            "two nodes",
        ),
        pb("a missing input", graph(&[layer("a", "nothing")]), "which the graph lacks"),
        pb("no inputs", graph(&[conv("a", &[], one, "SAME")]), "no input"),
        pb("a stride of zero", graph(&[conv("a", &["image", "kernel"], [1, 0, 0, 1], "SAME")]), ""),
        pb(
            "a huge stride",
            graph(&[conv("a", &["image", "kernel"], [1, 1 << 40, 1 << 40, 1], "SAME")]),
            "",
        ),
        pb("two networks", graph(&[layer("a", "image"), layer("b", "image")]), "several outputs"),
        pb("no convolution", graph(&[]), "no convolutions"),
        pb(
            "fake quantization",
            graph(&[
                node("q", "FakeQuantWithMinMaxVars", &["image"], &[]),
                layer("a", "image"),
                node("r", "FakeQuantWithMinMaxVars", &["a"], &[]),
                layer("b", "r"),
            ]),
            "FakeQuantWithMinMaxVars",
        ),
        pb("one convolution", graph(&[layer("a", "image")]), "ASPP"),
    ]
}

fn tables() -> Vec<Case> {
    let index = |name, bytes, text| case(name, "model.ckpt.index", bytes, text);
    let header = [int(1, 2), int(2, 0)].concat();
    let with = |entry: &[u8]| table(&entries(&[(b"", &header), (b"w", entry)]), 0);
    let snappy_bomb = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0; 40]].concat();
    let mut shared = vec![200, 1, 1, b'a', b'b'];
    shared.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    let mut restarts = entries(&[(b"", &header)]);
    let at = restarts.len() - 4;
    restarts[at..].fill(0xff);
    let many = entries(&vec![(&b"k"[..], &b""[..]); 70_000]);
    let snappy = snap::raw::Encoder::new()
        .compress_vec(&entries(&[(b"", &header), (b"w", &bundle_entry(&[1 << 30], 0, 4 << 30))]))
        .unwrap();
    let mut unmatched = with(&bundle_entry(&[2], 0, 8));
    unmatched[3] ^= 1;
    vec![
        index("a wrong checksum", unmatched, "checksum"),
        index("no header", table(&entries(&[(b"w", &bundle_entry(&[2], 0, 8))]), 0), ""),
        index("no entries", table(&entries(&[]), 0), "no header"),
        index("version 1", table(&entries(&[(b"", &field(1, b"meta"))]), 0), "version 1"),
        index(
            "big-endian",
            table(&entries(&[(b"", &[int(1, 1), int(2, 1)].concat())]), 0),
            "big-endian",
        ),
        index("many data files", table(&entries(&[(b"", &int(1, 1 << 30))]), 0), "data files"),
        index("a length of 4 GiB", with(&bundle_entry(&[1 << 30], 0, 4 << 30)), "truncated"),
        index("the same, compressed", table(&snappy, 1), "truncated"),
        index("another length", with(&bundle_entry(&[2, 2], 0, 8)), "does not have"),
        index("a negative offset", with(&bundle_entry(&[2], u64::MAX, 8)), "negative"),
        index(
            "an offset at the end of the address space",
            with(&bundle_entry(&[2], i64::MAX as u64, 8)),
            "",
        ),
        index("dimensions that overflow", with(&bundle_entry(&[1 << 40, 1 << 40], 0, 8)), ""),
        index(
            "a data file that does not exist",
            with(&[bundle_entry(&[2], 0, 8), int(3, 9)].concat()),
            "data file 9",
        ),
        index("a snappy bomb", table(&snappy_bomb, 1), ""),
        index("unknown compression", table(&entries(&[]), 9), "compression"),
        index("a key with a prefix of nothing", table(&shared, 0), "key"),
        index("restarts past the block", table(&restarts, 0), "short"),
        index("many entries", table(&many, 0), "entries"),
        index("a handle past the file", finish_table(Vec::new(), &[vec![0xff, 0xff, 0x7f, 1]]), ""),
        index(
            "a name that is no text",
            table(&entries(&[(b"", &header), (&[0xff], b"")]), 0),
            "UTF-8",
        ),
    ]
}

fn archives() -> Vec<Case> {
    let gz = |name, bytes: Vec<u8>, text| case(name, "model.tar.gz", gzip(&bytes), text);
    let file = tar::EntryType::Regular;
    let zeros = vec![0; 96 << 20];
    let listed: Vec<u8> =
        (0..5000).flat_map(|_| tar("a.txt", file, 0, &[])[..512].to_vec()).collect();
    vec![
        gz("a bomb", tar("frozen_inference_graph.pb", file, zeros.len() as u64, &zeros), ""),
        gz("a bomb before the graph", tar("other.txt", file, zeros.len() as u64, &zeros), ""),
        gz("a bomb without an archive", zeros.clone(), ""),
        gz(
            "a long name as a bomb",
            tar("x", tar::EntryType::GNULongName, zeros.len() as u64, &zeros),
            "",
        ),
        gz(
            "a pax header as a bomb",
            tar("x", tar::EntryType::XHeader, zeros.len() as u64, &zeros),
            "",
        ),
        gz("a claim of 1 TiB", tar("frozen_inference_graph.pb", file, 1 << 40, b"\x0a\x05"), ""),
        gz("many entries", listed, "entries"),
        gz("nothing", Vec::new(), "neither"),
        gz("no weights", tar("README", file, 5, b"hello"), "neither"),
        gz("a graph that is none", tar("a.pb", file, 5, b"hello"), "a.pb"),
        gz("a saved model alone", tar("saved_model.pb", file, 3, b"\x08\x01\x12"), "neither"),
        gz("an index without data", tar("m.index", file, 48, &[0; 48]), "neither"),
        case("no gzip", "model.tar.gz", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7], ""),
    ]
}

fn run(path: &Path, case: &Case) -> Option<String> {
    let started = std::time::Instant::now();
    let (result, peak) = memory::peak_of(|| catch_unwind(AssertUnwindSafe(|| open(path))));
    let limit = (128 * case.bytes.len() + (64 << 20)).min(LIMIT);
    if peak > limit {
        return Some(format!("used {peak} bytes, the limit is {limit}"));
    }
    if started.elapsed().as_secs() > 20 {
        return Some(format!("took {:?}", started.elapsed()));
    }
    match result {
        Err(_) => Some("panicked".to_owned()),
        Ok(Ok(())) if !case.may_load => Some("loaded without an error".to_owned()),
        Ok(Ok(())) => None,
        Ok(Err(e)) => {
            let e = e.to_string();
            let data = e.contains("model.ckpt.data") && case.file == "model.ckpt.index";
            let named = e.contains(case.file) || data;
            (!named || !e.contains(case.text)).then(|| format!("...{}...: {e}", case.text))
        }
    }
}

#[test]
fn damaged_files_are_errors_that_name_the_file_within_bounded_memory() {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in unpack("graph.tar.gz") {
        if name.starts_with(DATA.split(".data").next().unwrap()) {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
    }
    let cases: Vec<Case> =
        [changed(), graphs(), tables(), archives()].into_iter().flatten().collect();
    assert!(cases.len() >= 200, "{} files", cases.len());
    let mut failures = Vec::new();
    for case in &cases {
        let path = directory.path().join(case.file);
        std::fs::write(&path, &case.bytes).unwrap();
        failures.extend(run(&path, case).map(|e| format!("{}: {e}", case.name)));
    }
    assert!(
        failures.is_empty(),
        "{} of {} files:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}
