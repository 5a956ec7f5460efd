//! The number of sliding windows, reported before hours are spent on them.

use super::super::console::say;
use super::super::format::thousands;
use super::{Args, Subject};
use crate::eval::Predictor;
use crate::image::dimensions;
use crate::text;
use indicatif::ProgressBar;

/// A warning is printed for more windows per image than this.
const MANY: usize = 1000;

/// Returns the predictor with its windows shown on the bar.
pub(super) fn shown<'s>(predictor: Predictor<'s>, bar: &ProgressBar) -> Predictor<'s> {
    let bar = bar.clone();
    predictor.on_window(move |done, count| {
        if count > 1 {
            bar.set_message(format!("window {done}/{count}"));
        }
    })
}

/// Prints the number of windows, with a warning if an image has many.
pub(super) fn announce(args: &Args, predictor: &Predictor, subject: &Subject) {
    if args.window.is_none() {
        return;
    }
    // An image with an unreadable header is reported when it is evaluated.
    let counts = subject
        .pairs
        .iter()
        .filter_map(|pair| dimensions(&pair.image).ok())
        .map(|size| predictor.window_count(size));
    let (all, most) =
        counts.fold((0usize, 0), |(all, most), count| (all.saturating_add(count), most.max(count)));
    let passes = predictor.options().views();
    if !args.quiet && !args.json {
        let windows = if all == 1 { "window" } else { "windows" };
        let (all, most) = (thousands(all as u64), thousands(most as u64));
        let passes = text::count(passes, "forward pass");
        say(&format!("{all} {windows} in total, up to {most} per image, {passes} each"));
    }
    if most > MANY {
        log::warn!(
            "an image has {} windows, each a forward pass of the network; use a larger `--stride` for fewer",
            thousands(most as u64)
        );
    }
}
