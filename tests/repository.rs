//! Checks of the repository: file lengths, unused shaders, references in documents to missing
//! files, absolute paths of a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MAX_LINES: usize = 500;

/// Returns the paths of all files that git does not ignore, relative to the root, with `/` as the
/// separator.
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
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), out);
            } else {
                out.push(entry.path());
            }
        }
    }
    let mut paths = Vec::new();
    walk(Path::new(ROOT), &mut paths);
    let relative = |p: PathBuf| p.strip_prefix(ROOT).unwrap().to_str().unwrap().replace('\\', "/");
    let mut names: Vec<String> = paths.into_iter().map(relative).collect();
    names.sort();
    names
}

fn with_extension(extensions: &[&str]) -> Vec<String> {
    files().into_iter().filter(|f| extensions.iter().any(|e| f.ends_with(e))).collect()
}

fn text(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

#[track_caller]
fn assert_none(description: &str, problems: &[String]) {
    assert!(problems.is_empty(), "{description}:\n  {}", problems.join("\n  "));
}

#[test]
fn no_source_file_is_longer_than_500_lines() {
    let sources = with_extension(&[".rs", ".wesl", ".wgsl"]);
    assert!(sources.contains(&"tests/repository.rs".to_owned()), "the walk misses this file");
    let lines = |file: &String| text(file).lines().count();
    let long: Vec<String> = sources
        .iter()
        .filter(|f| lines(f) > MAX_LINES)
        .map(|f| format!("{f}: {}", lines(f)))
        .collect();
    assert_none("longer than 500 lines", &long);
}

const MAX_FUNCTION_LINES: usize = 60;
const MAX_NESTING: usize = 5;

/// Functions that are longer, and why.
const LONG_FUNCTIONS: &[(&str, &str)] = &[("step", "one arm for each opcode of a pickle")];

/// A function of a source file, as rustfmt lays it out: the body ends at the line with a brace as
/// far to the right as the function's first line.
struct Function<'t> {
    name: &'t str,
    line: usize,
    body: Vec<&'t str>,
}

fn functions(text: &str) -> Vec<Function<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    let starts = (0..lines.len()).filter_map(|at| {
        let (before, rest) = lines[at].split_once("fn ")?;
        let is_start = before.split_whitespace().all(|word| {
            word.starts_with("pub") || ["const", "async", "unsafe", "in"].contains(&word)
        });
        let name = rest.split(['(', '<']).next()?;
        (is_start && !before.contains('"')).then_some((at, name))
    });
    starts
        .map(|(at, name)| {
            let indent = lines[at].len() - lines[at].trim_start().len();
            let is_end =
                |line: &str| line.trim() == "}" && line.len() - line.trim_start().len() == indent;
            let length = if lines[at].ends_with('}') || lines[at].ends_with(';') {
                1
            } else {
                lines[at..].iter().position(|line| is_end(line)).map_or(1, |end| end + 1)
            };
            Function { name, line: at + 1, body: lines[at..at + length].to_vec() }
        })
        .collect()
}

/// Returns the number of braces that are open at the deepest place inside the body.
fn nesting(body: &[&str]) -> usize {
    let (mut open, mut deepest) = (0usize, 0);
    for line in body {
        let code = line.split("//").next().unwrap_or_default();
        // Braces in strings come in pairs: placeholders of formats.
        for c in code.chars() {
            match c {
                '{' => open += 1,
                '}' => open = open.saturating_sub(1),
                _ => {}
            }
            deepest = deepest.max(open);
        }
    }
    deepest.saturating_sub(1)
}

#[test]
fn functions_are_short_and_flat_or_say_why() {
    let mut problems = Vec::new();
    for file in with_extension(&[".rs"]).iter().filter(|f| f.starts_with("src/")) {
        let body = text(file);
        for Function { name, line, body } in functions(&body) {
            let is_listed = LONG_FUNCTIONS.iter().any(|(listed, _)| *listed == name);
            if body.len() > MAX_FUNCTION_LINES && !is_listed {
                problems.push(format!("{file}:{line}: {name} has {} lines", body.len()));
            }
            if nesting(&body) > MAX_NESTING {
                problems.push(format!("{file}:{line}: {name} is {} deep", nesting(&body)));
            }
        }
    }
    assert_none("functions to split", &problems);
}

/// A shader is used if an operation or the tuner names it, or if a used shader imports it.
#[test]
fn every_shader_file_is_used_by_an_operation() {
    let shaders: Vec<String> =
        with_extension(&[".wesl"]).into_iter().filter(|f| f.starts_with("shaders/")).collect();
    let name =
        |file: &str| file.trim_start_matches("shaders/").trim_end_matches(".wesl").to_owned();
    let uses_shaders =
        |f: &&String| ["src/ops/", "src/tune/"].iter().any(|directory| f.starts_with(directory));
    let sources: Vec<String> =
        with_extension(&[".rs"]).iter().filter(uses_shaders).map(|f| text(f)).collect();
    let is_named =
        |file: &String| sources.iter().any(|s| s.contains(&format!("\"{}\"", name(file))));
    let mut used: BTreeSet<String> = shaders.iter().filter(|f| is_named(f)).cloned().collect();
    let mut queue: Vec<String> = used.iter().cloned().collect();
    while let Some(file) = queue.pop() {
        let code = text(&file);
        for other in &shaders {
            let module = format!("package::{}::", name(other).replace('/', "::"));
            if code.contains(&module) && used.insert(other.clone()) {
                queue.push(other.clone());
            }
        }
    }
    let unused: Vec<String> = shaders.into_iter().filter(|f| !used.contains(f)).collect();
    assert_none("unused shaders", &unused);
}

/// Returns the lines of the ```sh blocks of a document, without trailing comments.
fn commands(document: &str) -> Vec<String> {
    let mut in_block = false;
    let mut commands = Vec::new();
    for line in text(document).lines() {
        if line.starts_with("```") {
            in_block = line == "```sh";
        } else if in_block {
            commands.push(line.split(" #").next().unwrap_or_default().trim().to_owned());
        }
    }
    commands
}

#[test]
fn the_readme_tests_as_the_check_does() {
    let check = text(".ci/run");
    let line = check
        .lines()
        .find_map(|l| l.strip_prefix("part 'tests' "))
        .expect("the step 'tests' in .ci/run");
    for document in ["README.md", "CONTRIBUTING.md"] {
        assert!(
            commands(document).iter().any(|c| c == line),
            "{document} has no line `{line}`, the test command of .ci/run"
        );
    }
}

#[test]
fn documents_state_the_compiler_that_the_manifest_asks_for() {
    let version = env!("CARGO_PKG_RUST_VERSION");
    for document in ["README.md", "CONTRIBUTING.md"] {
        assert!(
            text(document).contains(&format!("Rust {version}")),
            "{document} does not contain `Rust {version}`"
        );
    }
}

#[test]
fn the_readme_names_every_dialect() {
    let body = text("README.md");
    let names = atrous::engine::weights::dialects::DIALECTS.iter().map(|d| d.name());
    let unnamed: Vec<String> =
        names.filter(|n| !body.contains(&format!("\n| `{n}` |"))).map(str::to_owned).collect();
    assert_none("dialects without a row in README.md", &unnamed);
}

/// Returns the standard output of the program with these arguments.
fn output(arguments: &[&str]) -> String {
    let run = Command::new(env!("CARGO_BIN_EXE_atrous"))
        .args(arguments)
        .output()
        .expect("could not start the program");
    assert!(run.status.success(), "atrous {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).expect("help is UTF-8")
}

#[test]
fn the_readme_has_every_command_and_only_existing_options() {
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
    // Options in the table of commands, and in the examples.
    let (_, overview) =
        readme.split_once("## What it can do").expect("the README has this section");
    let (overview, _) = overview.split_once("\n## ").expect("another section follows");
    let examples: Vec<String> = commands("README.md")
        .iter()
        .filter_map(|c| c.split_once(" -- "))
        .map(|(_, c)| c.to_owned())
        .collect();
    let unknown_options = |text: &str| -> Vec<String> {
        options(text)
            .filter(|o| !known.contains(o))
            .map(|o| format!("unknown option {o}"))
            .collect()
    };
    problems.extend(unknown_options(overview));
    for command in &examples {
        let name = command.split(' ').next().unwrap_or_default();
        if !names.contains(&name) {
            problems.push(format!("unknown command `{name}`"));
        }
        problems.extend(unknown_options(command));
    }
    assert!(!examples.is_empty(), "the README has no example");
    assert_none("README.md", &problems);
}

/// Returns all words of the form `--name`.
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

const DOCUMENTS: [&str; 16] = [
    "weights/README.md",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "tests/golden/README.md",
    "docs/benchmarks.md",
    "docs/correctness.md",
    "docs/evaluation.md",
    "docs/hub.md",
    "docs/images.md",
    "docs/multi-adds.md",
    "docs/platforms.md",
    "docs/training.md",
    "docs/video.md",
    "docs/weights.md",
];

/// Checks `src/..` in backticks, and the targets of relative links.
#[test]
fn documents_refer_only_to_existing_files() {
    let mut problems = Vec::new();
    for document in DOCUMENTS {
        let body = text(document);
        let here = Path::new(document).parent().unwrap();
        let paths = body.split('`').skip(1).step_by(2).filter(|t| {
            let is_path = ["src/", "shaders/", "tests/", "examples/", "benches/", ".ci/"]
                .iter()
                .any(|top| t.starts_with(top));
            is_path && !t.contains(['*', ' ']) && !t.contains("NAME")
        });
        problems.extend(
            paths
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
    assert_none("missing files", &problems);
}

#[test]
fn the_architecture_names_every_module_of_the_library() {
    let body = text("ARCHITECTURE.md");
    let modules: BTreeSet<String> = with_extension(&[".rs"])
        .iter()
        .filter_map(|f| f.strip_prefix("src/"))
        .map(|f| {
            f.split_once('/')
                .map_or(format!("src/{f}"), |(directory, _)| format!("src/{directory}/"))
        })
        .filter(|p| !["src/lib.rs", "src/main.rs"].contains(&p.as_str()))
        .collect();
    let unnamed: Vec<String> =
        modules.into_iter().filter(|p| !body.contains(&format!("`{p}`"))).collect();
    assert_none("modules that ARCHITECTURE.md does not name", &unnamed);
}

/// Returns the rows of the table of recipe keys: section (empty for the first), key, default.
fn documented_recipe_keys() -> Vec<(String, String, String)> {
    let body = text("docs/training.md");
    let (_, table) = body.split_once("| key | default | meaning |\n").expect("the table of keys");
    let mut section = String::new();
    let mut keys = Vec::new();
    for row in table.lines().skip(1).take_while(|row| row.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let names = cells[0].split('`').skip(1).step_by(2);
        if let Some(name) = cells[0].strip_prefix("**`[") {
            section = name.trim_end_matches("]`**").to_owned();
        } else {
            keys.extend(names.map(|n| (section.clone(), n.to_owned(), cells[1].replace('`', ""))));
        }
    }
    keys
}

/// Returns the keys of a recipe, with their sections, and whether each has a value.
fn recipe_keys(recipe: &atrous::train::Recipe) -> BTreeMap<(String, String), bool> {
    let json = serde_json::to_value(recipe).expect("a recipe is JSON");
    let sections = ["network", "data", "augmentation", "decay", "optimizer", "groups"]
        .into_iter()
        .chain(["norm_momentum", "loss", "mining"]);
    let top = json.as_object().expect("an object").clone();
    let mut keys = BTreeMap::new();
    for section in sections {
        let fields = top[section].as_object().into_iter().flatten();
        keys.extend(fields.map(|(k, v)| ((section.to_owned(), k.clone()), !v.is_null())));
    }
    let is_section = |key: &String| keys.keys().any(|(section, _)| section == key);
    let plain: Vec<_> = top.iter().filter(|(k, _)| !is_section(k) && *k != "mining").collect();
    keys.extend(plain.into_iter().map(|(k, v)| ((String::new(), k.clone()), !v.is_null())));
    keys
}

#[test]
fn the_training_guide_has_every_recipe_key_and_its_default() {
    let documented = documented_recipe_keys();
    let defaults = atrous::train::Recipe::default();
    // The settings that exclude the default ones.
    let others = "[decay]\nkind = \"step\"\nevery = 1\nfactor = 0.1\n[mining]\ntop = 0.5\n\
                  [optimizer]\nkind = \"adamw\"\nbetas = [0.9, 0.999]\neps = 1e-8\n";
    let others = atrous::train::Recipe::parse(others).expect("a valid recipe");
    let default_keys = recipe_keys(&defaults);
    let known: BTreeSet<_> =
        default_keys.keys().cloned().chain(recipe_keys(&others).into_keys()).collect();
    let named: BTreeSet<_> = documented.iter().map(|(s, k, _)| (s.clone(), k.clone())).collect();
    assert_eq!(named, known, "keys in docs/training.md, and those of a recipe");

    // The defaults as a recipe are the default recipe.
    let is_value = |cell: &str| cell != "none" && !cell.starts_with("of ");
    let mut recipe = String::new();
    for (section, key, default) in &documented {
        let has_value = default_keys.get(&(section.clone(), key.clone())).copied();
        if has_value.is_some() {
            assert_eq!(Some(is_value(default)), has_value, "default of `{key}`: {default}");
        }
        if has_value == Some(true) {
            let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
            recipe += &format!("{path} = {default}\n");
        }
    }
    let recipe = atrous::train::Recipe::parse(&recipe).unwrap_or_else(|e| panic!("{recipe}\n{e}"));
    assert_eq!(recipe, defaults);
}

/// Checks for absolute paths that are valid on one machine only: home directories, and the location
/// of this repository.
#[test]
fn no_absolute_path_of_a_machine_is_in_the_tree() {
    let mut paths: Vec<String> =
        ["home", "root", "Users"].iter().map(|directory| format!("/{directory}/")).collect();
    paths.push(format!(r":\{}\", "Users"));
    // The repository and its parent directory, unless that is the root of the file system or the
    // directory of temporary files, which tests may name.
    let is_own = |p: &&Path| p.parent().is_some() && *p != std::env::temp_dir();
    let directories = Path::new(ROOT).ancestors().take(2).filter(is_own);
    paths.extend(directories.map(|p| format!("{}{}", p.display(), std::path::MAIN_SEPARATOR)));
    let mut problems = Vec::new();
    for file in files() {
        // Images and tensors are not text.
        let Ok(body) = fs::read_to_string(Path::new(ROOT).join(&file)) else { continue };
        for (number, line) in (1..).zip(body.lines()) {
            // In `a/home/b` and `https://host/home/` the directory is part of a longer path.
            let is_absolute = |at: usize| {
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-*}$)/".contains(c))
            };
            let path = paths.iter().find(|p| {
                line.match_indices(p.as_str()).any(|(at, _)| p.starts_with(':') || is_absolute(at))
            });
            problems.extend(path.map(|p| format!("{file}:{number}: {p}")));
        }
    }
    assert_none("absolute paths of a machine", &problems);
}
