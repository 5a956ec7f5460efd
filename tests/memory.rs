//! Memory is checked before it is allocated: work that does not fit gives an error message, and
//! work that fits is done.

mod support;

use predicates::prelude::*;
use predicates::str::contains;
use support::command::{atrous, directory, write_image as image};

/// Returns the first `WxH` after "of about".
fn advised(text: &str) -> String {
    let rest = text
        .split("of about ")
        .nth(1)
        .unwrap_or_else(|| panic!("the error suggests no size: {text}"));
    rest.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn one_image_past_the_memory_fails_alone_and_the_others_of_the_directory_are_segmented() {
    let dir = directory();
    let images = dir.path().join("images");
    std::fs::create_dir(&images).unwrap();
    for (name, side) in [("a", 60), ("b", 50), ("c", 900), ("d", 70), ("e", 40), ("f", 61)] {
        image(&images.join(format!("{name}.png")), side, side);
    }
    atrous(dir.path())
        .args([
            "segment",
            "images",
            "-w",
            "tiny.safetensors",
            "--size",
            "native",
            "--max-memory",
            "8MiB",
            "-o",
            "out/",
            "-s",
            "mask",
        ])
        .assert()
        .code(1)
        .stderr(
            contains("c.png: node `")
                .and(contains("but the memory limit leaves"))
                .and(contains("would fit, or raise `--max-memory`")),
        )
        .stderr(contains("1 of 6 images failed"));
    let written = std::fs::read_dir(dir.path().join("out")).unwrap().count();
    assert_eq!(written, 5, "all but one are written");
}

#[test]
fn the_size_that_is_said_to_fit_does() {
    let dir = directory();
    image(&dir.path().join("large.png"), 700, 500);
    let segment = |size: &str| {
        let mut command = atrous(dir.path());
        command.args([
            "segment",
            "large.png",
            "-w",
            "tiny.safetensors",
            "-o",
            "o.png",
            "-q",
            "--max-memory",
            "10MiB",
            "--size",
            size,
        ]);
        command
    };
    let refused = segment("native").assert().code(1);
    let size = advised(&String::from_utf8_lossy(&refused.get_output().stderr));
    segment(&size).assert().success();
    let sides: Vec<usize> = size.split('x').map(|side| side.parse().unwrap()).collect();
    segment(&format!("{}x{}", sides[0] * 5 / 4, sides[1] * 5 / 4)).assert().code(1);
}

/// Other systems do not report available memory.
#[cfg(target_os = "linux")]
#[test]
fn sizes_past_all_memory_are_refused_in_words() {
    let dir = directory();
    let refused = |args: &[&str]| {
        let text = atrous(dir.path()).args(args).assert().code(1);
        let text = String::from_utf8_lossy(&text.get_output().stderr).into_owned();
        assert!(text.contains("in all, but") && text.contains("would fit"), "{args:?}: {text}");
    };
    refused(&[
        "segment",
        "a.png",
        "-w",
        "tiny.safetensors",
        "--size",
        "65535x65535",
        "-o",
        "o.png",
    ]);
    refused(&["bench", "-w", "tiny.safetensors", "--size", "65535", "--batch", "65535"]);
    refused(&["bench", "--network", "xception65", "--size", "60000", "--batch", "9"]);
}

#[test]
fn raw_tensors_are_bound_by_the_limit_too() {
    let dir = directory();
    let input = [("input".to_owned(), vec![1, 3, 300, 300], vec![0.5f32; 3 * 300 * 300])];
    let path = dir.path().join("in.safetensors");
    atrous::engine::weights::write_safetensors(
        &path,
        input.to_vec(),
        &Default::default(),
        atrous::engine::weights::FloatDType::F32,
    )
    .unwrap();
    let infer = |limit: &str| {
        let mut command = atrous(dir.path());
        command.args([
            "infer",
            "-w",
            "tiny.safetensors",
            "-i",
            "in.safetensors",
            "-o",
            "out.safetensors",
            "--max-memory",
            limit,
        ]);
        command
    };
    infer("1MiB").assert().code(1).stderr(contains("an input of about"));
    infer("1GiB").assert().success();
}

/// Under a kernel limit on the address space, any allocation may be the first to fail.
#[cfg(target_os = "linux")]
#[test]
fn limits_on_the_address_space_end_in_words_and_never_in_a_signal() {
    use std::os::unix::process::ExitStatusExt;
    let dir = directory();
    image(&dir.path().join("large.png"), 2000, 1500);
    let program = assert_cmd::cargo::cargo_bin("atrous");
    let mut refused = 0;
    for kib in [50_000, 120_000, 150_000, 250_000, 400_000, 700_000] {
        for args in [
            "segment a.png -w tiny.safetensors --size 33 -o o.png",
            "segment large.png -w tiny.safetensors --size native -o o.png",
            "bench -w tiny.safetensors --size 2500 --runs 1",
        ] {
            let script = format!("ulimit -v {kib}; exec '{}' {args}", program.display());
            let done = std::process::Command::new("sh")
                .args(["-c", &script])
                .current_dir(dir.path())
                .env("ATROUS_DEVICE", "cpu")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&done.stderr);
            assert_eq!(done.status.signal(), None, "{kib} {args}: {text}");
            // With small limits the loader itself may fail.
            let fails = matches!(done.status.code(), Some(1 | 127));
            assert!(
                done.status.success() || (fails && text.contains("error")),
                "{kib} {args}: {:?} {text}",
                done.status
            );
            refused += usize::from(fails);
        }
    }
    assert!(refused >= 6, "only {refused} runs failed");
}

#[test]
fn windows_are_counted_before_the_first_one_and_too_many_are_refused() {
    let dir = directory();
    let data = dir.path().join("data");
    for (kind, file) in [("images", "a.png"), ("masks", "a.png")] {
        std::fs::create_dir_all(data.join(kind)).unwrap();
        image::GrayImage::new(400, 380).save(data.join(kind).join(file)).unwrap();
    }
    let eval = |window: &str, stride: &str| {
        let mut command = atrous(dir.path());
        command.args(["eval", "-w", "tiny.safetensors", "--data", "data", "--size", "native"]);
        command.args(["--window", window, "--stride", stride]);
        command
    };
    eval("33", "1")
        .assert()
        .code(2)
        .stderr(contains("128,064 windows in total, up to 128,064 per image, 1 forward pass each"))
        .stderr(contains("an image has 128,064 windows, each a forward pass"))
        .stderr(contains("the maximum is 100000; use a larger `--stride` or a larger `--window`"));
    eval("1", "1").assert().code(2).stderr(contains("smaller than the network's output stride"));
    eval("200", "201").assert().code(2).stderr(contains("do not cover the image"));
    eval("200", "200")
        .assert()
        .success()
        .stderr(contains("4 windows in total").and(contains("WARN").not()));
}
