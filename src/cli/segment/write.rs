//! Results to files, by style.

use super::inputs::Job;
use super::{Args, Style};
use crate::cli::tensors;
use crate::error::{Error, Result};
use crate::image::{BACKDROP, ClassTable, Overlay, Picture, SideBySide, cut_out, foreground};
use crate::segmenter::Segmentation;
use crate::weights::FloatDType;

pub(super) struct Writer<'a> {
    pub args: &'a Args,
    pub table: &'a ClassTable,
    pub keep: &'a [usize],
}

impl Writer<'_> {
    pub(super) fn write(&self, job: &Job, picture: &Picture, found: &Segmentation) -> Result<()> {
        if let Some(folder) = job.output.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "the folder cannot be made", e))?;
        }
        let overlay = Overlay { opacity: self.args.opacity, ..Overlay::default() };
        match self.args.style {
            Style::Mask => found.labels.write(&job.output, self.table)?,
            Style::Overlay => overlay.draw(picture, &found.labels, self.table)?.save(&job.output)?,
            Style::SideBySide => {
                let sheet = SideBySide { overlay, ..SideBySide::default() };
                sheet.draw(picture, &found.labels, self.table)?.save(&job.output)?;
            }
            Style::Cutout => {
                let soft = found.probabilities.as_ref().map(|p| foreground(p.f32(), p.shape().c, self.keep)).transpose()?;
                cut_out(picture, &found.labels, self.table, self.keep, soft.as_deref(), BACKDROP)?.save(&job.output)?;
            }
        }
        if self.args.probabilities
            && let Some(probabilities) = &found.probabilities
        {
            let path = job.output.with_extension("probabilities.safetensors");
            tensors::write(&path, &[("probabilities".to_owned(), probabilities.clone())], FloatDType::F32)?;
        }
        Ok(())
    }
}
