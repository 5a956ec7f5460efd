use super::*;
use crate::files::atomic_write;
use proptest::prelude::*;
use std::io::Write;

/// What is said about one output beside one input.
fn said(input: &Path, output: &Path) -> Option<String> {
    let mut outputs = OutputCheck::new("name another");
    outputs.reads(input, "an input");
    outputs.writes(output, "the mask").err().map(|e| e.to_string())
}

#[test]
fn an_input_is_recognized_however_the_output_is_spelled() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("d")).unwrap();
    fs::write(at("a.png"), "a").unwrap();
    fs::hard_link(at("a.png"), at("hard.png")).unwrap();
    let mut spellings = vec!["a.png", "./a.png", "d/../a.png", "hard.png"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("a.png", at("soft.png")).unwrap();
        std::os::unix::fs::symlink(".", at("here")).unwrap();
        spellings.extend(["soft.png", "here/a.png", "here/here/soft.png"]);
    }
    for spelled in spellings {
        let error =
            said(&at("a.png"), &at(spelled)).unwrap_or_else(|| panic!("{spelled} was accepted"));
        assert!(
            error.contains("is an input") && error.contains("replaced by the mask; name another"),
            "{error}"
        );
        assert!(said(&at(spelled), &at("a.png")).is_some(), "{spelled} as the input");
    }
    assert_eq!(said(&at("a.png"), &at("b.png")), None);
    assert_eq!(said(&at("a.png"), &at("d/a.png")), None);
}

#[test]
fn an_input_that_is_not_there_yet_is_one_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    assert!(said(&at("new/a.png"), &at("new/x/../a.png")).is_some());
    #[cfg(unix)]
    {
        fs::create_dir(at("real")).unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        std::os::unix::fs::symlink("real/later.png", at("dangling.png")).unwrap();
        assert!(said(&at("real/a.png"), &at("link/a.png")).is_some());
        assert!(said(&at("link/new/a.png"), &at("real/new/a.png")).is_some());
        assert!(
            said(&at("real/later.png"), &at("dangling.png")).is_some(),
            "the link would lead there once it exists"
        );
    }
}

#[test]
fn two_outputs_in_one_place_are_refused_with_both_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut outputs = OutputCheck::new("name another");
    outputs.writes(&dir.path().join("x.png"), "the mask of a.jpg").unwrap();
    let error =
        outputs.writes(&dir.path().join("./x.png"), "the mask of b.jpg").unwrap_err().to_string();
    assert!(error.contains("x.png: would be written twice: as the mask of a.jpg"), "{error}");
    assert!(error.contains("and as the mask of b.jpg; name another"), "{error}");
}

/// What the file system of this machine does, whichever it is.
#[test]
fn names_that_differ_in_case_alone_are_one_file_where_the_file_system_says_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Probe"), "").unwrap();
    let one = dir.path().join("pROBE").exists();
    let mut outputs = OutputCheck::new("name another");
    outputs.writes(&dir.path().join("out/a.png"), "the mask of a.jpg").unwrap();
    assert_eq!(outputs.writes(&dir.path().join("out/A.png"), "the mask of A.jpg").is_err(), one);
    outputs.ignoring_case.values_mut().for_each(|ignores| *ignores = true);
    assert!(outputs.writes(&dir.path().join("OUT/a.PNG"), "the mask of x.jpg").is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of the probe");
}

#[test]
fn a_directory_with_frames_or_an_input_takes_no_frames() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["numbered", "mixed", "free"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::write(at("numbered/000003.png"), "").unwrap();
    fs::write(at("mixed/shot1.png"), "").unwrap();
    fs::write(at("free/tiny.safetensors"), "").unwrap();
    let mut outputs = OutputCheck::new("name another");
    outputs.reads(&at("mixed/shot1.png"), "an input");
    outputs.reads(&at("free/tiny.safetensors"), "the weight file");
    let error = outputs.writes_frames(&at("numbered")).unwrap_err().to_string();
    assert!(
        error.contains("numbered: already contains frames, such as 000003.png; empty it"),
        "{error}"
    );
    let error = outputs.writes_frames(&at("free/../mixed/")).unwrap_err().to_string();
    assert!(error.contains("shot1.png, which is an input; name another directory"), "{error}");
    outputs.writes_frames(&at("free")).unwrap();
    outputs.writes_frames(&at("none/such")).unwrap();
}

#[cfg(unix)]
#[test]
fn devices_may_be_written_to_by_all() {
    let mut outputs = OutputCheck::new("name another");
    outputs.writes(Path::new("/dev/null"), "the mask of a.png").unwrap();
    outputs.writes(Path::new("/dev/null"), "the mask of b.png").unwrap();
}

/// Paths in a tree with directories, links of both kinds, and names in two cases, some of which are
/// there.
#[cfg(unix)]
fn spelled() -> impl Strategy<Value = String> {
    let directory = prop::sample::select(vec![
        "", "./", "d/", "link/", "d/../", "link/../", "new/", "new/../", "d/./",
    ]);
    let name = prop::sample::select(vec![
        "a.png",
        "b.png",
        "A.png",
        "soft.png",
        "hard.png",
        "dangling.png",
        "c.png",
    ]);
    (directory, name).prop_map(|(directory, name)| format!("{directory}{name}"))
}

#[cfg(unix)]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is accepted is then written for real, the way that commands write: every input
    /// still has its content, and every output its own.
    #[test]
    fn what_is_accepted_destroys_nothing(inputs in prop::collection::vec(spelled(), 1..4), wanted in prop::collection::vec(spelled(), 1..4)) {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        symlink("d", at("link")).unwrap();
        for name in ["a.png", "d/a.png", "b.png"] {
            fs::write(at(name), name).unwrap();
        }
        symlink("../b.png", at("d/soft.png")).unwrap();
        symlink("d/a.png", at("soft.png")).unwrap();
        symlink("d/c.png", at("dangling.png")).unwrap();
        fs::hard_link(at("a.png"), at("d/hard.png")).unwrap();

        let mut outputs = OutputCheck::new("name another");
        inputs.iter().for_each(|input| outputs.reads(&at(input), "an input"));
        let before: Vec<_> = inputs.iter().map(|input| fs::read(at(input)).ok()).collect();
        if wanted.iter().all(|output| outputs.writes(&at(output), "an output").is_ok()) {
            for (number, output) in wanted.iter().enumerate() {
                let path = at(output);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                atomic_write(&path, |w| write!(w, "output {number}")).unwrap();
            }
            for (number, output) in wanted.iter().enumerate() {
                prop_assert_eq!(fs::read(at(output)).unwrap(), format!("output {number}").into_bytes(), "{}", output);
            }
            for (input, before) in inputs.iter().zip(&before).filter(|(_, before)| before.is_some()) {
                prop_assert_eq!(&fs::read(at(input)).ok(), before, "{}", input);
            }
        }
    }
}
