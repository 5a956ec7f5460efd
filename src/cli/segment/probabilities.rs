//! The file of `--probabilities`: all classes of all pixels, written in strips, since they rarely
//! fit into memory; and what else is made from the strips.

use super::inputs::Job;
use super::masks::{self, ClassMasks, MaskFile};
use super::results::ProbabilityFormat;
use super::views::Engine;
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

/// An unfinished file of probabilities: in PyTorch's order `[1, classes, height, width]`, or in
/// NumPy's file `[height, width, classes]`. Dropping it before [`ProbabilityFile::commit`] removes
/// it.
#[derive(Debug)]
pub(super) struct ProbabilityFile {
    path: PathBuf,
    format: ProbabilityFormat,
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
    fn create(
        path: PathBuf,
        format: ProbabilityFormat,
        classes: usize,
        size: Size,
    ) -> Result<Self> {
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
        let header = match format {
            ProbabilityFormat::Safetensors => {
                safetensors::single_tensor_header("probabilities", &[1, classes, height, width])?
            }
            ProbabilityFormat::Npy => npy_header([height, width, classes]),
        };
        let staged = Staged::create(&path, ".tmp")?;
        let start = header.len() as u64;
        staged
            .file()
            .write_all(&header)
            .map_err(|e| Error::io(&path, "could not be written", e))?;
        Ok(Self {
            path,
            format,
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
        self.check(strip)?;
        match self.format {
            ProbabilityFormat::Safetensors => self.write_planes(strip),
            ProbabilityFormat::Npy => self.write_pixels(strip),
        }
    }

    /// Refuses probabilities that are not finite.
    fn check(&self, strip: &Strip) -> Result<()> {
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
        Ok(())
    }

    /// Writes rows of pixels, which are one piece of the file.
    fn write_pixels(&mut self, strip: &Strip) -> Result<()> {
        /// Number of values that are converted at once.
        const VALUES: usize = 1 << 14;
        let first = (strip.first_row * self.width * self.classes) as u64;
        let file = self.staged.file();
        let write = || -> std::io::Result<()> {
            let mut file = file;
            file.seek(SeekFrom::Start(self.start + 4 * first))?;
            for values in strip.probabilities.f32().chunks(VALUES) {
                let bytes: Vec<u8> = values.iter().flat_map(|p| p.to_le_bytes()).collect();
                file.write_all(&bytes)?;
            }
            Ok(())
        };
        write().map_err(|e| Error::io(&self.path, "could not be written", e))
    }

    /// Writes rows of each class, which are a piece of the file each.
    fn write_planes(&mut self, strip: &Strip) -> Result<()> {
        let (classes, width) = (self.classes, self.width);
        let values = strip.probabilities.f32();
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
        engine: &mut Engine,
        job: &Job,
        image: &Image,
    ) -> Result<(Segmentation, Self)> {
        let file = create(args, tools, job, image)?;
        let mut extras = Self { file, masks: ClassMasks::create(args, tools, image.size())? };
        if extras.file.is_none() && extras.masks.is_none() {
            return Ok((engine.segment(args, image)?, extras));
        }
        let segmentation = engine.segment_in_strips(args, image, |strip| {
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

/// Creates the file of the probabilities of an image, if it is wanted.
fn create(args: &Args, tools: &Tools, job: &Job, image: &Image) -> Result<Option<ProbabilityFile>> {
    let path = args.results.probabilities_path(&job.output);
    let (Some(format), Some(path)) = (args.results.probabilities, path) else { return Ok(None) };
    let classes = tools.segmenter.model().network.classes().unwrap_or(0);
    super::write::make_directory(&job.output)?;
    ProbabilityFile::create(path, format, classes, image.size()).map(Some)
}

/// Returns the header of a `.npy` file of f32 values (NumPy's format 1.0).
fn npy_header(shape: [usize; 3]) -> Vec<u8> {
    /// The values begin at a multiple of this.
    const ALIGNMENT: usize = 64;
    let [height, width, classes] = shape;
    let mut text = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({height}, {width}, {classes}), }}"
    );
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    // Two bytes for the length of the text, which ends in a line break.
    let used = header.len() + 2 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', used.next_multiple_of(ALIGNMENT) - used));
    text.push('\n');
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Shape, Tensor};
    use crate::weights::WeightFile;

    const SAFETENSORS: ProbabilityFormat = ProbabilityFormat::Safetensors;

    /// Strips that arrive again, as those of a lost device do, replace the first ones.
    #[test]
    fn a_npy_file_has_the_pixels_in_order_whatever_the_strips() {
        let directory = tempfile::tempdir().unwrap();
        let (c, w, h) = (3, 5, 7);
        let all =
            Tensor::from_fn(Shape::new(1, h, w, c), |_, y, x, c| (y * 100 + x * 10 + c) as f32);
        let path = directory.path().join("a.npy");
        let mut file =
            ProbabilityFile::create(path.clone(), ProbabilityFormat::Npy, c, Size::new(w, h))
                .unwrap();
        for (first_row, count) in [(0, 3), (0, 2), (2, 4), (6, 1)] {
            let some = all.f32()[first_row * w * c..][..count * w * c].to_vec();
            let probabilities = &Tensor::new(Shape::new(1, count, w, c), some).unwrap();
            file.write(&Strip { first_row, probabilities }).unwrap();
        }
        file.commit().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let header =
            b"\x93NUMPY\x01\0\x76\0{'descr': '<f4', 'fortran_order': False, 'shape': (7, 5, 3), }";
        assert!(bytes.starts_with(header), "{:?}", String::from_utf8_lossy(&bytes[..128]));
        assert_eq!(bytes[127], b'\n');
        let values: Vec<u8> = all.f32().iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(bytes[128..] == values);
    }

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
            let mut file =
                ProbabilityFile::create(path.clone(), SAFETENSORS, c, Size::new(w, h)).unwrap();
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
        let mut file =
            ProbabilityFile::create(path.clone(), SAFETENSORS, 2, Size::square(2)).unwrap();
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
        let error =
            ProbabilityFile::create(path, SAFETENSORS, 1 << 20, Size::new(1 << 20, 1 << 20))
                .unwrap_err()
                .to_string();
        assert!(error.contains("more than 128 GiB"), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
