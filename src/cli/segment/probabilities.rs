//! The file of `--probabilities`: all classes of all pixels, written in strips, since they rarely
//! fit into memory.

use super::inputs::Job;
use super::masks::{self, ClassMasks, MaskFile};
use super::{Args, Tools};
use crate::error::{Error, Result, error};
use crate::files::Staged;
use crate::geometry::Size;
use crate::image::alloc::filled;
use crate::image::{ClassTable, Image};
use crate::segmenter::{Segmentation, Strip};
use crate::text;
use crate::weights::{format_bytes, safetensors};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Maximum file size in bytes: 150 classes at the maximum number of pixels take 100 GiB.
const MOST_BYTES: u64 = 128 << 30;

/// An unfinished file of probabilities, in PyTorch's order `[1, classes, height, width]`. Dropping
/// it before [`ProbabilityFile::commit`] removes it.
#[derive(Debug)]
pub(super) struct ProbabilityFile {
    path: PathBuf,
    staged: Staged,
    /// Offset of the elements in bytes.
    start: u64,
    classes: usize,
    width: usize,
    height: usize,
    /// Bytes of a strip in the file's order, class by class.
    planes: Vec<u8>,
    /// File size in bytes.
    bytes: u64,
}

impl ProbabilityFile {
    /// Creates the file. Returns an error if it would exceed the maximum size or cannot be written.
    fn create(path: PathBuf, classes: usize, size: Size) -> Result<Self> {
        let Size { width, height } = size;
        let elements =
            [4, classes, width, height].iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
        let Some(elements) = elements.filter(|&bytes| bytes <= MOST_BYTES) else {
            let what = format!(
                "the probabilities of {classes} classes at {size} pixels take more than {}",
                format_bytes(MOST_BYTES)
            );
            return Err(Error::new(crate::ErrorKind::Usage, what)
                .file(path)
                .advice("scale the image down first"));
        };
        let header =
            safetensors::single_tensor_header("probabilities", &[1, classes, height, width])?;
        let staged = Staged::create(&path, ".tmp")?;
        let start = header.len() as u64;
        staged
            .file()
            .write_all(&header)
            .map_err(|e| Error::io(&path, "could not be written", e))?;
        Ok(Self {
            path,
            staged,
            start,
            classes,
            width,
            height,
            planes: Vec::new(),
            bytes: start + elements,
        })
    }

    /// Writes a strip: some rows of all classes.
    fn write(&mut self, strip: &Strip) -> Result<()> {
        let (classes, width) = (self.classes, self.width);
        let values = strip.probabilities.f32();
        if let Some(at) = values.iter().position(|p| !p.is_finite()) {
            let (class, x, y) =
                (at % classes, at / classes % width, strip.first_row + at / classes / width);
            return Err(error!(
                Weights,
                "class {class} has the probability {} at column {x}, row {y}", values[at]
            )
            .file(&self.path)
            .advice("check the weights for NaN and infinite values"));
        }
        let plane = 4 * strip.probabilities.shape().h * width;
        if self.planes.len() != plane * classes {
            // Free the old buffer before allocating a larger one.
            self.planes = Vec::new();
            self.planes = filled(0, plane * classes, "a strip of the probabilities")
                .map_err(|e| e.file(&self.path))?;
        }
        // Row by row, since a row of all classes fits into the CPU's cache.
        for (y, row) in values.chunks_exact(classes * width).enumerate() {
            for class in 0..classes {
                let target =
                    self.planes[class * plane + 4 * y * width..][..4 * width].chunks_exact_mut(4);
                target
                    .zip(row[class..].iter().step_by(classes))
                    .for_each(|(bytes, p)| bytes.copy_from_slice(&p.to_le_bytes()));
            }
        }
        let mut file = self.staged.file();
        for (class, plane) in self.planes.chunks_exact(plane).enumerate() {
            let row = (class * self.height + strip.first_row) as u64;
            let written = file
                .seek(SeekFrom::Start(self.start + 4 * row * width as u64))
                .and_then(|_| file.write_all(plane));
            written.map_err(|e| Error::io(&self.path, "could not be written", e))?;
        }
        Ok(())
    }

    /// Commits the file.
    pub(super) fn commit(self) -> Result<()> {
        self.staged.commit()
    }

    /// Describes the file.
    pub(super) fn note(&self) -> String {
        format!(
            "the probabilities of {} classes are in {} ({})",
            self.classes,
            text::path(&self.path),
            format_bytes(self.bytes)
        )
    }
}

/// What is made from the probabilities of all classes, strip by strip.
pub(super) struct Extras {
    file: Option<ProbabilityFile>,
    masks: Option<ClassMasks>,
}

impl Extras {
    /// Segments an image, with the file of probabilities and the masks of overlapping classes if
    /// they are wanted.
    pub(super) fn segment(
        args: &Args,
        tools: &Tools,
        job: &Job,
        image: &Image,
    ) -> Result<(Segmentation, Self)> {
        let file = args.probabilities.then(|| create(tools, job, image)).transpose()?;
        let mut extras = Self { file, masks: ClassMasks::create(args, tools, image.size())? };
        if extras.file.is_none() && extras.masks.is_none() {
            return Ok((tools.segment(args, image)?, extras));
        }
        let segmentation = tools.segment_in_strips(args, image, |strip| {
            if let Some(masks) = &mut extras.masks {
                masks.add(strip);
            }
            extras.file.as_mut().map_or(Ok(()), |file| file.write(strip))
        })?;
        if let Some(file) = &mut extras.file {
            file.planes = Vec::new();
        }
        Ok((segmentation, extras))
    }

    /// Writes the files. Returns the masks, and notes about the files.
    pub(super) fn write(
        self,
        output: &Path,
        table: &ClassTable,
    ) -> Result<(Vec<MaskFile>, Vec<String>)> {
        let mut notes = Vec::new();
        let masks = self.masks.map(|masks| masks.write(output, table)).transpose()?;
        let masks = masks.unwrap_or_default();
        notes.extend(masks::note(&masks));
        if let Some(file) = self.file {
            notes.push(file.note());
            file.commit()?;
        }
        Ok((masks, notes))
    }
}

/// Creates the file of the probabilities of an image.
fn create(tools: &Tools, job: &Job, image: &Image) -> Result<ProbabilityFile> {
    let path = job.output.with_extension("probabilities.safetensors");
    let classes = tools.segmenter.model().network.classes().unwrap_or(0);
    super::write::make_directory(&job.output)?;
    ProbabilityFile::create(path, classes, image.size())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Shape, Tensor};
    use crate::weights::WeightFile;

    #[test]
    fn strips_of_any_height_make_the_file_that_would_be_written_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let (c, w, h) = (3, 5, 7);
        let all =
            Tensor::from_fn(Shape::new(1, h, w, c), |_, y, x, c| (y * 100 + x * 10 + c) as f32);
        let whole = directory.path().join("whole.safetensors");
        let nchw = vec![("probabilities", [1, c, h, w], all.to_nchw())];
        crate::weights::write_safetensors(
            &whole,
            nchw,
            &Default::default(),
            crate::weights::FloatDType::F32,
        )
        .unwrap();
        for rows in [1, 3, 7] {
            let path = directory.path().join("strips.safetensors");
            let mut file = ProbabilityFile::create(path.clone(), c, Size::new(w, h)).unwrap();
            for first_row in (0..h).step_by(rows) {
                let count = rows.min(h - first_row);
                let some = all.f32()[first_row * w * c..][..count * w * c].to_vec();
                let probabilities = &Tensor::new(Shape::new(1, count, w, c), some).unwrap();
                file.write(&Strip { first_row, probabilities }).unwrap();
            }
            file.commit().unwrap();
            assert_eq!(
                std::fs::read(&path).unwrap(),
                std::fs::read(&whole).unwrap(),
                "strips of {rows} rows"
            );
            assert_eq!(
                WeightFile::open(&path).unwrap().read_f32("probabilities").unwrap().0,
                [1, c, h, w]
            );
        }
    }

    #[test]
    fn a_file_that_fails_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.safetensors");
        let mut file = ProbabilityFile::create(path.clone(), 2, Size::square(2)).unwrap();
        let probabilities =
            &Tensor::new(Shape::new(1, 1, 2, 2), vec![0.5, 0.5, f32::NAN, 0.5]).unwrap();
        let error = file.write(&Strip { first_row: 1, probabilities }).unwrap_err().to_string();
        assert!(
            error.contains("a.safetensors")
                && error.contains("class 0 has the probability NaN at column 1, row 1"),
            "{error}"
        );
        drop(file);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let error = ProbabilityFile::create(path, 1 << 20, Size::new(1 << 20, 1 << 20))
            .unwrap_err()
            .to_string();
        assert!(error.contains("more than 128 GiB"), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
