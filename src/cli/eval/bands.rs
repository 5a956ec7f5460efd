//! The bands of `--trimap`, and the border that they surround by default.

use super::Args;
use crate::error::Result;
use crate::eval::{Band, Trimap, TrimapAround, ignored_labels};
use crate::image::{ClassTable, LabelMap};

/// Counts the pixels of bands. Masks are read one at a time, so whether any contains void is known
/// only at the end: without `--trimap-around` both kinds are counted.
pub(super) struct Bands {
    trimaps: Vec<Trimap>,
    requested: Option<TrimapAround>,
    void: Vec<u32>,
    has_void: bool,
}

/// What `--trimap` measured.
pub(super) struct Measured {
    pub around: TrimapAround,
    /// Why `around` was chosen.
    pub reason: &'static str,
    pub bands: Vec<Band>,
}

impl Bands {
    /// Returns empty bands, or `None` without `--trimap`.
    pub(super) fn new(args: &Args, table: &ClassTable) -> Result<Option<Self>> {
        if args.trimap.is_empty() {
            return Ok(None);
        }
        let void = ignored_labels(table);
        let kinds = match args.trimap_around {
            Some(kind) => vec![kind],
            None => vec![TrimapAround::Void, TrimapAround::Boundary],
        };
        let trimaps = kinds
            .into_iter()
            .map(|kind| Trimap::new(&args.trimap, kind, table.len(), &void))
            .collect::<Result<_>>()?;
        Ok(Some(Self { trimaps, requested: args.trimap_around, void, has_void: false }))
    }

    /// Counts an image's pixels.
    pub(super) fn add(&mut self, truth: &LabelMap, prediction: &LabelMap) -> Result<()> {
        self.has_void |= truth.labels.iter().any(|&label| self.void.contains(&u32::from(label)));
        // Once a mask contains void, only that kind will be reported.
        if self.requested.is_none() && self.has_void {
            self.trimaps.truncate(1);
        }
        self.trimaps.iter_mut().try_for_each(|trimap| trimap.add(truth, prediction))
    }

    /// Returns the scores of the requested kind, else of void if any mask contains it.
    pub(super) fn measured(&self) -> Measured {
        let trimap = if self.has_void {
            &self.trimaps[0]
        } else {
            self.trimaps.last().expect("invariant: at least one trimap")
        };
        let reason = match (self.requested, self.has_void) {
            (Some(TrimapAround::Void), false) => "requested, but the masks contain no void",
            (Some(_), _) => "requested",
            (None, true) => "the default: the masks contain void, as the paper's do",
            (None, false) => "the default: the masks contain no void",
        };
        Measured { around: trimap.around(), reason, bands: trimap.bands() }
    }
}
