//! Written videos are read back with the same frames, order and frame rate.

use super::*;
use atrous::Size;
use atrous::image::{ClassTable, LabelMap};
use atrous::video::{PixelFormat, RawFrames, Selection, read, select, write_to};
use std::fs::File;
use std::io::Cursor;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn y4m_keeps_frames_order_and_rate_at_odd_and_even_sizes() {
    let dir = tempfile::tempdir().unwrap();
    for (w, h, rate) in [(37, 29, "30000/1001"), (48, 32, "25"), (36, 7, "12.5")] {
        let path = dir.path().join(format!("{w}x{h}.y4m"));
        write_numbered(&path, &info(w, h, rate), 5).unwrap();
        let (info_read, frames) = read_all(&path, &VideoOptions::default());
        assert_eq!(
            (info_read.width, info_read.height, info_read.frame_rate),
            (w, h, rate.parse().unwrap())
        );
        assert_eq!(info_read.frames, Some(5), "derived from the file length");
        assert_eq!(numbers(&frames), [0, 1, 2, 3, 4], "{w} x {h}");
        // The gradient changes slowly, so chroma subsampling has little effect away from the
        // squares: at most half the step between neighbors (255 / 7 rows in the lowest image), and
        // 3 for rounding.
        let bound = 3 + (255 / w.min(h - SIDE) / 2) as u8;
        for (number, frame) in frames.iter().enumerate() {
            let (got, expected) = (&frame.image, numbered(w, h, number));
            let below = 3 * w * (SIDE + 2)..;
            if let (Some(got), Some(expected)) =
                (got.rgb.get(below.clone()), expected.rgb.get(below))
            {
                let max_difference =
                    got.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
                assert!(
                    max_difference <= bound,
                    "frame {number} of {w} x {h} differs by {max_difference}, more than {bound}"
                );
            }
        }
    }
}

/// Compares with the crate `y4m`, an independent implementation of the format.
#[test]
fn y4m_is_what_another_reader_and_writer_make_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ours.y4m");
    write_numbered(&path, &info(37, 29, "30000/1001"), 3).unwrap();
    let mut decoder = y4m::decode(File::open(&path).unwrap()).unwrap();
    let rate = decoder.get_framerate();
    assert_eq!(
        (decoder.get_width(), decoder.get_height(), rate.num, rate.den),
        (37, 29, 30000, 1001)
    );
    for number in 0..3 {
        let frame = decoder.read_frame().unwrap();
        let white = frame.get_y_plane()[SIDE / 2 * 37 + SIDE / 2];
        assert_eq!(white, if number % 2 == 1 { 235 } else { 16 }, "frame {number}");
        assert_eq!(frame.get_u_plane().len(), 19 * 15);
    }
    assert!(matches!(decoder.read_frame(), Err(y4m::Error::EOF)));

    // A red frame in each plane layout.
    use y4m::Colorspace::*;
    for (kind, chroma) in [
        (C420, 19 * 15),
        (C420jpeg, 19 * 15),
        (C420paldv, 19 * 15),
        (C420mpeg2, 19 * 15),
        (C422, 19 * 29),
        (C444, 37 * 29),
        (Cmono, 0),
    ] {
        let mut bytes = Vec::new();
        let mut encoder = y4m::encode(37, 29, y4m::Ratio::new(24, 1))
            .with_colorspace(kind)
            .write_header(&mut bytes)
            .unwrap();
        let (y, u, v) = (vec![81; 37 * 29], vec![90; chroma], vec![240; chroma]);
        for _ in 0..2 {
            encoder.write_frame(&y4m::Frame::new([&y, &u, &v], None)).unwrap();
        }
        let (info, frames, error) =
            drain(read(Cursor::new(bytes), "theirs", &VideoOptions::default()).unwrap());
        assert!(error.is_none() && frames.len() == 2, "{kind:?}");
        assert_eq!(info.frame_rate.to_string(), "24");
        // Y = 81, Cb = 90, Cr = 240 is red in BT.601; without chroma, the gray is (81 - 16) * 255 /
        // 219.
        let expected = if chroma == 0 { [76, 76, 76] } else { [254, 0, 0] };
        let near = |p: &[u8]| p.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 1);
        assert!(
            frames[1].image.rgb.chunks_exact(3).all(near),
            "{kind:?}: {:?}",
            &frames[1].image.rgb[..3]
        );
    }
}

#[test]
fn the_range_and_the_matrix_are_taken_from_header_and_size() {
    let gray = |header: &str, value: u8, size: usize| {
        let mut bytes = format!("YUV4MPEG2 {header}\nFRAME Ip\n").into_bytes();
        bytes.resize(bytes.len() + size, value);
        let (info, frames, _) =
            drain(read(Cursor::new(bytes), "gray", &VideoOptions::default()).unwrap());
        (info, frames[0].image.rgb[0])
    };
    assert_eq!(gray("W2 H2 F25:1 C420jpeg XCOLORRANGE=FULL", 128, 6).1, 128);
    let (small, value) = gray("W2 H2 F0:0", 128, 6);
    assert_eq!(value, 130, "(128 - 16) * 255 / 219");
    assert_eq!(small.frame_rate.to_string(), "25", "the default");
    assert!(
        small.notes.iter().any(|n| n.contains("rate"))
            && small.notes.iter().any(|n| n.contains("BT.601")),
        "{:?}",
        small.notes
    );
    let (large, _) = gray("W1280 H2 F50:1 It", 128, 1280 * 3);
    assert!(
        large.notes.iter().any(|n| n.contains("BT.709"))
            && large.notes.iter().any(|n| n.contains("interlaced"))
    );
}

#[test]
fn raw_frames_of_every_format_show_the_same_image() {
    let (w, h) = (36, 8);
    let rgb = numbered(w, h, 37);
    let gray: Vec<u8> = rgb.rgb.chunks_exact(3).map(|p| p[1]).collect();
    // Gray in every layout: neutral chroma.
    let limited: Vec<u8> =
        gray.iter().map(|&v| (16.0 + f64::from(v) * 219.0 / 255.0).round() as u8).collect();
    let with_chroma = |luma: &[u8], chroma: usize| [luma, &vec![128; chroma]].concat();
    let spread: Vec<u8> = gray.iter().flat_map(|&v| [v; 3]).collect();
    let cases = [
        ("rgb24", spread.clone(), 0),
        ("bgr24", rgb.rgb.chunks_exact(3).flat_map(|p| [p[2], p[1], p[0]]).collect(), 0),
        ("rgba", gray.iter().flat_map(|&v| [v, v, v, 255]).collect(), 0),
        ("gray", gray.clone(), 0),
        ("yuv420p", with_chroma(&limited, w * h / 2), 1),
        ("nv12", with_chroma(&limited, w * h / 2), 1),
        ("yuyv422", limited.iter().flat_map(|&v| [v, 128]).collect(), 1),
    ];
    for (name, bytes, tolerance) in cases {
        let format: PixelFormat = name.parse().unwrap();
        let options = VideoOptions {
            raw: Some(RawFrames { size: Size::new(w, h), format }),
            frame_rate: Some("30".parse().unwrap()),
            ..VideoOptions::default()
        };
        let (info, frames, error) =
            drain(read(Cursor::new(bytes.repeat(3)), "-", &options).unwrap());
        assert!(
            error.is_none() && frames.len() == 3 && info.frame_rate.to_string() == "30",
            "{name}"
        );
        let expected = if name == "bgr24" {
            rgb.clone()
        } else {
            Image::new(Size::new(w, h), spread.clone()).unwrap()
        };
        let max_difference = max_difference(&frames[2].image, &expected);
        assert!(max_difference <= tolerance, "{name}: off by {max_difference}");
    }
    assert!("yuv9".parse::<PixelFormat>().unwrap_err().to_string().contains("nv12"));
}

/// Chroma pairs and planes are distinguished: red stays red in each format.
#[test]
fn raw_chroma_lies_where_its_format_says() {
    let (w, h) = (4, 2);
    let y = [81; 8];
    for (format, bytes) in [
        (PixelFormat::Yuv420p, [&y[..], &[90, 90, 240, 240]].concat()),
        (PixelFormat::Nv12, [&y[..], &[90, 240, 90, 240]].concat()),
        (PixelFormat::Yuyv422, [81, 90, 81, 240].repeat(4)),
    ] {
        let image = format.image(Size::new(w, h), &bytes, [0; 3]).unwrap();
        let red = |p: &[u8]| p[0] >= 253 && p[1] <= 1 && p[2] <= 1;
        assert!(image.rgb.chunks_exact(3).all(red), "{format:?}: {:?}", image.rgb);
        assert!(format.image(Size::new(w, h), &bytes[1..], [0; 3]).is_err());
    }
    assert!(
        PixelFormat::Yuyv422
            .image(Size::new(3, 2), &[0; 12], [0; 3])
            .unwrap_err()
            .to_string()
            .contains("even")
    );
}

#[test]
fn gif_keeps_frames_and_each_ones_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gif");
    let mut sink = create(&path, &info(37, 29, "25"), None).unwrap();
    let times = [70, 400, 20, 90].map(Duration::from_millis);
    for (number, time) in times.iter().enumerate() {
        sink.write(&Content::Image(numbered(37, 29, number)), Some(*time)).unwrap();
    }
    sink.finish().unwrap();
    let (info_read, frames) = read_all(&path, &VideoOptions::default());
    assert_eq!(numbers(&frames), [0, 1, 2, 3]);
    assert_eq!(frames.iter().map(|f| f.duration.unwrap()).collect::<Vec<_>>(), times);
    assert_eq!(
        (info_read.frames, info_read.frame_rate.to_string().as_str()),
        (Some(4), "200/29"),
        "four frames in 0.58 s"
    );
    assert!(info_read.notes.iter().any(|n| n.contains("6.90 fps")), "{:?}", info_read.notes);

    let path = dir.path().join("even.gif");
    write_numbered(&path, &info(37, 29, "20"), 3).unwrap();
    let (info_read, _) = read_all(&path, &VideoOptions::default());
    assert_eq!((info_read.frame_rate.to_string().as_str(), info_read.notes.len()), ("20", 0));
}

#[test]
fn animated_png_is_read_with_its_times() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    let mut encoder = png::Encoder::new(File::create(&path).unwrap(), 37, 29);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_animated(3, 0).unwrap();
    encoder.set_frame_delay(1, 30).unwrap();
    let mut writer = encoder.write_header().unwrap();
    for number in 0..3 {
        writer.write_image_data(&numbered(37, 29, number).rgb).unwrap();
    }
    writer.finish().unwrap();
    let (info_read, frames) = read_all(&path, &VideoOptions::default());
    assert_eq!(
        (numbers(&frames), info_read.frame_rate.to_string().as_str(), info_read.frames),
        (vec![0, 1, 2], "30", Some(3))
    );
    assert_eq!(max_difference(&frames[2].image, &numbered(37, 29, 2)), 0);
}

#[test]
fn directories_patterns_and_numbers_are_videos_in_the_order_of_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    // Not zero-padded: alphabetically, 10 would come before 8.
    for number in [8, 9, 10, 12] {
        numbered(37, 29, number).save(dir.path().join(format!("shot{number}.png"))).unwrap();
    }
    std::fs::write(dir.path().join("notes.txt"), "no image").unwrap();
    let options =
        VideoOptions { frame_rate: Some("12.5".parse().unwrap()), ..VideoOptions::default() };
    for (name, notes) in [("", 0), ("shot*.png", 0), ("shot%d.png", 1)] {
        let (info_read, frames) = read_all(&dir.path().join(name), &options);
        assert_eq!(numbers(&frames), [8, 9, 10, 12], "`{name}`");
        assert_eq!(
            (info_read.frames, info_read.frame_rate.to_string().as_str(), info_read.notes.len()),
            (Some(4), "25/2", notes),
            "`{name}`"
        );
    }
    for name in ["other%d.png", "*.gif", "missing.png"] {
        assert!(open(dir.path().join(name), &options).is_err(), "{name}");
    }

    let out = dir.path().join("frames/");
    write_numbered(&out, &info(36, 9, "25"), 3).unwrap();
    let (_, frames) = read_all(&out.join("%06d.png"), &VideoOptions::default());
    assert_eq!(
        (numbers(&frames), max_difference(&frames[1].image, &numbered(36, 9, 1))),
        (vec![0, 1, 2], 0)
    );
    let again = write_numbered(&out, &info(36, 9, "25"), 1).unwrap_err().to_string();
    assert!(again.contains("already contains frames"), "{again}");
}

#[test]
fn masks_keep_their_classes_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let (w, h) = (5, 3);
    let masks: Vec<LabelMap> = (0..3)
        .map(|n| {
            LabelMap::new(Size::new(w, h), (0..15).map(|i| (i * 7 + n) % 21).collect()).unwrap()
        })
        .collect();
    let info = info(w, h, "25");
    for name in ["m.y4m", "m.raw", "m.gif", "m/"] {
        let path = dir.path().join(name);
        let mut sink = create(&path, &info, Some(&ClassTable::voc())).unwrap();
        let wrong = sink
            .write(&Content::Image(Image::new(Size::new(w, h), vec![0; 45]).unwrap()), None)
            .unwrap_err()
            .to_string();
        assert!(wrong.contains("expected a mask, got an image"), "{wrong}");
        masks.iter().for_each(|m| sink.write(&Content::Mask(m.clone()), None).unwrap());
        sink.finish().unwrap();
        let classes: Vec<Vec<u16>> = match name {
            "m.y4m" => {
                let mut decoder = y4m::decode(File::open(&path).unwrap()).unwrap();
                (0..3)
                    .map(|_| {
                        decoder
                            .read_frame()
                            .unwrap()
                            .get_y_plane()
                            .iter()
                            .map(|&v| v.into())
                            .collect()
                    })
                    .collect()
            }
            "m.raw" => std::fs::read(&path)
                .unwrap()
                .chunks(15)
                .map(|f| f.iter().map(|&v| v.into()).collect())
                .collect(),
            "m.gif" => {
                let mut decoder =
                    gif::DecodeOptions::new().read_info(File::open(&path).unwrap()).unwrap();
                let mut info_read = Vec::new();
                while let Some(frame) = decoder.read_next_frame().unwrap() {
                    info_read.push(frame.buffer.iter().map(|&v| v.into()).collect());
                }
                assert_eq!(
                    decoder.global_palette().map(|p| &p[3..6]),
                    Some(&[128, 0, 0][..]),
                    "the class colors"
                );
                info_read
            }
            _ => (1..=3)
                .map(|n| LabelMap::read(path.join(format!("{n:06}.png")), None).unwrap().labels)
                .collect(),
        };
        assert_eq!(classes, masks.iter().map(|m| m.labels.clone()).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn parts_of_videos_keep_their_speed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.y4m");
    write_numbered(&path, &info(37, 29, "30"), 10).unwrap();
    let part = |text: &str, every| {
        let selection = Selection { every, ..text.parse().unwrap() };
        let (info, frames, error) =
            drain(select(open(&path, &VideoOptions::default()).unwrap(), selection).unwrap());
        assert!(error.is_none());
        assert_eq!(info.frames, Some(frames.len() as u64), "{text}");
        (numbers(&frames), info.frame_rate.to_string())
    };
    assert_eq!(part("3..5", 1), (vec![2, 3, 4], "30".into()));
    assert_eq!(part("8..", 1), (vec![7, 8, 9], "30".into()));
    assert_eq!(part("..100", 4), (vec![0, 4, 8], "15/2".into()));
    assert_eq!(part("20..30", 1), (vec![], "30".into()));
    for text in ["0..3", "5..4", "5", "a..b", ".."] {
        assert_eq!(text.parse::<Selection>().is_ok(), text == "..", "{text}");
    }

    let gif = dir.path().join("a.gif");
    let mut sink = create(&gif, &info(37, 29, "10"), None).unwrap();
    for (number, millis) in [100, 200, 300, 400, 500].into_iter().enumerate() {
        sink.write(&Content::Image(numbered(37, 29, number)), Some(Duration::from_millis(millis)))
            .unwrap();
    }
    sink.finish().unwrap();
    let selection = Selection { every: 2, ..Selection::default() };
    let (_, frames, _) =
        drain(select(open(&gif, &VideoOptions::default()).unwrap(), selection).unwrap());
    let times: Vec<u128> = frames.iter().map(|f| f.duration.unwrap().as_millis()).collect();
    assert_eq!(
        (numbers(&frames), times),
        (vec![0, 2, 4], vec![300, 700, 500]),
        "remaining frames are displayed longer"
    );
}

/// A stream whose bytes can be inspected.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn streams_hold_what_files_hold_and_transparency_becomes_green() {
    let mut image = numbered(37, 29, 5);
    image.alpha = Some(vec![0; 37 * 29]);
    let out = Shared::default();
    let mut sink = write_to(out.clone(), "stream", &info(37, 29, "25"), false, true).unwrap();
    sink.write(&Content::Image(image), None).unwrap();
    sink.write(&Content::Image(numbered(37, 29, 6)), None).unwrap();
    sink.finish().unwrap();
    let bytes = out.0.lock().unwrap().clone();
    assert_eq!(bytes.len(), 2 * 37 * 29 * 3);
    assert_eq!(&bytes[..3], [0, 177, 64]);
    assert_eq!(bytes[37 * 29 * 3..], numbered(37, 29, 6).rgb);
}
