//! The layers of the library: a module imports only from modules below it, and only `gpu` and
//! `exec/gpu` use the types of wgpu and naga. ARCHITECTURE.md explains the order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `src/` from the top to the bottom; modules of one line do not import each other.
const LAYERS: &[&[&str]] = &[
    // Users: the command line and the browser.
    &["cli", "web"],
    // Training, evaluation and the front door.
    &["train"],
    &["report"],
    &["eval", "live"],
    &["segmenter"],
    &["onnx"],
    &["data", "hub"],
    // Networks and their weights.
    &["weights"],
    &["models"],
    // From a graph to results. An executor runs a plan, so plans are below executors.
    &["pipeline"],
    &["tune"],
    &["exec"],
    &["plan", "passes"],
    &["gpu"],
    &["ops"],
    &["graph"],
    // Files and numbers.
    &["video"],
    &["image"],
    &["tensor"],
    &["random", "memory"],
    &["files"],
    &["thread", "geometry"],
    &["error"],
    &["text"],
];

/// Directories whose files may name types of wgpu and naga.
const GPU_DIRECTORIES: &[&str] = &["src/gpu/", "src/exec/gpu/"];

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A source file: its path from the root of the tree, its module below the crate, and its code
/// without comments and tests.
struct Source {
    path: String,
    module: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    walk(&Path::new(ROOT).join("src"), &mut files);
    files.sort();
    files.iter().map(|path| source(path)).collect()
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn source(path: &Path) -> Source {
    let text = fs::read_to_string(path).expect("a source file");
    let path =
        path.strip_prefix(ROOT).expect("a path in the tree").to_string_lossy().replace('\\', "/");
    let module =
        path.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default().to_owned();
    // Files that only tests include are named so; test modules stand at the end of a file.
    let code = if path.ends_with("_tests.rs") { "" } else { &text };
    let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    Source { path, module, code: lines.collect::<Vec<_>>().join("\n") }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The modules of the crate that code imports: after `crate::`, and inside `crate::{...}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(first_segments(group)),
            None => found.extend(first_segments(rest).into_iter().next()),
        }
    }
    found
}

/// The first segment of each path in a group, up to its closing brace.
fn first_segments(group: &str) -> Vec<String> {
    let (mut depth, mut segments, mut at_start) = (0, vec![String::new()], true);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                segments.push(String::new());
                at_start = true;
            }
            c if depth == 0 && at_start && (c.is_alphanumeric() || c == '_') => {
                segments.last_mut().expect("never empty").push(c);
            }
            c if c.is_whitespace() => {}
            _ => at_start = false,
        }
    }
    segments.retain(|segment| !segment.is_empty());
    segments
}

#[test]
fn a_module_imports_only_from_modules_below_it() {
    let mut problems: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources() {
        let Some(own) = layer(&source.module) else { continue };
        for import in imports(&source.code) {
            let upward =
                layer(&import).is_some_and(|other| other <= own && import != source.module);
            if upward {
                let edge = format!("{} -> {import}", source.module);
                problems.entry(edge).or_default().push(source.path.clone());
            }
        }
    }
    assert!(problems.is_empty(), "imports from the same layer or from above: {problems:#?}");
}

#[test]
fn every_module_has_a_layer() {
    let listed: BTreeSet<String> =
        LAYERS.iter().flat_map(|layer| layer.iter().map(|m| (*m).to_owned())).collect();
    let present: BTreeSet<String> = sources()
        .into_iter()
        .map(|s| s.module)
        .filter(|m| !["lib", "main", "engine"].contains(&m.as_str()))
        .collect();
    assert_eq!(listed, present);
}

#[test]
fn only_the_modules_for_gpus_use_wgpu_and_naga() {
    let uses = |code: &str| ["wgpu::", "naga::"].iter().any(|name| code.contains(name));
    let is_for_gpus = |path: &str| GPU_DIRECTORIES.iter().any(|d| path.starts_with(d));
    let others = sources().into_iter().filter(|s| !is_for_gpus(&s.path) && uses(&s.code));
    let others: Vec<String> = others.map(|s| s.path).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use crate::graph::{Graph, ops};\nuse crate::{Shape, error::Result, image::{self, Fit}};\ncrate::text::path(p)";
    let found: Vec<String> = imports(code).into_iter().collect();
    assert_eq!(found, ["Shape", "error", "graph", "image", "text"]);
}
