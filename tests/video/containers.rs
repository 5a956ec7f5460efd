//! Containers, through ffmpeg if it is installed.

use super::*;
use atrous::Size;
use atrous::image::{ClassTable, LabelMap};
use std::process::Command;

#[test]
#[cfg_attr(not(has_ffmpeg), ignore = "needs ffmpeg")]
fn containers_keep_frames_order_and_the_exact_rate() {
    let dir = tempfile::tempdir().unwrap();
    for (name, w, h, rate) in [
        ("a.mp4", 64, 48, "30000/1001"),
        ("odd.mkv", 61, 47, "25"),
        ("a.avi", 64, 48, "12.5"),
        ("a.webm", 64, 48, "30"),
    ] {
        let path = dir.path().join(name);
        write_numbered(&path, &info(w, h, rate), 12).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (info_read, frames) = read_all(&path, &VideoOptions::default());
        assert_eq!(info_read.frame_rate, rate.parse().unwrap(), "{name}");
        assert_eq!((info_read.width, info_read.height), (w + w % 2, h + h % 2), "{name}");
        assert_eq!(numbers(&frames), (0..12).collect::<Vec<_>>(), "{name}");
        let estimated = info_read.frames.expect("ffprobe comes with ffmpeg");
        assert!(estimated.abs_diff(12) <= 1, "{name}: {estimated} frames estimated");
        // Codecs lose detail, but a wrong matrix or range changes the mean.
        let mean =
            |p: &Image| p.rgb.iter().map(|&v| f64::from(v)).sum::<f64>() / p.rgb.len() as f64;
        let (got, expected) =
            (mean(&frames[5].image), mean(&numbered(info_read.width, info_read.height, 5)));
        assert!((got - expected).abs() < 6.0, "{name}: mean {got:.1}, expected {expected:.1}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "no temporary file is left");
}

/// Large areas of pure colors survive both matrices, at sizes on both sides of the threshold at
/// which players change the matrix.
#[test]
#[cfg_attr(not(has_ffmpeg), ignore = "needs ffmpeg")]
fn colors_come_back_from_containers() {
    let dir = tempfile::tempdir().unwrap();
    for (w, h) in [(64, 48), (1280, 16)] {
        let path = dir.path().join(format!("{w}.mkv"));
        let colors = [[200, 40, 40], [40, 200, 40], [40, 40, 200], [128, 128, 128]];
        let mut sink = create(&path, &info(w, h, "25"), None).unwrap();
        for _ in 0..3 {
            let rgb = (0..w * h).flat_map(|i| colors[i % w * 4 / w]).collect();
            sink.write(&Content::Image(Image::new(Size::new(w, h), rgb).unwrap()), None).unwrap();
        }
        sink.finish().unwrap();
        let (_, frames) = read_all(&path, &VideoOptions::default());
        for (area, expected) in colors.iter().enumerate() {
            let at = 3 * (h / 2 * w + w / 8 + area * w / 4);
            let got = &frames[1].image.rgb[at..at + 3];
            // Quantization at quality 23 and two roundings of the matrix.
            assert!(
                got.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 8),
                "{w}: {got:?}, expected {expected:?}"
            );
        }
    }
}

#[test]
#[cfg_attr(not(has_ffmpeg), ignore = "needs ffmpeg")]
fn masks_go_into_containers_without_loss_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let refused = create(dir.path().join("m.mp4"), &info(5, 3, "25"), Some(&ClassTable::voc()))
        .err()
        .expect("lossy")
        .to_string();
    assert!(refused.contains("m.mp4") && refused.contains(".mkv"), "{refused}");
    let path = dir.path().join("m.mkv");
    let mask = LabelMap::new(Size::new(5, 3), (0..15).collect()).unwrap();
    let mut sink = create(&path, &info(5, 3, "25"), Some(&ClassTable::voc())).unwrap();
    sink.write(&Content::Mask(mask.clone()), None).unwrap();
    sink.finish().unwrap();
    let output = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-i"])
        .arg(&path)
        .args(["-f", "rawvideo", "-"])
        .output()
        .unwrap();
    assert_eq!(
        output.stdout,
        (0..15).collect::<Vec<u8>>(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Written with ffmpeg, because no dependency writes animated WebP.
#[test]
#[cfg_attr(not(has_ffmpeg), ignore = "needs ffmpeg")]
fn animated_webp_is_read_with_its_times() {
    let dir = tempfile::tempdir().unwrap();
    let (video, path) = (dir.path().join("a.y4m"), dir.path().join("a.webp"));
    write_numbered(&video, &info(64, 48, "25"), 6).unwrap();
    let mut command = Command::new("ffmpeg");
    command.args(["-loglevel", "error", "-i"]).arg(&video).args([
        "-c:v",
        "libwebp_anim",
        "-lossless",
        "1",
        "-loop",
        "0",
    ]);
    if !command.arg(&path).output().unwrap().status.success() {
        println!("skipped: this ffmpeg writes no WebP");
        return;
    }
    let (info_read, frames) = read_all(&path, &VideoOptions::default());
    assert_eq!(
        (numbers(&frames), info_read.frame_rate.to_string().as_str()),
        (vec![0, 1, 2, 3, 4, 5], "25")
    );
    assert_eq!(
        (info_read.frames, frames[3].duration),
        (Some(6), Some(std::time::Duration::from_millis(40)))
    );
}

#[test]
fn what_ffmpeg_says_about_damaged_containers_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.mp4");
    std::fs::write(&path, b"\0\0\0\x18ftypisom\0\0\0\0isommp42 and nothing more").unwrap();
    let missing =
        open(dir.path().join("none.mp4"), &VideoOptions::default()).err().unwrap().to_string();
    assert!(missing.contains("none.mp4: could not be opened"), "{missing}");
    if !cfg!(has_ffmpeg) {
        let error = open(&path, &VideoOptions::default()).err().unwrap().to_string();
        assert!(error.contains("not installed") && error.contains("install ffmpeg"), "{error}");
        return;
    }
    let error = open(&path, &VideoOptions::default()).err().unwrap().to_string();
    assert!(error.contains("bad.mp4") && error.contains("ffmpeg failed: "), "{error}");
}
