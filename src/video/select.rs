//! Parts of videos.

use super::{Frame, FrameSource, VideoInfo};
use crate::error::{Error, Result, error};
use std::str::FromStr;

/// Which frames of a video are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// The first one, counted from 1.
    pub first: u64,
    /// The last one; `None` takes all that follow.
    pub last: Option<u64>,
    /// Of these, one of so many.
    pub every: u64,
}

impl Default for Selection {
    /// All frames.
    fn default() -> Self {
        Self { first: 1, last: None, every: 1 }
    }
}

/// `A..B`, `A..` or `..B`: from frame A to frame B, both taken, counted from 1.
impl FromStr for Selection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            error!(Usage, "`{text}` is no range of frames; give A..B, A.. or ..B, counted from 1")
        };
        let (first, last) = text.split_once("..").ok_or_else(bad)?;
        let number = |text: &str| text.parse().map_err(|_| bad());
        let first = if first.is_empty() { 1 } else { number(first)? };
        let last = if last.is_empty() { None } else { Some(number(last)?) };
        if first == 0 || last.is_some_and(|last| last < first) {
            return Err(bad());
        }
        Ok(Self { first, last, every: 1 })
    }
}

/// The selected frames of a video. It keeps its speed: where frames are left out, the others are
/// shown for longer.
///
/// # Errors
/// One of so many as `every` says would be no rate.
pub fn select(source: Box<dyn FrameSource>, selection: Selection) -> Result<Box<dyn FrameSource>> {
    if selection == Selection::default() {
        return Ok(source);
    }
    let Selection { first, last, every } = selection;
    let mut info = source.info().clone();
    info.rate = info
        .rate
        .every(every)
        .ok_or_else(|| error!(Usage, "one of {every} frames cannot be taken"))?;
    let end = |frames: u64| last.map_or(frames, |last| last.min(frames));
    info.frames = info.frames.map(|frames| (end(frames) + 1).saturating_sub(first).div_ceil(every));
    Ok(Box::new(Selected { source, selection, info, read: 0, next: None }))
}

struct Selected {
    source: Box<dyn FrameSource>,
    selection: Selection,
    info: VideoInfo,
    /// Frames read of the source.
    read: u64,
    /// A frame that was read already, to know how long the one before it is shown.
    next: Option<Result<Frame>>,
}

impl Selected {
    /// The next frame between first and last.
    fn pull(&mut self) -> Option<Result<Frame>> {
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
        let mut frame = match self.next.take().or_else(|| self.pull())? {
            Ok(frame) => frame,
            Err(e) => return Some(Err(e)),
        };
        for _ in 1..self.selection.every {
            match self.pull() {
                // Left out; its time goes to the frame before.
                Some(Ok(left_out)) => {
                    frame.duration = frame.duration.zip(left_out.duration).map(|(a, b)| a + b);
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
