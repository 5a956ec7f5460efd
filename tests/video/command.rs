//! `atrous segment` on videos, as a process.

pub(super) use super::support::command::atrous;
use super::*;
use crate::support::models::write_tiny;
use assert_cmd::Command;
use atrous::image::LabelMap;
use atrous::video::read;
use predicates::prelude::*;
use predicates::str::contains;
use std::io::Cursor;
use std::time::Duration;

pub(super) fn segment(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = atrous(directory);
    command.arg("segment").args(arguments).args(["--weights", "tiny.safetensors"]);
    command
}

/// A fresh directory with `tiny.safetensors`.
pub(super) fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    write_tiny(&directory.path().join("tiny.safetensors"));
    directory
}

/// Returns the frame number from the left half of a side-by-side frame.
fn left_number(frame: &Frame) -> usize {
    number_of(&frame.image)
}

pub(super) fn in_order(frames: &[Frame], count: usize) {
    assert_eq!(frames.iter().map(left_number).collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
}

#[test]
fn sixty_frames_give_sixty_frames_in_order_with_the_right_rate() {
    let dir = directory();
    let (w, h) = (45, 35);
    write_numbered(&dir.path().join("video.y4m"), &info(w, h, "30000/1001"), 60).unwrap();
    segment(dir.path(), &["video.y4m", "-o", "out/both.y4m", "--style", "side-by-side"])
        .assert()
        .success()
        .stdout(
            contains("video.y4m (45x35, 30000/1001 fps) -> out/both.y4m: 60 frames in")
                .and(contains("background")),
        );
    let (info, frames) = read_all(&dir.path().join("out/both.y4m"), &VideoOptions::default());
    assert_eq!(
        (info.width, info.height, info.frame_rate.to_string().as_str()),
        (2 * w, h, "30000/1001")
    );
    in_order(&frames, 60);
}

#[test]
#[cfg_attr(not(has_ffmpeg), ignore = "needs ffmpeg")]
fn containers_through_ffmpeg_keep_sixty_frames_too() {
    let dir = directory();
    write_numbered(&dir.path().join("video.mp4"), &info(64, 48, "24000/1001"), 60).unwrap();
    segment(dir.path(), &["video.mp4", "--style", "side-by-side"])
        .assert()
        .success()
        .stdout(contains("60 frames in"));
    let (info, frames) =
        read_all(&dir.path().join("video-side-by-side.mp4"), &VideoOptions::default());
    assert_eq!((info.width, info.frame_rate.to_string().as_str()), (128, "24000/1001"));
    in_order(&frames, 60);
    segment(dir.path(), &["video.mp4", "-s", "mask", "-o", "m.mp4"])
        .assert()
        .code(2)
        .stderr(contains(".mkv"));
}

#[test]
fn without_ffmpeg_containers_are_refused_with_what_to_do() {
    let dir = directory();
    std::fs::write(dir.path().join("video.mp4"), b"\0\0\0\x18ftypisom").unwrap();
    write_numbered(&dir.path().join("video.y4m"), &info(45, 35, "25"), 2).unwrap();
    let run = |arguments: &[&str]| {
        segment(dir.path(), arguments).env("PATH", dir.path()).assert().code(1)
    };
    run(&["video.mp4"]).stderr(
        contains("video.mp4: the program `ffmpeg` is needed for this kind of video, but is not installed")
            .and(contains("ffmpeg -i VIDEO")),
    );
    run(&["video.y4m", "-o", "out.mp4"])
        .stderr(contains("out.mp4: the program `ffmpeg`").and(contains("write a .y4m")));
    assert!(!dir.path().join("out.mp4").exists());
}

/// The masks of a video equal the masks of its frames segmented as images.
#[test]
fn masks_of_frames_are_masks_of_the_images() {
    let dir = directory();
    std::fs::create_dir(dir.path().join("shots")).unwrap();
    for number in 1..=12 {
        numbered(45, 35, number).save(dir.path().join(format!("shots/s{number:02}.png"))).unwrap();
    }
    segment(dir.path(), &["shots/s%02d.png", "-s", "mask", "-o", "masks/"]).assert().success();
    segment(dir.path(), &["shots", "--fps", "10", "-s", "mask", "-o", "masks.y4m"])
        .assert()
        .success();
    segment(dir.path(), &["shots", "-s", "mask", "-o", "images/"]).assert().success();
    let stream = std::fs::read(dir.path().join("masks.y4m")).unwrap();
    assert!(stream.starts_with(b"YUV4MPEG2 W45 H35 F10:1 Ip A1:1 Cmono"));
    let mut decoder = y4m::decode(Cursor::new(stream)).unwrap();
    let mut classes = std::collections::HashSet::new();
    for number in 1..=12 {
        let expected =
            LabelMap::read(dir.path().join(format!("images/s{number:02}.png")), None).unwrap();
        assert_eq!(
            LabelMap::read(dir.path().join(format!("masks/{number:06}.png")), None).unwrap(),
            expected,
            "frame {number}"
        );
        let labels: Vec<u16> =
            decoder.read_frame().unwrap().get_y_plane().iter().map(|&v| v.into()).collect();
        assert_eq!(labels, expected.labels, "frame {number}");
        classes.extend(labels);
    }
    assert!(classes.len() > 1, "the tiny network predicts more than one class");
}

#[test]
fn streams_go_in_and_out_and_messages_beside_them() {
    let dir = directory();
    let (w, h) = (46, 35);
    let raw: Vec<u8> = (0..7).flat_map(|n| numbered(w, h, n).rgb).collect();
    let run = |extra: &[&str]| {
        let arguments = [
            &["-", "--raw-size", "46x35", "--pixel-format", "rgb24", "--fps", "30", "-o", "-"],
            extra,
        ]
        .concat();
        let done = segment(dir.path(), &arguments).write_stdin(raw.clone()).assert().success();
        done.stderr(contains("7 frames in").and(contains("background"))).get_output().stdout.clone()
    };
    let (info_read, frames, error) = drain(
        read(Cursor::new(run(&["-s", "side-by-side"])), "out", &VideoOptions::default()).unwrap(),
    );
    assert!(error.is_none() && info_read.frame_rate.to_string() == "30");
    in_order(&frames, 7);
    assert_eq!(run(&["-s", "mask", "--raw-output"]).len(), 7 * w * h);
    assert_eq!(run(&["--raw-output"]).len(), 7 * w * h * 3);

    write_numbered(&dir.path().join("video.y4m"), &info(w, h, "25"), 5).unwrap();
    let stream = std::fs::read(dir.path().join("video.y4m")).unwrap();
    let arguments =
        ["-", "-o", "part.y4m", "--frames", "2..5", "--every", "2", "-s", "side-by-side", "--json"];
    let done = segment(dir.path(), &arguments).write_stdin(stream).assert().success();
    let report: serde_json::Value =
        serde_json::from_slice(&done.get_output().stdout).expect("the report is JSON");
    let video = &report["video"];
    assert_eq!(
        (&video["frames"], &video["rate"], &video["stopped"]),
        (&2.into(), &"25/2".into(), &false.into())
    );
    let shares: f64 =
        video["classes"].as_array().unwrap().iter().map(|c| c["share"].as_f64().unwrap()).sum();
    let pixels: u64 =
        video["classes"].as_array().unwrap().iter().map(|c| c["pixels"].as_u64().unwrap()).sum();
    assert!(
        (shares - 1.0).abs() < 1e-9 && pixels == (2 * w * h) as u64,
        "all frames together: {shares}, {pixels}"
    );
    let (_, frames) = read_all(&dir.path().join("part.y4m"), &VideoOptions::default());
    assert_eq!(frames.iter().map(left_number).collect::<Vec<_>>(), [1, 3]);
}

/// `atrous .. -o - | head`.
#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    use std::io::Read;
    use std::process::Stdio;
    let dir = directory();
    write_numbered(&dir.path().join("video.y4m"), &info(45, 35, "25"), 60).unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_atrous"))
        .args([
            "segment",
            "video.y4m",
            "-w",
            "tiny.safetensors",
            "-o",
            "-",
            "--raw-output",
            "--device",
            "cpu",
        ])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = vec![0; 1000];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(
        done.status.success() && !String::from_utf8_lossy(&done.stderr).contains("error"),
        "{done:?}"
    );
}

#[test]
fn animations_become_animations_with_their_times() {
    let dir = directory();
    let times = [70, 400, 90].map(Duration::from_millis);
    let mut sink = create(dir.path().join("a.gif"), &info(45, 35, "25"), None).unwrap();
    for (number, time) in times.iter().enumerate() {
        sink.write(&Content::Image(numbered(45, 35, number)), Some(*time)).unwrap();
    }
    sink.finish().unwrap();
    segment(dir.path(), &["a.gif", "-s", "side-by-side"]).assert().success();
    segment(dir.path(), &["a.gif", "-s", "side-by-side", "-o", "frames/"]).assert().success();
    let (_, frames) = read_all(&dir.path().join("a-side-by-side.gif"), &VideoOptions::default());
    in_order(&frames, 3);
    assert_eq!(frames.iter().map(|f| f.duration.unwrap()).collect::<Vec<_>>(), times);
    in_order(&read_all(&dir.path().join("frames"), &VideoOptions::default()).1, 3);

    // For an image output, animations are refused without --first-frame.
    segment(dir.path(), &["a.gif", "-o", "a.png"])
        .assert()
        .code(1)
        .stderr(contains("a.gif: animation of 3 frames").and(contains("--first-frame")));
    segment(dir.path(), &["a.gif", "-o", "a.png", "--first-frame"]).assert().success();
    assert!(dir.path().join("a.png").exists());
}

#[test]
fn a_video_that_breaks_off_gives_its_frames_and_an_error() {
    let dir = directory();
    let path = dir.path().join("video.y4m");
    write_numbered(&path, &info(45, 35, "25"), 4).unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    segment(dir.path(), &["video.y4m", "-o", "out.y4m", "-s", "side-by-side"])
        .assert()
        .code(1)
        .stdout(contains("3 frames in"))
        .stderr(contains(
            "after 3 frames, which were written to out.y4m: video.y4m: frame 4: the stream ends",
        ));
    in_order(&read_all(&dir.path().join("out.y4m"), &VideoOptions::default()).1, 3);

    std::fs::write(&path, &whole[..200]).unwrap();
    segment(dir.path(), &["video.y4m", "-o", "none.y4m"])
        .assert()
        .code(1)
        .stderr(contains("frame 1"));
    std::fs::write(&path, b"YUV4MPEG2 W45 H35 F25:1\n").unwrap();
    segment(dir.path(), &["video.y4m", "-o", "none.y4m"])
        .assert()
        .code(1)
        .stderr(contains("no frame"));
    assert!(!dir.path().join("none.y4m").exists(), "no file without frames");
}

#[test]
fn arguments_that_contradict_each_other_are_refused() {
    let dir = directory();
    write_numbered(&dir.path().join("video.y4m"), &info(45, 35, "25"), 1).unwrap();
    numbered(45, 35, 1).save(dir.path().join("a.png")).unwrap();
    let cases: [(&[&str], &str); 11] = [
        (&["video.y4m", "video.y4m", "--every", "2"], "only one video"),
        (&["-", "a.png"], "only one video"),
        (&["video.y4m", "-o", "out.png"], "unsupported video output format"),
        (&["video.y4m", "-o", "video.y4m"], "is an input and would be replaced by"),
        (&["video.y4m", "--fps", "30"], "this video has a frame rate"),
        (&["video.y4m", "--probabilities"], "--probabilities"),
        (&["a.png", "--frames", "1..2"], "is not a video"),
        (&["-"], "this input needs an output"),
        (&["video.y4m", "--frames", "3..2"], "invalid frame range"),
        (&["video.y4m", "--every", "0"], "--every"),
        (&["video.y4m", "--pixel-format", "rgb24"], "--raw-size"),
    ];
    for (arguments, reason) in cases {
        segment(dir.path(), arguments).write_stdin("").assert().code(2).stderr(contains(reason));
    }
    segment(dir.path(), &["video.y4m", "a.png", "-o", "out/"]).assert().code(1).stderr(
        contains("video.y4m: expected an image, found a video").and(contains("one at a time")),
    );
    assert!(dir.path().join("out/a.png").exists(), "the image is still segmented");
    segment(dir.path(), &["none.y4m"]).assert().code(1).stderr(contains("none.y4m"));
    segment(dir.path(), &["-", "-o", "x.y4m"])
        .write_stdin("no video")
        .assert()
        .code(1)
        .stderr(contains("standard input"));
}
