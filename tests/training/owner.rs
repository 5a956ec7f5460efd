//! A run directory is locked by one process, and is left consistent however that ends.

use crate::run::{begin, data_set, ending, resume, train};
use atrous::report::{Record, read};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn spawn(args: &[String]) -> Child {
    let program = assert_cmd::cargo::cargo_bin("atrous");
    Command::new(program)
        .env("NO_COLOR", "1")
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn with(mut args: Vec<String>, extra: &[&str]) -> Vec<String> {
    args.extend(extra.iter().map(|&s| s.to_owned()));
    args
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn event_files(out: &Path) -> usize {
    fs::read_dir(out)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("tfevents"))
        .count()
}

#[test]
fn a_second_process_does_not_stop_the_training_that_is_running() {
    let root = data_set();
    let out = root.path().join("run");
    let mut first =
        spawn(&with(begin(root.path(), &out), &["--steps", "100000", "--checkpoint-every", "1"]));
    while !out.join("log.jsonl").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    for attempt in 0..6 {
        let args = if attempt % 2 == 0 { resume(&out) } else { begin(root.path(), &out) };
        let refused = spawn(&args).wait_with_output().unwrap();
        let text = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{text}");
        assert!(text.contains("is being trained by"), "{text}");
        #[cfg(unix)]
        assert!(text.contains(&format!("process {}", first.id())), "{text}");
    }
    assert!(first.try_wait().unwrap().is_none(), "still running");
    assert_eq!(event_files(&out), 1);
    // The lock ends with its process, however that ends.
    first.kill().unwrap();
    first.wait().unwrap();
    let recipe = fs::read_to_string(out.join("recipe.toml")).unwrap();
    fs::write(out.join("recipe.toml"), recipe.replace("steps = 100000\n", "steps = 1\n")).unwrap();
    train(&resume(&out)).success();
}

#[test]
fn of_two_runs_begun_at_once_one_is_refused_and_the_files_are_the_others() {
    let root = data_set();
    for attempt in 0..4 {
        let out = root.path().join(format!("run{attempt}"));
        let seeds = ["1", "2"];
        let both = seeds
            .map(|seed| spawn(&with(begin(root.path(), &out), &["--seed", seed, "--steps", "1"])));
        let pids = [both[0].id(), both[1].id()];
        let outputs = both.map(|child| child.wait_with_output().unwrap());
        let texts = [stderr(&outputs[0]), stderr(&outputs[1])];
        let codes = [outputs[0].status.code(), outputs[1].status.code()];
        let winner =
            codes.iter().position(|code| *code == Some(0)).unwrap_or_else(|| panic!("{texts:?}"));
        let loser = &texts[1 - winner];
        assert_eq!(codes[1 - winner], Some(2), "{texts:?}");
        // The loser may start after the winner is done, and find its run.
        let named = cfg!(not(unix))
            || loser.contains(&format!("is being trained by process {}", pids[winner]));
        assert!(named || loser.contains("already contains a run"), "{loser}");
        let recipe = fs::read_to_string(out.join("recipe.toml")).unwrap();
        assert!(recipe.contains(&format!("seed = {}\n", seeds[winner])), "{recipe}");
        let starts: Vec<_> =
            read(&out).unwrap().into_iter().filter(|r| matches!(r, Record::Start(_))).collect();
        let [Record::Start(start)] = &starts[..] else { panic!("one start: {starts:?}") };
        assert_eq!(start.config["seed"].to_string(), seeds[winner]);
    }
}

#[test]
fn a_run_that_is_refused_leaves_a_directory_as_it_was() {
    let root = data_set();
    let out = root.path().join("run");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("recipe.toml"), "# mine\n").unwrap();
    let done = train(&begin(root.path(), &out)).failure();
    assert!(stderr(done.get_output()).contains("would overwrite it"));
    fs::remove_file(out.join("recipe.toml")).unwrap();
    // Refused late, when the largest validation image is segmented.
    fs::write(root.path().join("valannot/p07.png"), b"no mask").unwrap();
    fs::write(root.path().join("valannot/p08.png"), b"no mask").unwrap();
    fs::write(root.path().join("valannot/p09.png"), b"no mask").unwrap();
    train(&begin(root.path(), &out)).failure();
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    train(&resume(&out)).failure();
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}

/// SIGINT, which Ctrl-C sends.
#[cfg(unix)]
fn interrupt(child: &Child) {
    Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
}

#[cfg(unix)]
fn curve(out: &Path) -> Vec<(u64, u64, u64)> {
    let step = |record| match record {
        Record::Step(r) => Some((r.step, r.loss.to_bits(), r.gradient_norm.unwrap().to_bits())),
        _ => None,
    };
    read(out).unwrap().into_iter().filter_map(step).collect()
}

#[cfg(unix)]
#[test]
fn a_run_that_is_stopped_again_and_again_ends_with_the_bits_and_the_curve_of_an_unbroken_one() {
    let root = data_set();
    let [whole, broken] = ["whole", "broken"].map(|name| root.path().join(name));
    let start = std::time::Instant::now();
    train(&with(begin(root.path(), &whole), &["--accumulate", "2"])).success();
    let time = start.elapsed();
    let mut args = with(begin(root.path(), &broken), &["--accumulate", "2"]);
    let mut rng = crate::support::Rng(3);
    for _ in 0..8 {
        let child = spawn(&args);
        std::thread::sleep(time * rng.range(10, 60) as u32 / 100);
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        let text = stderr(&output);
        match output.status.code() {
            Some(0) => {
                assert!(text.contains("stopped after step") || text.contains("done:"), "{text}")
            }
            Some(1) => assert!(text.contains("stopped before the first step"), "{text}"),
            // Before the handler is installed, the signal kills the process.
            None => {}
            code => panic!("{code:?}: {text}"),
        }
        if broken.join("checkpoint.safetensors").exists() {
            args = resume(&broken);
        }
    }
    train(&args).success();
    assert_eq!(ending(&whole), ending(&broken));
    assert_eq!(curve(&whole), curve(&broken));
    assert_eq!(curve(&whole).len(), 2);
}

#[cfg(unix)]
#[test]
fn a_checkpoint_that_is_a_link_to_another_disk_stays_one() {
    let root = data_set();
    let out = root.path().join("run");
    train(&with(begin(root.path(), &out), &["--steps", "1"])).success();
    let (link, target) = (out.join("checkpoint.safetensors"), root.path().join("elsewhere"));
    fs::rename(&link, &target).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let recipe = fs::read_to_string(out.join("recipe.toml")).unwrap();
    fs::write(out.join("recipe.toml"), recipe.replace("steps = 1\n", "steps = 2\n")).unwrap();
    let before = fs::read(&target).unwrap();
    train(&resume(&out)).success();
    assert!(fs::symlink_metadata(&link).unwrap().file_type().is_symlink());
    assert_ne!(fs::read(&target).unwrap(), before);
}
