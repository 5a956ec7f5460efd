//! The tree itself: lengths, shaders that nothing uses, documents that name what is not there,
//! paths of somebody's machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const LONGEST: usize = 500;

/// Every file of the tree with its path from the root, `/` between the parts. What git ignores is
/// left out.
fn files() -> Vec<String> {
    fn walk(directory: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap().map(|e| e.unwrap()) {
            let name = entry.file_name().into_string().unwrap();
            let ignored = [".git", "target", "__pycache__", "node_modules", "pkg"]
                .contains(&name.as_str())
                || name.ends_with(".tmp");
            if ignored || (directory == Path::new(ROOT) && name.starts_with("OUT")) {
                continue;
            }
            match entry.file_type().unwrap().is_dir() {
                true => walk(&entry.path(), out),
                false => out.push(entry.path()),
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(ROOT), &mut found);
    let relative = |p: PathBuf| p.strip_prefix(ROOT).unwrap().to_str().unwrap().replace('\\', "/");
    let mut names: Vec<String> = found.into_iter().map(relative).collect();
    names.sort();
    names
}

fn with_ending(endings: &[&str]) -> Vec<String> {
    files().into_iter().filter(|f| endings.iter().any(|e| f.ends_with(e))).collect()
}

fn text(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

#[track_caller]
fn none(what: &str, problems: &[String]) {
    assert!(problems.is_empty(), "{what}:\n  {}", problems.join("\n  "));
}

#[test]
fn no_source_file_is_longer_than_500_lines() {
    let sources = with_ending(&[".rs", ".wesl", ".wgsl"]);
    assert!(
        sources.contains(&"tests/repository.rs".to_owned()),
        "the walk does not find this file"
    );
    let lines = |file: &String| text(file).lines().count();
    let long: Vec<String> = sources
        .iter()
        .filter(|f| lines(f) > LONGEST)
        .map(|f| format!("{f}: {}", lines(f)))
        .collect();
    none("longer than 500 lines", &long);
}

/// Shaders that operations or the tuner name, and what those import, and so on.
#[test]
fn every_shader_file_is_used_by_an_operation() {
    let shaders: Vec<String> =
        with_ending(&[".wesl"]).into_iter().filter(|f| f.starts_with("shaders/")).collect();
    let name =
        |file: &str| file.trim_start_matches("shaders/").trim_end_matches(".wesl").to_owned();
    let at_work =
        |f: &&String| ["src/ops/", "src/tune/"].iter().any(|directory| f.starts_with(directory));
    let sources: Vec<String> =
        with_ending(&[".rs"]).iter().filter(at_work).map(|f| text(f)).collect();
    let named = |file: &String| sources.iter().any(|s| s.contains(&format!("\"{}\"", name(file))));
    let mut reached: BTreeSet<String> = shaders.iter().filter(|f| named(f)).cloned().collect();
    let mut left: Vec<String> = reached.iter().cloned().collect();
    while let Some(file) = left.pop() {
        let code = text(&file);
        for other in &shaders {
            let module = format!("package::{}::", name(other).replace('/', "::"));
            if code.contains(&module) && reached.insert(other.clone()) {
                left.push(other.clone());
            }
        }
    }
    let unused: Vec<String> = shaders.into_iter().filter(|f| !reached.contains(f)).collect();
    none("shaders that nothing uses", &unused);
}

/// Lines of a document's ```sh blocks, without comments behind commands.
fn commands(document: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text(document).lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside {
            found.push(line.split(" #").next().unwrap_or_default().trim().to_owned());
        }
    }
    found
}

#[test]
fn the_readme_tests_as_the_check_does() {
    let check = text(".ci/run");
    let line = check
        .lines()
        .find_map(|l| l.strip_prefix("part 'tests' "))
        .expect("a part 'tests' in .ci/run");
    for document in ["README.md", "CONTRIBUTING.md"] {
        assert!(
            commands(document).iter().any(|c| c == line),
            "{document} has no line `{line}`, which is what .ci/run tests with"
        );
    }
}

#[test]
fn documents_state_the_compiler_that_the_manifest_asks_for() {
    let version = env!("CARGO_PKG_RUST_VERSION");
    for document in ["README.md", "CONTRIBUTING.md"] {
        assert!(
            text(document).contains(&format!("Rust {version}")),
            "{document} does not say `Rust {version}`"
        );
    }
}

#[test]
fn the_readme_names_every_dialect() {
    let body = text("README.md");
    let names = atrous::weights::dialects::DIALECTS.iter().map(|d| d.name());
    let unnamed: Vec<String> =
        names.filter(|n| !body.contains(&format!("\n| `{n}` |"))).map(str::to_owned).collect();
    none("dialects without a row in README.md", &unnamed);
}

/// What the program prints when it is called with these arguments.
fn output(arguments: &[&str]) -> String {
    let run = Command::new(env!("CARGO_BIN_EXE_atrous"))
        .args(arguments)
        .output()
        .expect("the program starts");
    assert!(run.status.success(), "atrous {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).expect("help is UTF-8")
}

#[test]
fn the_readme_has_every_command_and_no_option_that_is_not_there() {
    let readme = text("README.md");
    let overview = output(&["--help"]);
    let listed =
        overview.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
    let names: Vec<&str> =
        listed.filter_map(|l| l.split_whitespace().next()).filter(|n| *n != "help").collect();
    assert!(names.contains(&"segment"), "no list of commands in:\n{overview}");
    let missing = names
        .iter()
        .filter(|n| !readme.contains(&format!("`{n}`")))
        .map(|n| format!("`{n}` is missing"));
    let mut problems: Vec<String> = missing.collect();

    let helps: String = names.iter().map(|name| output(&["help", name])).collect();
    let known: BTreeSet<&str> = options(&helps).collect();
    // Rows of the table of commands, commands to type, and what they are given.
    let (_, about) =
        readme.split_once("## What it can do").expect("the README tells what it can do");
    let (about, _) = about.split_once("\n## ").expect("more follows");
    let typed: Vec<String> = commands("README.md")
        .iter()
        .filter_map(|c| c.split_once(" -- "))
        .map(|(_, c)| c.to_owned())
        .collect();
    problems.extend(
        options(about).filter(|o| !known.contains(o)).map(|o| format!("no command takes {o}")),
    );
    for command in &typed {
        let name = command.split(' ').next().unwrap_or_default();
        if !names.contains(&name) {
            problems.push(format!("there is no command `{name}`"));
        }
        problems.extend(
            options(command)
                .filter(|o| !known.contains(o))
                .map(|o| format!("no command takes {o}")),
        );
    }
    assert!(!typed.is_empty(), "the README has no command to type");
    none("README.md", &problems);
}

/// Everything that looks like `--name`.
fn options(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.filter(|w| {
        w.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
    })
}

#[test]
fn licenses_and_changelog_go_with_the_manifest() {
    assert_eq!(env!("CARGO_PKG_LICENSE"), "MIT OR Apache-2.0");
    for file in ["LICENSE-MIT", "LICENSE-APACHE"] {
        assert!(text("README.md").contains(&format!("({file})")), "README.md does not link {file}");
    }
    let changes = text("CHANGELOG.md");
    let version = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(
        changes.contains(&version) || changes.contains("## [Unreleased]"),
        "CHANGELOG.md has no `{version}`"
    );
}

const DOCUMENTS: [&str; 11] = [
    "weights/README.md",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "tests/golden/README.md",
    "docs/benchmarks.md",
    "docs/correctness.md",
    "docs/platforms.md",
    "docs/training.md",
    "docs/video.md",
];

/// `src/..` in backticks, and the targets of relative links.
#[test]
fn documents_name_only_files_that_are_there() {
    let mut problems = Vec::new();
    for document in DOCUMENTS {
        let body = text(document);
        let here = Path::new(document).parent().unwrap();
        let ticked = body.split('`').skip(1).step_by(2).filter(|t| {
            let rooted = ["src/", "shaders/", "tests/", "examples/", "benches/", ".ci/"]
                .iter()
                .any(|top| t.starts_with(top));
            rooted && !t.contains(['*', ' ']) && !t.contains("NAME")
        });
        problems.extend(
            ticked
                .filter(|t| !Path::new(ROOT).join(t).exists())
                .map(|t| format!("{document}: `{t}`")),
        );
        let links = body.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let relative = links.filter(|l| !l.is_empty() && !l.contains("://"));
        problems.extend(
            relative
                .filter(|l| !Path::new(ROOT).join(here).join(l).exists())
                .map(|l| format!("{document}: ({l})")),
        );
    }
    none("not in the tree", &problems);
}

#[test]
fn the_architecture_names_every_part_of_the_library() {
    let body = text("ARCHITECTURE.md");
    let parts: BTreeSet<String> = with_ending(&[".rs"])
        .iter()
        .filter_map(|f| f.strip_prefix("src/"))
        .map(|f| {
            f.split_once('/')
                .map_or(format!("src/{f}"), |(directory, _)| format!("src/{directory}/"))
        })
        .filter(|p| !["src/lib.rs", "src/main.rs"].contains(&p.as_str()))
        .collect();
    let unnamed: Vec<String> =
        parts.into_iter().filter(|p| !body.contains(&format!("`{p}`"))).collect();
    none("parts that ARCHITECTURE.md does not name", &unnamed);
}

/// Absolute paths that mean something on one machine only: home directories, and where this tree
/// lies just now.
#[test]
fn no_path_of_somebodys_machine_is_in_the_tree() {
    let mut paths: Vec<String> =
        ["home", "root", "Users"].iter().map(|directory| format!("/{directory}/")).collect();
    paths.push(format!(r":\{}\", "Users"));
    // The tree and the directory around it, unless that is the root of everything.
    let around = Path::new(ROOT).ancestors().take(2).filter(|p| p.parent().is_some());
    paths.extend(around.map(|p| format!("{}{}", p.display(), std::path::MAIN_SEPARATOR)));
    let mut problems = Vec::new();
    for file in files() {
        // Images and tensors are not text.
        let Ok(body) = fs::read_to_string(Path::new(ROOT).join(&file)) else { continue };
        for (number, line) in (1..).zip(body.lines()) {
            // In `a/home/b` and `https://host/home/` the directory is in the middle of something
            // else.
            let absolute = |at: usize| {
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-*}$)/".contains(c))
            };
            let found = paths.iter().find(|p| {
                line.match_indices(p.as_str()).any(|(at, _)| p.starts_with(':') || absolute(at))
            });
            problems.extend(found.map(|p| format!("{file}:{number}: {p}")));
        }
    }
    none("paths of one machine", &problems);
}
