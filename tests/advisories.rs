//! Checks Cargo.lock for versions affected by a security advisory. Works offline, with the
//! advisories in .ci/advisories.

use semver::{Version, VersionReq};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Directory of the advisories.
const DIRECTORY: &str = ".ci/advisories";

/// An advisory in RustSec's format: a TOML block in Markdown, then the title.
#[derive(Debug, Deserialize)]
struct Advisory {
    advisory: Metadata,
    versions: Versions,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    id: String,
    package: String,
    date: String,
    url: String,
    withdrawn: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Versions {
    patched: Vec<VersionReq>,
    #[serde(default)]
    unaffected: Vec<VersionReq>,
}

#[derive(Debug, Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: Version,
}

#[derive(Debug, Deserialize)]
struct Deny {
    advisories: Exceptions,
}

#[derive(Debug, Deserialize)]
struct Exceptions {
    ignore: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
struct Exception {
    id: String,
    reason: String,
}

impl Advisory {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix("```toml\n").ok_or("does not start with a TOML block")?;
        let (toml, markdown) = text.split_once("\n```\n").ok_or("unterminated TOML block")?;
        let title = markdown.trim_start().lines().next().and_then(|line| line.strip_prefix("# "));
        title.filter(|title| !title.trim().is_empty()).ok_or("has no title")?;
        toml::from_str(toml).map_err(|e| e.to_string())
    }

    fn affects(&self, package: &Package) -> bool {
        let matches =
            |ranges: &[VersionReq]| ranges.iter().any(|range| range.matches(&package.version));
        self.advisory.package == package.name
            && self.advisory.withdrawn.is_none()
            && !matches(&self.versions.patched)
            && !matches(&self.versions.unaffected)
    }
}

/// Returns the id of the advisory and the package of each hit.
fn hits<'a>(advisories: &'a [Advisory], lock: &'a Lock) -> Vec<(&'a str, &'a Package)> {
    let pairs = advisories.iter().flat_map(|a| lock.package.iter().map(move |p| (a, p)));
    pairs.filter(|(a, p)| a.affects(p)).map(|(a, p)| (a.advisory.id.as_str(), p)).collect()
}

/// Returns the problems of a lock file and how to fix them.
fn problems(advisories: &[Advisory], lock: &Lock, exceptions: &[Exception]) -> Vec<String> {
    let hits = hits(advisories, lock);
    let mut problems = Vec::new();
    for (id, p) in &hits {
        if !exceptions.iter().any(|e| e.id == *id) {
            problems.push(format!(
                "{} {} is affected by {id}: update it, or add a reason to `ignore` in deny.toml",
                p.name, p.version
            ));
        }
    }
    for e in exceptions {
        if !hits.iter().any(|(id, _)| *id == e.id) {
            problems.push(format!(
                "{} no longer affects any package: remove it from `ignore` in deny.toml",
                e.id
            ));
        }
    }
    for e in exceptions {
        if e.reason.trim().len() < 20 {
            problems.push(format!("{} is ignored without a reason", e.id));
        }
    }
    for a in advisories {
        if !lock.package.iter().any(|p| p.name == a.advisory.package) {
            problems.push(format!(
                "{} is about {}, which is not in Cargo.lock: delete it",
                a.advisory.id, a.advisory.package
            ));
        }
    }
    problems
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Reads the advisories of the repository. Panics with the name of an invalid file.
fn advisories() -> Vec<Advisory> {
    let entries = fs::read_dir(Path::new(ROOT).join(DIRECTORY))
        .unwrap_or_else(|e| panic!("{DIRECTORY}: {e}"));
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let files = names.iter().filter(|name| *name != "README.md");
    let advisory = |name: &String| {
        let advisory = Advisory::parse(&read(&format!("{DIRECTORY}/{name}")))
            .unwrap_or_else(|e| panic!("{DIRECTORY}/{name}: {e}"));
        let metadata = &advisory.advisory;
        assert_eq!(*name, format!("{}.md", metadata.id), "the file name must be the id");
        assert!(
            metadata.url.starts_with("https://") && metadata.date.len() == 10,
            "{name}: {metadata:?}"
        );
        advisory
    };
    files.map(advisory).collect()
}

#[test]
fn no_version_in_the_lock_file_is_affected_by_an_advisory() {
    let lock: Lock = toml::from_str(&read("Cargo.lock")).unwrap();
    let deny: Deny = toml::from_str(&read("deny.toml")).unwrap();
    let advisories = advisories();
    assert!(advisories.len() > 10 && lock.package.len() > 100, "files are missing");
    let ids: BTreeSet<&str> = advisories.iter().map(|a| a.advisory.id.as_str()).collect();
    assert_eq!(ids.len(), advisories.len());
    let problems = problems(&advisories, &lock, &deny.advisories.ignore);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

const PLANTED: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2025-9999\"\npackage = \"planted\"\ndate = \"2025-01-01\"\n\
    url = \"https://example.org\"\n\n[versions]\npatched = [\">= 1.2.3, < 2.0.0\", \"^2.0.1\"]\nunaffected = [\"< 1.1.0\"]\n```\n\n# It is planted\n";

fn lock(version: &str) -> Lock {
    toml::from_str(&format!("[[package]]\nname = \"planted\"\nversion = \"{version}\"\n")).unwrap()
}

#[test]
fn a_planted_advisory_is_found_until_the_version_is_patched_or_a_reason_is_given() {
    let planted = [Advisory::parse(PLANTED).unwrap()];
    for (version, affected) in [
        ("1.0.9", false),
        ("1.1.0", true),
        ("1.2.2", true),
        ("1.2.3", false),
        ("1.99.0", false),
        ("2.0.0", true),
        ("2.0.1", false),
    ] {
        let lock = lock(version);
        assert_eq!(!hits(&planted, &lock).is_empty(), affected, "{version}");
    }
    let exception =
        |reason: &str| [Exception { id: "RUSTSEC-2025-9999".into(), reason: reason.into() }];
    let reason = exception("it is planted, and never called");
    assert_eq!(
        problems(&planted, &lock("1.1.0"), &[]),
        [
            "planted 1.1.0 is affected by RUSTSEC-2025-9999: update it, or add a reason to `ignore` in deny.toml"
        ]
    );
    assert_eq!(problems(&planted, &lock("1.1.0"), &reason), [""; 0]);
    assert!(problems(&planted, &lock("1.1.0"), &exception(""))[0].contains("without a reason"));
    assert!(
        problems(&planted, &lock("1.2.3"), &reason)[0].contains("no longer affects any package")
    );
    let other: Lock =
        toml::from_str("[[package]]\nname = \"other\"\nversion = \"1.1.0\"\n").unwrap();
    assert!(problems(&planted, &other, &[])[0].contains("is not in Cargo.lock"));
}

#[test]
fn withdrawn_advisories_are_ignored_and_invalid_ones_rejected() {
    let withdrawn = PLANTED.replace("url = ", "withdrawn = \"2025-02-01\"\nurl = ");
    assert!(hits(&[Advisory::parse(&withdrawn).unwrap()], &lock("1.1.0")).is_empty());
    for (text, words) in [
        ("# no metadata\n", "does not start with a TOML block"),
        ("```toml\n[advisory]\n", "unterminated"),
        (&PLANTED.replace("# It is planted", ""), "has no title"),
        (&PLANTED.replace("^2.0.1", "nonsense"), "patched"),
        (&PLANTED.replace("package", "crate"), "package"),
    ] {
        let error = Advisory::parse(text).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}
