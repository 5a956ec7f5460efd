//! Two hundred corrupt images: each gives an error that names the file, or an image of the claimed
//! size, without a panic and with at most 1 GiB of memory.

use atrous::image::{Image, LabelMap, decode};
use image::{DynamicImage, ImageFormat, RgbaImage};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Counts the allocated bytes and their peak.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded unchanged to the system allocator; the counters touch no memory
// of the callers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as above. Zeroed by the system, so that untouched pages are not committed.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A generator with the same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// The required result of a corrupt file.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Expected {
    Error,
    /// An error or a whole image, since the damage may only affect pixel values.
    Either,
}

struct Case {
    name: String,
    bytes: Vec<u8>,
    expected: Expected,
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn whole_files() -> Vec<(&'static str, Vec<u8>)> {
    let mut random = Random(7);
    let rgba = RgbaImage::from_fn(61, 43, |x, y| {
        let noise = random.below(40) as u32;
        image::Rgba(
            [x * 4 + noise, y * 5 + noise, (x + y) * 2, 255 - noise].map(|v| v.min(255) as u8),
        )
    });
    let rgba = DynamicImage::ImageRgba8(rgba);
    let (rgb, gray, wide) = (
        DynamicImage::from(rgba.to_rgb8()),
        DynamicImage::from(rgba.to_luma8()),
        DynamicImage::from(rgba.to_rgba16()),
    );
    let fixture = |name: &str| {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images").join(name))
            .unwrap()
    };
    vec![
        ("rgb.png", encode(&rgb, ImageFormat::Png)),
        ("wide.png", encode(&wide, ImageFormat::Png)),
        ("gray.png", encode(&gray, ImageFormat::Png)),
        ("rgb.jpg", encode(&rgb, ImageFormat::Jpeg)),
        ("progressive.jpg", fixture("progressive.jpg")),
        ("rgb.gif", encode(&rgb, ImageFormat::Gif)),
        ("lossless.webp", encode(&rgba, ImageFormat::WebP)),
        ("lossy.webp", fixture("lossy.webp")),
        ("rgb.bmp", encode(&rgb, ImageFormat::Bmp)),
        ("rgba.tif", encode(&rgba, ImageFormat::Tiff)),
        ("rgb.ppm", encode(&rgb, ImageFormat::Pnm)),
        ("rgba.qoi", encode(&rgba, ImageFormat::Qoi)),
        ("rgb.tga", encode(&rgb, ImageFormat::Tga)),
    ]
}

/// Adds cases truncated at five places, and with bits flipped in header and data.
fn damage(name: &str, whole: &[u8], random: &mut Random, cases: &mut Vec<Case>) {
    let (stem, extension) = name.rsplit_once('.').unwrap();
    for part in [1, 12, 50, 80, 97] {
        let bytes = whole[..(whole.len() * part / 100).max(3)].to_vec();
        cases.push(Case {
            name: format!("{stem}-cut{part}.{extension}"),
            bytes,
            expected: Expected::Error,
        });
    }
    for round in 0..7 {
        let mut bytes = whole.to_vec();
        let reach = if round < 4 { bytes.len().min(64) } else { bytes.len() };
        for _ in 0..=round / 2 {
            let at = random.below(reach);
            bytes[at] ^= 1 << random.below(8);
        }
        cases.push(Case {
            name: format!("{stem}-bits{round}.{extension}"),
            bytes,
            expected: Expected::Either,
        });
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(
            crc ^ u32::from(b),
            |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 },
        )
    })
}

/// Adds cases whose headers claim sizes that do not match the data.
fn false_sizes(files: &[(&'static str, Vec<u8>)], cases: &mut Vec<Case>) {
    let whole = |name: &str| files.iter().find(|f| f.0 == name).unwrap().1.clone();
    let mut push = |name: String, bytes: Vec<u8>| {
        // A GIF's frame may be smaller than its canvas, so a wrong canvas alone is valid.
        let expected = if name.ends_with(".gif") { Expected::Either } else { Expected::Error };
        cases.push(Case { name, bytes, expected });
    };
    let big = [
        (13_000u32, 13_000u32),
        (65_535, 65_535),
        (0x7fff_ffff, 0x7fff_ffff),
        (u32::MAX, u32::MAX),
        (u32::MAX, 1),
        (0, 0),
    ];
    for (i, (w, h)) in big.into_iter().enumerate() {
        for source in ["rgb.png", "wide.png"] {
            let mut png = whole(source);
            png[16..24].copy_from_slice(&[w.to_be_bytes(), h.to_be_bytes()].concat());
            let crc = crc32(&png[12..29]).to_be_bytes();
            png[29..33].copy_from_slice(&crc);
            push(format!("lie{i}-{source}"), png);
        }
        let mut bmp = whole("rgb.bmp");
        bmp[18..26].copy_from_slice(&[w.to_le_bytes(), h.to_le_bytes()].concat());
        push(format!("lie{i}.bmp"), bmp);
        let mut qoi = whole("rgba.qoi");
        qoi[4..12].copy_from_slice(&[w.to_be_bytes(), h.to_be_bytes()].concat());
        push(format!("lie{i}.qoi"), qoi);
        push(format!("lie{i}.ppm"), format!("P6\n{w} {h}\n255\nabc").into_bytes());
        push(format!("lie{i}-wide.ppm"), format!("P3\n{w} {h}\n65535\n1 2 3").into_bytes());
        let mut tiff = whole("rgba.tif");
        for (tag, value) in [(256u16, w), (257, h)] {
            let key = [tag.to_le_bytes(), 4u16.to_le_bytes()].concat();
            let at = tiff
                .windows(4)
                .position(|bytes| bytes == key)
                .expect("the encoder writes long width and height");
            tiff[at + 8..at + 12].copy_from_slice(&value.to_le_bytes());
        }
        push(format!("lie{i}.tif"), tiff);
    }
    for (i, side) in [0u16, 16_000, u16::MAX].into_iter().enumerate() {
        let mut tga = whole("rgb.tga");
        tga[12..16].copy_from_slice(&[side.to_le_bytes(), side.to_le_bytes()].concat());
        push(format!("lie{i}.tga"), tga);
    }
    for (i, side) in [0u16, 20_000, 65_500].into_iter().enumerate() {
        for (source, start) in [("rgb.jpg", [0xff, 0xc0]), ("progressive.jpg", [0xff, 0xc2])] {
            let mut jpeg = whole(source);
            let at = jpeg.windows(2).position(|bytes| bytes == start).unwrap();
            jpeg[at + 5..at + 9]
                .copy_from_slice(&[side.to_be_bytes(), side.to_be_bytes()].concat());
            push(format!("lie{i}-{source}"), jpeg);
        }
        let mut gif = whole("rgb.gif");
        gif[6..10].copy_from_slice(&[side.to_le_bytes(), side.to_le_bytes()].concat());
        push(format!("lie{i}.gif"), gif);
    }
}

fn cases() -> Vec<Case> {
    let (files, mut cases, mut random) = (whole_files(), Vec::new(), Random(0x9e37_79b9_7f4a_7c15));
    for (name, whole) in &files {
        damage(name, whole, &mut random, &mut cases);
    }
    false_sizes(&files, &mut cases);
    cases
}

fn check(result: Result<Image, atrous::Error>, case: &Case) -> Result<(), String> {
    match result {
        Ok(image) if case.expected == Expected::Error => {
            Err(format!("decoded as an image of {} x {}", image.width, image.height))
        }
        Ok(image) if image.rgb.len() != 3 * image.width * image.height => {
            Err("the number of pixels does not match the size".into())
        }
        Ok(_) => Ok(()),
        Err(error) if !error.to_string().contains(&case.name) => {
            Err(format!("the error does not name the file: {error}"))
        }
        Err(_) => Ok(()),
    }
}

/// Serializes memory measurements, because the counters are global.
static MEASURING: Mutex<()> = Mutex::new(());

/// 48 MiB of zeros compress to about 50 kB.
#[test]
fn a_png_color_profile_that_is_never_used_is_never_inflated() {
    let _guard = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut info = png::Info::with_size(4, 2);
    (info.color_type, info.bit_depth) = (png::ColorType::Rgb, png::BitDepth::Eight);
    info.icc_profile = Some(vec![0; 48 << 20].into());
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::with_info(&mut bytes, info).unwrap();
    encoder.add_ztxt_chunk("Comment".into(), "x".repeat(1 << 20)).unwrap();
    encoder.write_header().unwrap().write_image_data(&[7; 24]).unwrap();
    assert!(bytes.windows(4).any(|w| w == b"iCCP") && bytes.len() < 1 << 20);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bomb.png");
    std::fs::write(&path, &bytes).unwrap();
    let peak = |work: &dyn Fn()| {
        let base = NOW.load(Relaxed);
        PEAK.store(base, Relaxed);
        work();
        (PEAK.load(Relaxed) - base) >> 20
    };
    assert_eq!(peak(&|| assert_eq!(decode(&path).unwrap().rgb, [7; 24])), 0, "MiB for an image");
    // RGB masks need a class table, so this one is refused after its header is read.
    assert_eq!(
        peak(&|| assert!(LabelMap::read(&path, None).unwrap_err().to_string().contains("RGB"))),
        0,
        "MiB for a mask"
    );
}

/// Files that never end or wait for a writer are refused before opening, and files that are not
/// images after their first bytes.
#[cfg(unix)]
#[test]
fn fifos_devices_and_large_files_that_are_no_images_end_at_once() {
    let _guard = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo.png");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let large = directory.path().join("large.png");
    std::fs::File::create(&large).unwrap().set_len(900 << 20).unwrap();
    let base = NOW.load(Relaxed);
    PEAK.store(base, Relaxed);
    for (path, part) in [
        (&*fifo, "is a FIFO"),
        (Path::new("/dev/zero"), "is a device"),
        (&*large, "unknown image format"),
    ] {
        let text = decode(path).unwrap_err().to_string();
        assert!(text.contains(part) && text.contains(&path.display().to_string()), "{text}");
    }
    for path in [&*fifo, Path::new("/dev/zero")] {
        assert!(LabelMap::read(path, None).unwrap_err().to_string().contains("not a regular file"));
    }
    let peak = PEAK.load(Relaxed) - base;
    assert!(peak < 1 << 20, "{peak} bytes");
}

#[test]
fn no_damaged_image_panics_or_takes_a_gibibyte() {
    let _guard = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let (cases, mut failures, mut errors) = (cases(), Vec::new(), 0);
    assert!(cases.len() >= 200, "{} damaged images", cases.len());
    for (name, whole) in whole_files() {
        let path = directory.path().join(name);
        std::fs::write(&path, whole).unwrap();
        decode(&path).expect("the undamaged file is an image");
    }
    for case in &cases {
        let path = directory.path().join(&case.name);
        std::fs::write(&path, &case.bytes).unwrap();
        let base = NOW.load(Relaxed);
        PEAK.store(base, Relaxed);
        let started = std::time::Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mask = LabelMap::read(&path, None);
            (decode(&path), mask)
        }));
        let peak = PEAK.load(Relaxed) - base;
        let verdict = match outcome {
            Err(_) => Err("panicked".to_string()),
            Ok((_, Err(error))) if !error.to_string().contains(&case.name) => {
                Err(format!("the mask's error does not name the file: {error}"))
            }
            Ok((image, _)) => {
                errors += usize::from(image.is_err());
                check(image, case)
            }
        };
        let mut fail = |what: String| failures.push(format!("{}: {what}", case.name));
        verdict.unwrap_or_else(&mut fail);
        if peak > 1 << 30 {
            fail(format!("took {} MiB", peak >> 20));
        }
        if started.elapsed().as_secs() > 20 {
            fail(format!("took {:?}", started.elapsed()));
        }
    }
    println!("{} damaged images: {errors} errors, {} decoded", cases.len(), cases.len() - errors);
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
}
