use super::*;
use ::tiff::encoder::{TiffEncoder, colortype};
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

fn write_png(
    path: &Path,
    color: ::png::ColorType,
    depth: ::png::BitDepth,
    size: (u32, u32),
    data: &[u8],
) {
    let mut encoder = ::png::Encoder::new(File::create(path).unwrap(), size.0, size.1);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == ::png::ColorType::Indexed {
        encoder.set_palette((0..48).map(|v| 255 - v).collect::<Vec<u8>>());
    }
    encoder.write_header().unwrap().write_image_data(data).unwrap();
}

#[test]
fn palette_and_gray_masks_are_read_as_stored_at_every_depth() {
    use ::png::{BitDepth::*, ColorType::*};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mask.png");
    for (color, depth, row, labels) in [
        (Indexed, One, vec![0b1010_0000], [1, 0, 1]),
        (Grayscale, One, vec![0b0110_0000], [0, 1, 1]),
        (Indexed, Two, vec![0b1101_1000], [3, 1, 2]),
        (Grayscale, Four, vec![0x4f, 0x10], [4, 15, 1]),
        (Indexed, Eight, vec![1, 15, 7], [1, 15, 7]),
        (Grayscale, Eight, vec![1, 255, 7], [1, 255, 7]),
        (Grayscale, Sixteen, vec![1, 0, 0, 3, 255, 255], [256, 3, 65535]),
    ] {
        write_png(&path, color, depth, (3, 2), &[row.clone(), row].concat());
        let map = LabelMap::read(&path, None).unwrap();
        assert_eq!(map.labels, [labels, labels].concat(), "{color:?} {depth:?}");
    }
}

#[test]
fn colored_masks_need_a_table_and_known_colors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mask.png");
    let data = [[192, 128, 128], [0, 0, 0], [224, 224, 192]].concat();
    write_png(&path, ::png::ColorType::Rgb, ::png::BitDepth::Eight, (3, 1), &data);
    let error = LabelMap::read(&path, None).unwrap_err().to_string();
    assert!(error.contains("mask.png") && error.contains("classes.txt"), "{error}");
    assert_eq!(LabelMap::read(&path, Some(&ClassTable::voc())).unwrap().labels, [15, 0, 255]);
    let error = LabelMap::read(&path, Some(&ClassTable::cityscapes())).unwrap_err().to_string();
    assert!(error.contains("192 128 128 at column 0, row 0"), "{error}");
}

#[test]
fn opaque_masks_with_alpha_are_read_and_others_are_told_what_is_wrong() {
    use ::png::{BitDepth::*, ColorType::*};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mask.png");
    let voc = ClassTable::voc();
    write_png(&path, Rgba, Eight, (2, 1), &[192, 128, 128, 255, 0, 0, 0, 255]);
    assert_eq!(LabelMap::read(&path, Some(&voc)).unwrap().labels, [15, 0]);
    for (color, depth, data, part) in [
        (Rgba, Eight, vec![192, 128, 128, 255, 0, 0, 0, 254], "some pixels are transparent"),
        (GrayscaleAlpha, Eight, vec![1, 255, 0, 255], "gray with alpha"),
        (Rgb, Sixteen, vec![0; 12], "RGB with 16 bits per channel"),
        (Rgba, Sixteen, vec![255; 16], "alpha with 16 bits per channel"),
    ] {
        write_png(&path, color, depth, (2, 1), &data);
        let error = LabelMap::read(&path, Some(&voc)).unwrap_err().to_string();
        assert!(
            error.contains(part)
                && error.contains("save the mask without alpha, with 8 bits per channel"),
            "{error}"
        );
    }
}

#[test]
fn what_is_no_mask_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mask.png");
    std::fs::write(&path, b"JFIF").unwrap();
    assert!(LabelMap::read(&path, None).unwrap_err().to_string().contains("mask.png"));
    write_png(&path, ::png::ColorType::Rgba, ::png::BitDepth::Eight, (1, 1), &[0; 4]);
    assert!(LabelMap::read(&path, None).unwrap_err().to_string().contains("RGBA mask"));
    assert_eq!(
        LabelMap::read(directory.path().join("none.png"), None).unwrap_err().kind(),
        ErrorKind::Io
    );
}

/// A file in a directory of its own.
fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, bytes).unwrap();
    (directory, path)
}

/// An array's file: the start of its header's dictionary, and its numbers.
fn npy(dictionary: &str, numbers: &[u8]) -> Vec<u8> {
    let header = format!("{{{dictionary}, }}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), numbers].concat()
}

#[test]
fn arrays_are_read_in_any_type_and_order() {
    let u16s = [1u16, 2, 3, 4, 5, 256].map(u16::to_be_bytes).concat();
    let i64s = [1i64, 2, 3, 4, -1, 6].map(i64::to_le_bytes).concat();
    let floats = [1f32, 2.0, 3.0, 4.0, 0.0, 6.0].map(f32::to_le_bytes).concat();
    let shape = "'shape': (2, 3)";
    for (dictionary, numbers, labels) in [
        (
            format!("'descr': '|u1', 'fortran_order': False, {shape}"),
            &[1, 2, 3, 4, 5, 6][..],
            [1, 2, 3, 4, 5, 6],
        ),
        (
            format!("'descr': '|b1', 'fortran_order': False, {shape}"),
            &[1, 0, 0, 1, 0, 1],
            [1, 0, 0, 1, 0, 1],
        ),
        (
            format!("'descr': '|u1', 'fortran_order': True, {shape}"),
            &[1, 2, 3, 4, 5, 6],
            [1, 3, 5, 2, 4, 6],
        ),
        (format!("'descr': '>u2', 'fortran_order': False, {shape}"), &u16s, [1, 2, 3, 4, 5, 256]),
        (format!("'descr': '<i8', 'fortran_order': False, {shape}"), &i64s, [1, 2, 3, 4, 255, 6]),
        (format!("'descr': '<f4', 'fortran_order': False, {shape}"), &floats, [1, 2, 3, 4, 0, 6]),
        (
            "'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 1)".to_owned(),
            &[1, 2, 3, 4, 5, 6],
            [1, 2, 3, 4, 5, 6],
        ),
    ] {
        let (_directory, path) = file("mask.npy", &npy(&dictionary, numbers));
        let map = LabelMap::read(&path, None).unwrap();
        assert_eq!((map.width, map.height, &map.labels[..]), (3, 2, &labels[..]), "{dictionary}");
    }
}

#[test]
fn arrays_that_are_no_masks_are_refused_before_memory_is_allocated() {
    let half = 0.5f32.to_le_bytes();
    let shape = |shape: &str| format!("'descr': '|u1', 'fortran_order': False, 'shape': {shape}");
    let dtype = |dtype: &str| format!("'descr': {dtype}, 'fortran_order': False, 'shape': (1, 1)");
    for (bytes, part) in [
        (npy(&shape("(9, 1000000)"), &[0; 20]), "it has 20 of 9000000 bytes"),
        (npy(&shape("(99999999999, 99999999999)"), &[]), "99999999999x99999999999 pixels"),
        (npy(&shape("(0, 3)"), &[]), "3x0 pixels"),
        (npy(&shape("(2, 2, 3)"), &[0; 12]), "the shape (2, 2, 3) is no mask"),
        (npy(&shape("(4,)"), &[0; 4]), "the shape (4,) is no mask"),
        (npy(&shape("(a, b)"), &[]), "shape is not readable"),
        (npy(&dtype("'<f4'"), &half), "0.5 is no class number"),
        (npy(&dtype("'|i1'"), &[0xfe]), "-2 is no class number"),
        (npy(&dtype("'<c8'"), &[0; 8]), "the type `<c8` is no mask"),
        (npy(&dtype("[('a', '<i4')]"), &[0; 8]), "is no mask"),
        (npy("", &[]), "descr is not readable"),
        (b"\x93NUMPY\x02\0\xff\xff\xff\xff".to_vec(), "the header has 4294967295 bytes"),
        (b"\x93NUMPY\x01".to_vec(), "could not read"),
    ] {
        let (_directory, path) = file("mask.npy", &bytes);
        let error = LabelMap::read(&path, None).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("mask.npy"), "{part}: {error}");
    }
}

/// A gray or palette TIFF of one strip with these samples, 2 rows.
fn tiff(width: u8, bits: u8, palette: bool, samples: &[u8]) -> Vec<u8> {
    let photometric = if palette { 3 } else { 1 };
    let length = samples.len() as u8;
    let entries: &[(u8, u8, u8)] = &[
        (0, 1, width),
        (1, 1, 2),
        (2, 1, bits),
        (3, 1, 1),
        (6, 1, photometric),
        (17, 1, 8),
        (21, 1, 1),
        (22, 1, 2),
        (23, 1, length),
    ];
    let mut bytes = b"II*\0\0\0\0\0".to_vec();
    bytes.extend(samples);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    bytes[4] = bytes.len() as u8;
    bytes.extend([entries.len() as u8 + u8::from(palette), 0]);
    for &(tag, count, value) in entries {
        bytes.extend([tag, 1, 3, 0, count, 0, 0, 0, value, 0, 0, 0]);
    }
    if palette {
        // The color map, a tag of 3 * 2^bits values after the directory.
        let values = 3u32 << bits;
        let at = bytes.len() as u32 + 12 + 4;
        bytes.extend([64, 1, 3, 0]);
        bytes.extend(values.to_le_bytes());
        bytes.extend(at.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend((0..values).flat_map(|i| ((i as u16) << 8).to_le_bytes()));
    } else {
        bytes.extend([0; 4]);
    }
    bytes
}

#[test]
fn tiffs_are_read_as_stored_at_every_depth_with_and_without_palette() {
    for (bits, samples, labels) in [
        (1, vec![0b1010_0000, 0b0110_0000], [1, 0, 1, 0, 1, 1]),
        (4, vec![0x12, 0x30, 0x4f, 0x00], [1, 2, 3, 4, 15, 0]),
        (8, vec![1, 2, 3, 4, 255, 0], [1, 2, 3, 4, 255, 0]),
        (16, vec![1, 0, 2, 0, 3, 0, 4, 0, 5, 1, 0, 0], [1, 2, 3, 4, 261, 0]),
    ] {
        for palette in [false, true] {
            if palette && bits == 16 {
                continue;
            }
            let (_directory, path) = file("mask.tif", &tiff(3, bits, palette, &samples));
            let mask = MaskFile::read(&path, None).unwrap_or_else(|e| panic!("{bits}: {e}"));
            assert_eq!(mask.map.labels, labels, "{bits} bits, palette: {palette}");
            match mask.pixels {
                MaskPixels::Indices(colors) if palette => {
                    let count = 1u32 << bits;
                    assert_eq!(colors.len(), count as usize);
                    assert_eq!(colors[1], [1, 1 + count, 1 + 2 * count].map(|value| value as u8));
                }
                other => assert_eq!(other, MaskPixels::Values),
            }
        }
    }
    let mut float = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut float).unwrap();
    encoder.write_image::<colortype::Gray32Float>(3, 1, &[0.0, 2.0, -1.0]).unwrap();
    let (_directory, path) = file("mask.tif", float.get_ref());
    assert_eq!(LabelMap::read(&path, None).unwrap().labels, [0, 2, 255]);
}

#[test]
fn colored_tiffs_need_a_table_and_other_kinds_are_refused_by_name() {
    let mut color = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut color).unwrap();
    encoder.write_image::<colortype::RGB8>(2, 1, &[192, 128, 128, 0, 0, 0]).unwrap();
    let (_directory, path) = file("mask.tif", color.get_ref());
    let error = LabelMap::read(&path, None).unwrap_err().to_string();
    assert!(error.contains("classes.txt"), "{error}");
    assert_eq!(LabelMap::read(&path, Some(&ClassTable::voc())).unwrap().labels, [15, 0]);
    let mut wide = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut wide).unwrap();
    encoder.write_image::<colortype::RGB16>(1, 1, &[1, 2, 3]).unwrap();
    let (_directory, path) = file("mask.tif", wide.get_ref());
    let error = LabelMap::read(&path, Some(&ClassTable::voc())).unwrap_err().to_string();
    assert!(error.contains("unsupported mask: RGB(16)"), "{error}");
    let cut = tiff(3, 8, false, &[1, 2, 3, 4, 5, 6]);
    for end in 0..cut.len() {
        let (_directory, path) = file("mask.tif", &cut[..end]);
        assert!(LabelMap::read(&path, None).is_err(), "cut at {end}");
    }
}

#[test]
fn indices_of_bmp_and_gif_files_are_classes() {
    let colors = [0u8, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0];
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, 3, 2, &colors).unwrap();
    let frame = gif::Frame::from_indexed_pixels(3, 2, &[0, 1, 2, 3, 2, 1][..], None);
    encoder.write_frame(&frame).unwrap();
    drop(encoder);
    let (_directory, path) = file("mask.gif", &bytes);
    let mask = MaskFile::read(&path, None).unwrap();
    assert_eq!(mask.map.labels, [0, 1, 2, 3, 2, 1]);
    let MaskPixels::Indices(palette) = mask.pixels else { panic!("no palette") };
    assert_eq!(palette[1], [128, 0, 0]);

    let (_directory, path) = file("mask.bmp", &[]);
    let palette: Vec<[u8; 3]> = (0..=255).map(|v| [v, v, v]).collect();
    let mut bytes = Vec::new();
    image::codecs::bmp::BmpEncoder::new(&mut bytes)
        .encode_with_palette(&[7, 1, 0, 255], 2, 2, image::ExtendedColorType::L8, Some(&palette))
        .unwrap();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(LabelMap::read(&path, None).unwrap().labels, [7, 1, 0, 255]);
    image::RgbImage::from_pixel(2, 1, image::Rgb([192, 128, 128])).save(&path).unwrap();
    assert!(LabelMap::read(&path, None).unwrap_err().to_string().contains("classes.txt"));
    assert_eq!(LabelMap::read(&path, Some(&ClassTable::voc())).unwrap().labels, [15, 15]);
}

#[test]
fn lossy_formats_are_refused_by_name() {
    let (_directory, path) = file("mask.png", &[]);
    let mut jpeg = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new(&mut jpeg);
    image::GrayImage::new(8, 8).write_with_encoder(encoder).unwrap();
    for (bytes, part) in [
        (&jpeg[..], "a jpg image is no mask: masks are PNG, TIFF"),
        (&[], "the file is empty"),
        (b"classes", "could not decode the mask: masks are PNG"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = LabelMap::read(&path, None).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// A BMP of 3 x 2 pixels with a palette of black, red and green, whose rows are given from below.
fn palette_bmp(bits: u8, compression: u8, data: &[u8]) -> Vec<u8> {
    let header = [40, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, bits, 0, compression, 0, 0, 0];
    let rest = [
        data.len() as u8,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        3 - u8::from(bits == 1),
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    let colors = [[0, 0, 0, 0], [0, 0, 255, 0], [0, 255, 0, 0]].concat();
    let colors = &colors[..4 * (3 - usize::from(bits == 1))];
    let start = 14 + header.len() + rest.len() + colors.len();
    let file = [b'B', b'M', (start + data.len()) as u8, 0, 0, 0, 0, 0, 0, 0, start as u8, 0, 0, 0];
    [&file[..], &header, &rest, colors, data].concat()
}

/// The decoder panicked where it was asked for indices of less than a byte, or compressed ones.
#[test]
fn bmp_files_of_few_bits_and_compressed_ones_are_read() {
    for (bits, compression, data, labels) in [
        (1, 0, vec![0b0110_0000, 0, 0, 0, 0b1010_0000, 0, 0, 0], [1, 0, 1, 0, 1, 1]),
        (4, 0, vec![0x01, 0x20, 0, 0, 0x21, 0x00, 0, 0], [2, 1, 0, 0, 1, 2]),
        (8, 0, vec![0, 1, 2, 0, 2, 1, 0, 0], [2, 1, 0, 0, 1, 2]),
        (8, 1, vec![2, 1, 1, 2, 0, 0, 3, 0, 0, 1], [0, 0, 0, 1, 1, 2]),
    ] {
        let (_directory, path) = file("mask.bmp", &palette_bmp(bits, compression, &data));
        let map = LabelMap::read(&path, None).unwrap_or_else(|e| panic!("{bits} bits: {e}"));
        assert_eq!(map.labels, labels, "{bits} bits, compression {compression}");
    }
    for end in 0..palette_bmp(8, 1, &[2, 1, 1, 2, 0, 0, 3, 0, 0, 1]).len() {
        let whole = palette_bmp(8, 1, &[2, 1, 1, 2, 0, 0, 3, 0, 0, 1]);
        let (_directory, path) = file("mask.bmp", &whole[..end]);
        drop(LabelMap::read(&path, None));
    }
}
