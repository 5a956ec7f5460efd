//! Any command under any limit on the address space: it does its work, or reports that memory is
//! insufficient.

use super::process::{atrous_within, run, tail};
use super::{content, image, nothing_hidden, nothing_lost, trials, weights};
use crate::support::Rng;
use std::path::Path;
use std::time::Duration;

fn trial(rng: &mut Rng, dir: &Path) -> Result<String, String> {
    weights(dir);
    let (width, height) = rng.pick(&[(40, 30), (480, 360), (1000, 900), (3000, 2000)]);
    image(rng, width, height).save(dir.join("a.png")).expect("an image of the trial");
    image(rng, 64, 48).save(dir.join("b.png")).expect("an image of the trial");
    let before = content(dir);
    // Log-uniform, from less than the program itself needs to more than any of these commands
    // needs.
    let kib = (30_000.0 * 400f64.powf((f64::from(rng.unit()) + 1.0) / 2.0)) as usize;
    let mut command = atrous_within(dir, kib);
    let size =
        rng.pick(&["native", "33", "513", "1500", "3000x3000", "20000x20000", "65535x65535"]);
    let what = rng.range(0, 5);
    match what {
        0 | 1 => {
            let style = rng.pick(&["mask", "overlay", "side-by-side", "cutout"]);
            command.args([
                "segment",
                "a.png",
                "b.png",
                "-w",
                "tiny.safetensors",
                "-o",
                "out",
                "--style",
                style,
                "--size",
                size,
            ]);
            if rng.range(0, 3) == 0 {
                command.arg("--probabilities");
            }
        }
        2 => drop(command.args(["inspect", "tiny.safetensors"])),
        3 => {
            let size = rng.pick(&["33", "257", "1025", "65535"]);
            let batch = rng.pick(&["1", "8", "65535"]);
            command.args(["bench", "--network", "mobilenet_v2", "--size", size, "--batch", batch]);
            if rng.range(0, 2) == 0 {
                command.arg("--train");
            }
        }
        4 => drop(command.args(["export", "tiny.safetensors", "out.pth", "--dialect", "atrous"])),
        _ => drop(command.args([
            "segment",
            "a.png",
            "-w",
            "tiny.safetensors",
            "--size",
            size,
            "--json",
        ])),
    }
    let exit = run(&mut command, Duration::from_secs(240))
        .map_err(|e| format!("{kib} KiB: {e}: {command:?}"))?;
    nothing_lost(&before, dir, &[])
        .and_then(|()| nothing_hidden(dir))
        .map_err(|e| format!("{kib} KiB: {e}: {command:?}"))?;
    match exit.code() {
        0 => Ok("done".to_owned()),
        1 | 2 => Ok("refused".to_owned()),
        // The loader failed before the program started.
        127 => Ok("not started".to_owned()),
        code => Err(format!("{kib} KiB: rc {code}: {command:?}: {}", tail(&exit.stderr_text()))),
    }
}

#[test]
#[ignore = "slow: random trials, see tests/trials/main.rs"]
fn memory() {
    trials("memory", 100, trial);
}
