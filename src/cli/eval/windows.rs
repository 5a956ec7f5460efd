//! How many windows images are seen through, reported before hours go into them.

use super::super::args::{say, thousands};
use super::{Args, Subject};
use crate::eval::Predictor;
use crate::image::dimensions;
use indicatif::ProgressBar;

/// More windows than this in an image are warned of.
const MANY: usize = 1000;

/// The same predictor, whose windows the bar shows.
pub(super) fn shown<'s>(predictor: Predictor<'s>, bar: &ProgressBar) -> Predictor<'s> {
    let bar = bar.clone();
    predictor.on_window(move |done, count| {
        if count > 1 {
            bar.set_message(format!("window {done}/{count}"));
        }
    })
}

/// Reports how many windows the images have, and warns where they are many.
pub(super) fn announce(args: &Args, predictor: &Predictor, subject: &Subject) {
    if args.window.is_none() {
        return;
    }
    // An image whose header cannot be read is reported when its turn comes.
    let counts = subject
        .pairs
        .iter()
        .filter_map(|pair| dimensions(&pair.image).ok())
        .map(|(w, h)| predictor.window_count(w, h));
    let (all, most) =
        counts.fold((0usize, 0), |(all, most), count| (all.saturating_add(count), most.max(count)));
    let passes = predictor.options().views();
    if !args.quiet && !args.json {
        let (all, most) = (thousands(all as u64), thousands(most as u64));
        say(&format!(
            "{all} windows in all, up to {most} for an image, {passes} forward passes for each"
        ));
    }
    if most > MANY {
        log::warn!(
            "an image has {} windows, each a forward pass of the network; a larger `--stride` takes fewer",
            thousands(most as u64)
        );
    }
}
