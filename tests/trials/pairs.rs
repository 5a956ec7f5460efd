//! Two concurrent processes: a run has one owner, and outputs are complete whichever process wrote
//! last.

use super::process::{Running, atrous, run, tail};
use super::{content, image, nothing_hidden, nothing_lost, trials, weights};
use crate::support::Rng;
use std::fs;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// Arguments of a training run of a second or two on [`data_set`].
pub const TRAIN: &[&str] = &[
    "train",
    "-q",
    "--data",
    "data",
    "--backbone",
    "mobilenet_v2_0.1",
    "--crop",
    "33",
    "--batch",
    "2",
    "--steps",
    "16",
    "--recipe",
    "recipe.toml",
];

/// Writes six images with masks of two classes, and a recipe that saves every second step.
pub fn data_set(rng: &mut Rng, dir: &Path) {
    for directory in ["data/train", "data/trainannot", "data/val", "data/valannot"] {
        fs::create_dir_all(dir.join(directory)).expect("directories of the data set");
    }
    fs::write(dir.join("data/classes.txt"), "0 ground 90 60 30\n1 sky 60 120 220\n")
        .expect("the classes");
    fs::write(dir.join("recipe.toml"), "checkpoint_every = 2\nevaluate_every = 8\n")
        .expect("the recipe");
    for n in 0..6 {
        let split = if n < 4 { "train" } else { "val" };
        image(rng, 48, 40).save(dir.join(format!("data/{split}/p{n}.png"))).expect("an image");
        let mask = image::GrayImage::from_fn(48, 40, |_, y| image::Luma([u8::from(y < 15 + n)]));
        mask.save(dir.join(format!("data/{split}annot/p{n}.png"))).expect("a mask");
    }
}

fn start(dir: &Path, seed: &str, resume: bool) -> Running {
    let mut command = atrous(dir);
    if resume {
        command.args(["train", "--resume", "-q", "--out", "run"]);
    } else {
        command.args(TRAIN).args(["--out", "run", "--seed", seed]);
    }
    Running::start(&mut command)
}

/// Starts or resumes two training runs in one directory: one does its work, the other is refused or
/// runs after it.
fn trainings(rng: &mut Rng, dir: &Path) -> Result<String, String> {
    data_set(rng, dir);
    let resumes = rng.range(0, 1) == 0;
    if resumes {
        let first = start(dir, "1", false);
        std::thread::sleep(Duration::from_millis(rng.range(800, 2000) as u64));
        first.signal("TERM");
        first.end(LIMIT)?;
    }
    let resumes = resumes && dir.join("run/checkpoint.safetensors").exists();
    let one = start(dir, "1", resumes);
    std::thread::sleep(Duration::from_millis(rng.pick(&[0, 0, 20, 300, 900])));
    let two = start(dir, "2", resumes);
    let interrupted = rng.range(0, 2) == 0;
    if interrupted {
        std::thread::sleep(Duration::from_millis(rng.range(0, 200) as u64));
        two.signal("KILL");
    }
    let (one, two) = (one.end(LIMIT)?, two.end(LIMIT)?);
    if one.code() != 0 && two.code() != 0 && !interrupted {
        return Err(format!(
            "both failed: {} / {}",
            tail(&one.stderr_text()),
            tail(&two.stderr_text())
        ));
    }
    // The loser did not touch the winner's files: they are consistent, and the run is complete or
    // can be resumed.
    let mut again = atrous(dir);
    again.args(["train", "--resume", "-q", "--out", "run"]);
    if dir.join("run/checkpoint.safetensors").exists() {
        let resumed = run(&mut again, LIMIT)?;
        if resumed.code() != 0 {
            return Err(format!("cannot be resumed: {}", tail(&resumed.stderr_text())));
        }
        let text = fs::read_to_string(dir.join("run/recipe.toml")).map_err(|e| e.to_string())?;
        let recipe = text.lines().find_map(|l| l.strip_prefix("seed = ")?.parse::<u64>().ok());
        let log = fs::read_to_string(dir.join("run/log.jsonl")).map_err(|e| e.to_string())?;
        let first = log.lines().next().unwrap_or_default();
        let record: serde_json::Value =
            serde_json::from_str(first).map_err(|e| format!("{first}: {e}"))?;
        if recipe.is_none() || record["config"]["seed"].as_u64() != recipe {
            return Err(format!(
                "recipe.toml has seed {recipe:?}, the log {}",
                record["config"]["seed"]
            ));
        }
        let steps: Vec<u64> = log
            .lines()
            .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok())
            .filter(|r| r["kind"] == "step")
            .filter_map(|r| r["step"].as_u64())
            .collect();
        if !steps.is_sorted_by(|a, b| a < b) || steps.last() != Some(&16) {
            return Err(format!("steps in the log: {steps:?}"));
        }
    }
    nothing_hidden(dir)?;
    Ok(format!(
        "trainings{} rc {} {}",
        if resumes { " resumed" } else { "" },
        one.code(),
        two.code()
    ))
}

/// Runs `segment` twice with the same outputs: both succeed, and the outputs are complete.
fn segments(rng: &mut Rng, dir: &Path) -> Result<String, String> {
    weights(dir);
    for n in 0..6 {
        image(rng, 60, 50).save(dir.join(format!("p{n}.png"))).expect("an image of the trial");
    }
    let before = content(dir);
    let begin = || {
        let mut command = atrous(dir);
        command.args(["segment", "*.png", "-w", "tiny.safetensors", "--size", "33", "-o", "out/"]);
        Running::start(&mut command)
    };
    let (one, two) = (begin(), begin());
    let (one, two) = (one.end(LIMIT)?, two.end(LIMIT)?);
    nothing_lost(&before, dir, &[]).and_then(|()| nothing_hidden(dir))?;
    if (one.code(), two.code()) != (0, 0) {
        return Err(format!(
            "rc {} {}: {} {}",
            one.code(),
            two.code(),
            tail(&one.stderr_text()),
            tail(&two.stderr_text())
        ));
    }
    for n in 0..6 {
        image::open(dir.join(format!("out/p{n}.png"))).map_err(|e| format!("p{n}.png: {e}"))?;
    }
    Ok("segments".to_owned())
}

#[test]
#[ignore = "slow: random trials, see tests/trials/main.rs"]
fn pairs() {
    trials("pairs", 60, |rng, dir| {
        if rng.range(0, 3) == 0 { segments(rng, dir) } else { trainings(rng, dir) }
    });
}
