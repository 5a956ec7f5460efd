//! The network on an image: once, or at several scales and mirrored.

use super::{Args, Tools, check_memory};
use crate::error::Result;
use crate::eval::{PredictOptions, Predictor};
use crate::image::Image;
use crate::segmenter::{OutputOptions, Segmentation, Strip};

/// Averaging over several views of an image, as `eval` does.
#[derive(Debug, clap::Args)]
pub(super) struct ViewArgs {
    /// Scales of the network's input size whose probabilities are averaged, such as 0.75,1,1.25
    #[arg(long, value_name = "S,...", value_delimiter = ',')]
    scales: Vec<f64>,

    /// Average with the probabilities of the mirrored image
    #[arg(long)]
    flip: bool,
}

/// Runs the network on images.
pub(super) struct Engine<'t> {
    tools: &'t Tools,
    /// Set if there are several views, or one at another scale.
    views: Option<Predictor<'t>>,
}

impl<'t> Engine<'t> {
    /// Creates the engine.
    ///
    /// # Errors
    /// Returns an error if a scale is out of range.
    pub(super) fn new(args: &Args, tools: &'t Tools) -> Result<Self> {
        let ViewArgs { scales, flip } = &args.views;
        let scales = if scales.is_empty() { vec![1.0] } else { scales.clone() };
        let is_plain = scales == [1.0] && !flip;
        let size = args.size.size;
        let options = PredictOptions { size, scales, flip: *flip, window: None };
        let views = (!is_plain).then(|| Predictor::new(&tools.segmenter, options)).transpose()?;
        Ok(Self { tools, views })
    }

    /// Segments an image, with the outputs that the arguments need.
    pub(super) fn segment(&mut self, args: &Args, image: &Image) -> Result<Segmentation> {
        check_memory(image)?;
        let (tools, options) = (self.tools, self.tools.wants(args));
        match &mut self.views {
            Some(views) => views.segment(image, &options),
            None => tools.segmenter.segment_with(image, tools.size(args), options),
        }
    }

    /// As [`Engine::segment`]; the probabilities of all classes go to `on_strip`, some rows at a
    /// time, or all at once with several views.
    pub(super) fn segment_in_strips(
        &mut self,
        args: &Args,
        image: &Image,
        mut on_strip: impl FnMut(&Strip) -> Result<()> + Send,
    ) -> Result<Segmentation> {
        check_memory(image)?;
        let (tools, options) = (self.tools, self.tools.wants(args));
        let Some(views) = &mut self.views else {
            let size = tools.size(args);
            return tools.segmenter.segment_in_strips(image, size, options, on_strip);
        };
        let options = OutputOptions { probabilities: true, ..options };
        let mut segmentation = views.segment(image, &options)?;
        if let Some(probabilities) = segmentation.probabilities.take() {
            on_strip(&Strip { first_row: 0, probabilities: &probabilities })?;
        }
        Ok(segmentation)
    }
}
