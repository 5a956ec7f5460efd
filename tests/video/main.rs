//! Video input and output: every source and sink, and `atrous segment` on videos as a process.

#[path = "../support/mod.rs"]
mod support;

mod command;
mod containers;
mod hostile;
mod places;
mod round_trips;
#[cfg(unix)]
mod signals;

use atrous::Size;
use atrous::image::Image;
use atrous::video::{Content, Frame, FrameSource, VideoInfo, VideoOptions, create, open};
use atrous::{Error, Result};
use std::path::Path;

/// Number of bits of a frame number, drawn as squares of [`SIDE`] pixels along the upper edge.
const BITS: usize = 6;
const SIDE: usize = 6;

/// Creates a frame with its number as black and white squares, which survive any codec, over a
/// moving gradient.
fn numbered(width: usize, height: usize, number: usize) -> Image {
    assert!(width >= BITS * SIDE && height > SIDE && number < 1 << BITS);
    let pixel = |x: usize, y: usize| {
        if y < SIDE && x < BITS * SIDE {
            return [if number >> (x / SIDE) & 1 == 1 { 255 } else { 0 }; 3];
        }
        [(x * 255 / width) as u8, (y * 255 / height) as u8, (4 * number) as u8]
    };
    let rgb = (0..width * height).flat_map(|i| pixel(i % width, i / width)).collect();
    Image::new(Size::new(width, height), rgb).expect("the number of bytes matches the size")
}

/// Reads the number of a frame from the centers of its squares.
fn number_of(image: &Image) -> usize {
    let bright = |bit: usize| {
        let at = 3 * (SIDE / 2 * image.width + bit * SIDE + SIDE / 2);
        image.rgb[at..at + 3].iter().map(|&v| usize::from(v)).sum::<usize>() > 3 * 128
    };
    (0..BITS).map(|bit| usize::from(bright(bit)) << bit).sum()
}

fn info(width: usize, height: usize, rate: &str) -> VideoInfo {
    VideoInfo {
        width,
        height,
        frame_rate: rate.parse().expect("a rate"),
        frames: None,
        notes: Vec::new(),
    }
}

/// Writes a video of numbered frames.
fn write_numbered(path: &Path, info: &VideoInfo, frames: usize) -> Result<()> {
    let mut sink = create(path, info, None)?;
    for number in 0..frames {
        sink.write(&Content::Image(numbered(info.width, info.height, number)), None)?;
    }
    sink.finish()
}

/// Returns all frames up to the end or the first error.
fn drain(source: Box<dyn FrameSource>) -> (VideoInfo, Vec<Frame>, Option<Error>) {
    let info = source.info().clone();
    let (mut frames, mut error) = (Vec::new(), None);
    for frame in source {
        assert!(error.is_none(), "no frames after an error");
        match frame {
            Ok(frame) => frames.push(frame),
            Err(e) => error = Some(e),
        }
    }
    (info, frames, error)
}

/// Returns all frames of a complete video.
fn read_all(path: &Path, options: &VideoOptions) -> (VideoInfo, Vec<Frame>) {
    let source = open(path, options).unwrap_or_else(|e| panic!("{e}"));
    let (info, frames, error) = drain(source);
    assert!(error.is_none(), "{}", error.expect("checked"));
    (info, frames)
}

fn numbers(frames: &[Frame]) -> Vec<usize> {
    frames.iter().map(|f| number_of(&f.image)).collect()
}

/// Returns the largest difference between samples of two images.
fn max_difference(a: &Image, b: &Image) -> u8 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    a.rgb.iter().zip(&b.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}
