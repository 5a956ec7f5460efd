//! Corrupt and truncated streams and false headers give errors with a location, before memory is
//! allocated for the claimed size.

use super::*;
use atrous::Size;
use atrous::image::DecodeOptions;
use atrous::video::{PixelFormat, RawFrames, read};
use std::io::Cursor;

fn refused(header: &str) -> String {
    match read(Cursor::new(header.as_bytes().to_vec()), "bad.y4m", &VideoOptions::default()) {
        Ok(_) => panic!("`{header}` was accepted"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn y4m_headers_that_lie_are_refused_with_the_reason() {
    let long = format!("YUV4MPEG2 W2 H2 X{}\n", "x".repeat(5000));
    for (header, reason) in [
        ("", "unterminated Y4M header"),
        ("YUV4MPEG2 W2 H2", "unterminated Y4M header"),
        (long.as_str(), "unterminated Y4M header"),
        ("RIFF W2 H2\n", "not a Y4M stream"),
        ("YUV4MPEG2 F25:1\n", "width and height"),
        ("YUV4MPEG2 W-2 H2\n", "width and height"),
        ("YUV4MPEG2 W0 H2\n", "no pixels"),
        ("YUV4MPEG2 W4294967295 H4294967295\n", "limit"),
        ("YUV4MPEG2 W99999999999999999999 H2\n", "width and height"),
        ("YUV4MPEG2 W100000 H100000\n", "limit"),
        ("YUV4MPEG2 W2 H2 C420p10\n", "C420p10"),
        ("YUV4MPEG2 W2 H2 C444alpha\n", "ffmpeg -i"),
    ] {
        let error = refused(header);
        assert!(error.starts_with("bad.y4m: ") && error.contains(reason), "`{header}`: {error}");
    }
    // Unknown parameters, extra spaces, and bytes that are not UTF-8.
    let odd = b"YUV4MPEG2   W2 H2 Q1 \xff\xfe A0:0 F1:0 \n".to_vec();
    assert!(read(Cursor::new(odd), "odd", &VideoOptions::default()).is_ok());
}

#[test]
fn limits_hold_for_every_kind() {
    let options = VideoOptions {
        decode: DecodeOptions { max_bytes: 1000, ..DecodeOptions::default() },
        ..VideoOptions::default()
    };
    let error = read(Cursor::new(b"YUV4MPEG2 W20 H20\n".to_vec()), "small", &options)
        .err()
        .expect("past the limit");
    assert!(error.to_string().contains("limit"), "{error}");
    let raw = RawFrames { size: Size::square(1 << 20), format: PixelFormat::Rgb24 };
    let error = read(
        Cursor::new(Vec::new()),
        "raw",
        &VideoOptions { raw: Some(raw), ..VideoOptions::default() },
    )
    .err()
    .expect("past the limit");
    assert!(error.to_string().contains("limit"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bomb.gif");
    write_numbered(&path, &info(37, 29, "25"), 2).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[6..10].copy_from_slice(&[0xff; 4]);
    std::fs::write(&path, bytes).unwrap();
    let error =
        open(&path, &VideoOptions::default()).err().expect("65535 x 65535 pixels").to_string();
    assert!(error.contains("bomb.gif") && error.contains("limit"), "{error}");
}

#[test]
fn what_is_cut_short_gives_the_frames_before_and_an_error_that_names_the_frame() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.y4m");
    write_numbered(&path, &info(37, 29, "25"), 4).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let frame = 6 + 37 * 29 + 2 * 19 * 15;
    let cuts = [
        (1, "ends in the middle"),
        (frame - 1, "ends in the middle"),
        (frame - 3, "unterminated frame header"),
    ];
    for (cut, reason) in cuts.map(|(cut, reason)| (whole.len() - cut, reason)) {
        // The last cut leaves three bytes of the frame header.
        let (_, frames, error) = drain(
            read(Cursor::new(whole[..cut].to_vec()), "cut.y4m", &VideoOptions::default()).unwrap(),
        );
        let error = error.expect("it was cut").to_string();
        assert_eq!(numbers(&frames), [0, 1, 2]);
        assert!(error.starts_with("cut.y4m: frame 4: "), "{error}");
        assert!(error.contains(reason) || cut == whole.len() - frame + 1, "{cut}: {error}");
    }
    let mut shifted = whole.clone();
    shifted.remove(whole.len() - 2 * frame + 100);
    let (_, frames, error) =
        drain(read(Cursor::new(shifted), "shifted", &VideoOptions::default()).unwrap());
    assert_eq!(frames.len(), 3);
    assert!(error.unwrap().to_string().contains("frame 4: missing FRAME marker"));

    let raw = VideoOptions {
        raw: Some(RawFrames { size: Size::new(5, 3), format: PixelFormat::Gray }),
        ..VideoOptions::default()
    };
    let (_, frames, error) = drain(read(Cursor::new(vec![0; 40]), "raw", &raw).unwrap());
    let error = error.unwrap().to_string();
    assert!(
        frames.len() == 2 && error.contains("frame 3") && error.contains("10 of 15 bytes"),
        "{error}"
    );

    let gif = dir.path().join("a.gif");
    write_numbered(&gif, &info(37, 29, "25"), 4).unwrap();
    let bytes = std::fs::read(&gif).unwrap();
    std::fs::write(&gif, &bytes[..bytes.len() - 100]).unwrap();
    let (_, frames, error) = drain(open(&gif, &VideoOptions::default()).unwrap());
    let error = error.expect("it was cut").to_string();
    assert_eq!(numbers(&frames), [0, 1, 2]);
    assert!(error.contains("a.gif: frame 4"), "{error}");
}

#[test]
fn images_of_another_size_or_none_at_all_are_named() {
    let dir = tempfile::tempdir().unwrap();
    numbered(37, 29, 0).save(dir.path().join("1.png")).unwrap();
    numbered(38, 29, 1).save(dir.path().join("2.png")).unwrap();
    let (_, frames, error) = drain(open(dir.path(), &VideoOptions::default()).unwrap());
    let error = error.expect("another size").to_string();
    assert!(
        frames.len() == 1
            && error.contains("2.png: the image has 38x29 pixels")
            && error.contains("1.png has 37x29"),
        "{error}"
    );
    std::fs::write(dir.path().join("2.png"), "no image").unwrap();
    let (_, _, error) = drain(open(dir.path(), &VideoOptions::default()).unwrap());
    assert!(error.expect("no image").to_string().contains("2.png"));
    let empty = tempfile::tempdir().unwrap();
    assert!(
        open(empty.path(), &VideoOptions::default())
            .err()
            .unwrap()
            .to_string()
            .contains("no images")
    );
}

#[test]
fn a_video_that_is_not_finished_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.y4m", "a.gif", "a.raw"] {
        let mut sink = create(dir.path().join(name), &info(37, 29, "25"), None).unwrap();
        sink.write(&Content::Image(numbered(37, 29, 0)), None).unwrap();
        let error = sink.write(&Content::Image(numbered(36, 29, 0)), None).unwrap_err().to_string();
        assert!(error.contains("36x29") && error.contains(name), "{error}");
        drop(sink);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    for (name, reason) in
        [("a.txt", "unrecognized video file extension"), ("none/such.y4m", "does not exist")]
    {
        let error = create(dir.path().join(name), &info(37, 29, "25"), None)
            .err()
            .expect("cannot be")
            .to_string();
        assert!(error.contains(name) && error.contains(reason), "{error}");
    }
    assert!(
        create(dir.path().join("a.gif"), &info(70_000, 1, "25"), None)
            .err()
            .unwrap()
            .to_string()
            .contains("65535")
    );
}
