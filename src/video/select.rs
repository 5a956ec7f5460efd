//! Selecting frames of a video.

use super::{Frame, FrameSource, VideoInfo};
use crate::error::{Error, Result, error};
use std::str::FromStr;

/// A range of frames, optionally with a stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// First frame, counted from 1.
    pub first: u64,
    /// Last frame, inclusive; `None` selects all frames to the end.
    pub last: Option<u64>,
    /// Keep every `every`-th frame of the range.
    pub every: u64,
}

impl Default for Selection {
    /// Selects all frames.
    fn default() -> Self {
        Self { first: 1, last: None, every: 1 }
    }
}

/// Parses `A..B`, `A..` or `..B`: from frame A to frame B inclusive, counted from 1.
impl FromStr for Selection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid =
            || error!(Usage, "invalid frame range `{text}`; use A..B, A.. or ..B, counted from 1");
        let (first, last) = text.split_once("..").ok_or_else(invalid)?;
        let number = |text: &str| text.parse().map_err(|_| invalid());
        let first = if first.is_empty() { 1 } else { number(first)? };
        let last = if last.is_empty() { None } else { Some(number(last)?) };
        if first == 0 || last.is_some_and(|last| last < first) {
            return Err(invalid());
        }
        Ok(Self { first, last, every: 1 })
    }
}

/// Selects frames of a video. Playback speed is preserved: if frames are dropped, the remaining
/// ones are displayed longer.
///
/// # Errors
/// Returns an error if `every` is 0, or the resulting frame rate is not a fraction of 32-bit
/// integers.
pub fn select(source: Box<dyn FrameSource>, selection: Selection) -> Result<Box<dyn FrameSource>> {
    if selection == Selection::default() {
        return Ok(source);
    }
    let Selection { first, last, every } = selection;
    let mut info = source.info().clone();
    info.frame_rate = info
        .frame_rate
        .every(every)
        .ok_or_else(|| error!(Usage, "cannot keep one of every {every} frames"))?;
    let end = |frames: u64| last.map_or(frames, |last| last.min(frames));
    info.frames = info.frames.map(|frames| (end(frames) + 1).saturating_sub(first).div_ceil(every));
    Ok(Box::new(Selected { source, selection, info, read: 0, next: None }))
}

struct Selected {
    source: Box<dyn FrameSource>,
    selection: Selection,
    info: VideoInfo,
    /// Number of frames read from the source.
    read: u64,
    /// An error that occurred while frames were dropped, to be returned next.
    next: Option<Result<Frame>>,
}

impl Selected {
    /// Reads the next frame between first and last.
    fn next_in_range(&mut self) -> Option<Result<Frame>> {
        loop {
            if self.selection.last.is_some_and(|last| self.read >= last) {
                return None;
            }
            let frame = self.source.next()?;
            self.read += 1;
            if frame.is_err() || self.read >= self.selection.first {
                return Some(frame);
            }
        }
    }
}

impl Iterator for Selected {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut frame = match self.next.take().or_else(|| self.next_in_range())? {
            Ok(frame) => frame,
            Err(e) => return Some(Err(e)),
        };
        for _ in 1..self.selection.every {
            match self.next_in_range() {
                // Dropped; its display time is added to the previous frame.
                Some(Ok(dropped)) => {
                    frame.duration = frame.duration.zip(dropped.duration).map(|(a, b)| a + b);
                }
                Some(Err(e)) => {
                    self.next = Some(Err(e));
                    break;
                }
                None => break,
            }
        }
        Some(Ok(frame))
    }
}

impl FrameSource for Selected {
    fn info(&self) -> &VideoInfo {
        &self.info
    }
}
