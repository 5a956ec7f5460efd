//! Signals at random moments: work that can be finished is finished, and no partial or hidden files
//! are left.

use super::process::{Running, atrous, run, tail};
use super::{content, image, nothing_hidden, nothing_lost, trials, weights};
use crate::support::{Rng, ending_signals};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// Creates a Y4M stream of `frames` gray frames.
fn y4m(width: usize, height: usize, frames: usize) -> Vec<u8> {
    let mut bytes = format!("YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n").into_bytes();
    for frame in 0..frames {
        bytes.extend(b"FRAME\n");
        bytes.extend(std::iter::repeat_n((frame % 200) as u8, width * height));
        bytes.extend(std::iter::repeat_n(128, 2 * width.div_ceil(2) * height.div_ceil(2)));
    }
    bytes
}

/// Returns an error if a Y4M file does not end with a complete frame.
fn check_whole_frames(path: &Path) -> Result<(), String> {
    let Ok(bytes) = fs::read(path) else { return Ok(()) };
    let header = bytes.iter().position(|&b| b == b'\n').ok_or("no header in the output")?;
    let text = String::from_utf8_lossy(&bytes[..header]).into_owned();
    let number = |key: char| {
        text.split(' ')
            .find_map(|part| part.strip_prefix(key))
            .and_then(|n| n.parse::<usize>().ok())
    };
    let (Some(w), Some(h)) = (number('W'), number('H')) else {
        return Err(format!("header {text}"));
    };
    let frame = 6 + if text.contains("Cmono") {
        w * h
    } else if text.contains("C444") {
        3 * w * h
    } else {
        w * h + 2 * w.div_ceil(2) * h.div_ceil(2)
    };
    if (bytes.len() - header - 1).is_multiple_of(frame) {
        Ok(())
    } else {
        Err(format!("{text}: a frame was cut"))
    }
}

fn video(rng: &mut Rng, dir: &Path) -> Result<String, String> {
    weights(dir);
    fs::write(dir.join("in.y4m"), y4m(64, 48, 400)).expect("a video of the trial");
    let before = content(dir);
    let out = rng.pick(&["out.y4m", "out.gif", "frames/", "out.mkv", "-"]);
    let stalled = rng.range(0, 2) == 0;
    let mut command = atrous(dir);
    command.args([
        "segment",
        if stalled { "-" } else { "in.y4m" },
        "-w",
        "tiny.safetensors",
        "--size",
        "33",
        "-o",
        out,
    ]);
    command.args(["--style", rng.pick(&["overlay", "mask"])]);
    if stalled {
        command.stdin(Stdio::piped());
    }
    let mut running = Running::start(&mut command);
    // Kept open, so that the stream stalls after some frames and never ends.
    let mut stream = running.child.stdin.take();
    if let Some(stream) = &mut stream {
        let bytes = y4m(64, 48, rng.range(0, 30));
        let cut = if rng.range(0, 1) == 0 { bytes.len() } else { rng.range(0, bytes.len()) };
        let _ = stream.write_all(&bytes[..cut]).and_then(|()| stream.flush());
    }
    std::thread::sleep(Duration::from_millis(rng.range(0, 900) as u64));
    let signal = rng.pick(ending_signals());
    running.signal(signal);
    if rng.range(0, 3) == 0 {
        std::thread::sleep(Duration::from_millis(rng.range(0, 50) as u64));
        running.signal(rng.pick(ending_signals()));
    }
    let exit = running.end(LIMIT).map_err(|e| format!("{signal}, {e}: {command:?}"))?;
    drop(stream);
    let checks = nothing_lost(&before, dir, &[])
        .and_then(|()| nothing_hidden(dir))
        .and_then(|()| check_whole_frames(&dir.join("out.y4m")));
    checks.map_err(|e| format!("{signal}: {e}: {command:?}"))?;
    Ok(format!("video {signal} rc {}", exit.code()))
}

fn images(rng: &mut Rng, dir: &Path) -> Result<String, String> {
    weights(dir);
    for n in 0..40 {
        image(rng, 60, 50).save(dir.join(format!("p{n:02}.png"))).expect("an image of the trial");
    }
    let before = content(dir);
    let mut command = atrous(dir);
    command.args([
        "segment",
        "*.png",
        "-w",
        "tiny.safetensors",
        "--size",
        "65",
        "-o",
        "out/",
        "--probabilities",
    ]);
    let running = Running::start(&mut command);
    std::thread::sleep(Duration::from_millis(rng.range(0, 700) as u64));
    let signal = rng.pick(ending_signals());
    running.signal(signal);
    let exit = running.end(LIMIT).map_err(|e| format!("{signal}, {e}: {command:?}"))?;
    nothing_lost(&before, dir, &[])
        .and_then(|()| nothing_hidden(dir))
        .map_err(|e| format!("{signal}: {e}: {command:?}"))?;
    for path in content(&dir.join("out").canonicalize().unwrap_or(dir.to_owned()))
        .keys()
        .filter(|p| p.extension().is_some_and(|e| e == "png"))
    {
        image::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(format!("images {signal} rc {}", exit.code()))
}

fn training(rng: &mut Rng, dir: &Path) -> Result<String, String> {
    super::pairs::data_set(rng, dir);
    let mut command = atrous(dir);
    command.args(super::pairs::TRAIN).args(["--out", "run", "--seed", "1"]);
    let running = Running::start(&mut command);
    std::thread::sleep(Duration::from_millis(rng.range(0, 2500) as u64));
    let signal = rng.pick(&[ending_signals(), &["KILL"]].concat());
    running.signal(signal);
    let exit = running.end(LIMIT).map_err(|e| format!("training, {signal}, {e}"))?;
    let run_dir = dir.join("run");
    if signal != "KILL" {
        nothing_hidden(dir).map_err(|e| format!("training, {signal}: {e}"))?;
    }
    if run_dir.join("checkpoint.safetensors").exists() {
        let mut resume = atrous(dir);
        resume.args(["train", "--resume", "--out", "run", "-q"]);
        let resumed = run(&mut resume, Duration::from_secs(120))
            .map_err(|e| format!("resumed after {signal}: {e}"))?;
        if resumed.code() != 0 {
            return Err(format!(
                "resumed after {signal}: rc {}: {}",
                resumed.code(),
                tail(&resumed.stderr_text())
            ));
        }
        nothing_hidden(dir).map_err(|e| format!("resumed after {signal}: {e}"))?;
    }
    Ok(format!("training {signal} rc {}", exit.code()))
}

#[test]
#[ignore = "slow: random trials, see tests/trials/main.rs"]
fn signals() {
    trials("signals", 120, |rng, dir| match rng.range(0, 5) {
        0 => training(rng, dir),
        1 | 2 => images(rng, dir),
        _ => video(rng, dir),
    });
}
