//! Image files of every format, bit depth, orientation and animation.

use atrous::ErrorKind;
use atrous::Size;
use atrous::image::{BACKDROP, DecodeOptions, Image, decode, decode_bytes, resample};
use image::{
    DynamicImage, Frame, GrayAlphaImage, ImageBuffer, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage,
};
use std::io::Cursor;

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn pattern(w: u32, h: u32) -> RgbImage {
    RgbImage::from_fn(w, h, |x, y| {
        Rgb([0, 1, 2].map(|c| ((x * 37 + y * 101 + c * 59 + x * y * 13) % 256) as u8))
    })
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/images/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn lossless_formats_return_the_pixels_they_were_given() {
    let source = pattern(13, 7);
    for (format, extension) in [
        (ImageFormat::Png, "png"),
        (ImageFormat::Bmp, "bmp"),
        (ImageFormat::Tiff, "tif"),
        (ImageFormat::Pnm, "ppm"),
        (ImageFormat::Qoi, "qoi"),
        (ImageFormat::Tga, "tga"),
        (ImageFormat::WebP, "webp"),
    ] {
        let image =
            decode_bytes(&encode(&source.clone().into(), format), &format!("a.{extension}"))
                .unwrap();
        let expected = Image::new(Size::new(13, 7), source.as_raw().clone()).unwrap();
        assert_eq!(image, expected, "{extension}");
    }
}

#[test]
fn the_content_decides_and_a_wrong_ending_is_noted() {
    let bytes = encode(&pattern(4, 4).into(), ImageFormat::Png);
    let image = decode_bytes(&bytes, "photo.jpg").unwrap();
    assert_eq!(image.notes, ["the file extension is .jpg, but the content is PNG"]);
    assert!(decode_bytes(&bytes, "no extension").unwrap().notes.is_empty());
}

#[test]
fn gray_is_spread_and_sixteen_bits_are_rounded() {
    let gray = DynamicImage::ImageLuma8(ImageBuffer::from_raw(2, 1, vec![7, 200]).unwrap());
    let image = decode_bytes(&encode(&gray, ImageFormat::Png), "a.png").unwrap();
    assert_eq!(image.rgb, [7, 7, 7, 200, 200, 200]);
    let wide = vec![0, 257, 128, 129, 65535, 33000];
    let wide = DynamicImage::ImageRgb16(ImageBuffer::from_raw(2, 1, wide).unwrap());
    let image = decode_bytes(&encode(&wide, ImageFormat::Png), "a.png").unwrap();
    assert_eq!(image.rgb, [0, 1, 0, 1, 255, 128]);
    assert_eq!(image.notes, ["rounded 16-bit samples to 8 bits"]);
    let dark = DynamicImage::ImageLuma16(ImageBuffer::from_raw(2, 1, vec![0, 4095]).unwrap());
    let image = decode_bytes(&encode(&dark, ImageFormat::Tiff), "a.tif").unwrap();
    assert_eq!(image.rgb, [0, 0, 0, 16, 16, 16]);
    assert!(image.notes.iter().any(|n| n.contains("almost black")), "{:?}", image.notes);
}

#[test]
fn transparency_is_laid_over_the_backdrop_and_kept() {
    let pixels = vec![255, 0, 10, 255, 255, 0, 10, 0, 255, 0, 10, 128];
    let rgba = DynamicImage::ImageRgba8(RgbaImage::from_raw(3, 1, pixels).unwrap());
    let image = decode_bytes(&encode(&rgba, ImageFormat::Png), "a.png").unwrap();
    assert_eq!(image.rgb, [255, 0, 10, BACKDROP[0], BACKDROP[1], BACKDROP[2], 191, 63, 68]);
    assert_eq!(image.alpha, Some(vec![255, 0, 128]));
    let white = DecodeOptions { backdrop: [255; 3], ..Default::default() };
    assert_eq!(
        white.decode_bytes(&encode(&rgba, ImageFormat::Png), "a.png").unwrap().rgb[3..6],
        [255; 3]
    );
    let opaque =
        DynamicImage::ImageLumaA8(GrayAlphaImage::from_raw(1, 2, vec![9, 255, 8, 255]).unwrap());
    let image = decode_bytes(&encode(&opaque, ImageFormat::Png), "a.png").unwrap();
    assert_eq!((image.rgb, image.alpha), (vec![9, 9, 9, 8, 8, 8], None));
}

#[test]
fn floating_point_samples_are_refused() {
    let float =
        DynamicImage::ImageRgb32F(ImageBuffer::from_raw(1, 1, vec![0.5, 20.0, -3.0]).unwrap());
    let error = decode_bytes(&encode(&float, ImageFormat::Tiff), "hdr.tif").unwrap_err();
    assert!(
        error.to_string().contains("hdr.tif: floating-point samples are not supported"),
        "{error}"
    );
}

/// A JPEG with quarters of four colors and an EXIF orientation.
fn turned_jpeg(orientation: u8, big_endian: bool) -> Vec<u8> {
    let quarters = RgbImage::from_fn(48, 32, |x, y| QUARTERS[(x / 24 + 2 * (y / 16)) as usize]);
    let plain = encode(&quarters.into(), ImageFormat::Jpeg);
    let tiff: Vec<u8> = if big_endian {
        [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", &[orientation][..], b"\0\0\0\0\0\0"]
            .concat()
    } else {
        [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", &[orientation][..], b"\0\0\0\0\0\0\0"]
            .concat()
    };
    let exif = [b"Exif\0\0", &tiff[..]].concat();
    [&plain[..2], b"\xff\xe1", &(exif.len() as u16 + 2).to_be_bytes(), &exif, &plain[2..]].concat()
}

const QUARTERS: [Rgb<u8>; 4] =
    [Rgb([220, 30, 30]), Rgb([30, 200, 30]), Rgb([30, 30, 210]), Rgb([230, 220, 40])];

#[test]
fn all_eight_exif_orientations_come_out_upright() {
    // The stored quarters that appear top left, top right, bottom left, bottom right (Exif 2.3, tag
    // 0x0112).
    let upright = [
        [0, 1, 2, 3],
        [1, 0, 3, 2],
        [3, 2, 1, 0],
        [2, 3, 0, 1],
        [0, 2, 1, 3],
        [2, 0, 3, 1],
        [3, 1, 2, 0],
        [1, 3, 0, 2],
    ];
    for (index, expected) in upright.iter().enumerate() {
        for big_endian in [false, true] {
            let orientation = index as u8 + 1;
            let image = decode_bytes(&turned_jpeg(orientation, big_endian), "a.jpg").unwrap();
            let (w, h) = if orientation >= 5 { (32, 48) } else { (48, 32) };
            assert_eq!((image.width, image.height), (w, h), "orientation {orientation}");
            let center = |column: usize, row: usize| {
                let at = 3 * ((h / 4 + row * h / 2) * w + w / 4 + column * w / 2);
                let pixel = &image.rgb[at..at + 3];
                QUARTERS
                    .iter()
                    .position(|q| q.0.iter().zip(pixel).all(|(a, b)| a.abs_diff(*b) < 12))
            };
            let quarters = [center(0, 0), center(1, 0), center(0, 1), center(1, 1)];
            assert_eq!(
                quarters,
                expected.map(Some),
                "orientation {orientation}, big endian: {big_endian}"
            );
            assert_eq!(image.notes.is_empty(), orientation == 1);
        }
    }
    let nonsense = decode_bytes(&turned_jpeg(77, true), "a.jpg").unwrap();
    assert_eq!((nonsense.width, nonsense.height), (48, 32), "an invalid orientation is ignored");
}

#[test]
fn orientation_is_applied_in_webp_and_in_png_behind_the_pixels_and_to_alpha() {
    assert_eq!((decode_bytes(&fixture("lossy.webp"), "a").unwrap().width, 24), (24, 24));
    let turned = decode_bytes(&fixture("turned.webp"), "a").unwrap();
    assert_eq!((turned.width, turned.height), (16, 24));

    let rgba = RgbaImage::from_fn(3, 2, |x, y| Rgba([10, 20, 30, (100 + x + 10 * y) as u8]));
    let plain = encode(&rgba.into(), ImageFormat::Png);
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let body = [b"eXIf", &exif[..]].concat();
    let chunk =
        [&(exif.len() as u32).to_be_bytes()[..], &body, &crc32(&body).to_be_bytes()].concat();
    let end = plain.len() - 12;
    let image = decode_bytes(&[&plain[..end], &chunk, &plain[end..]].concat(), "a.png").unwrap();
    assert_eq!((image.width, image.height), (2, 3));
    assert_eq!(image.alpha.unwrap(), [110, 100, 111, 101, 112, 102]);
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(
            crc ^ u32::from(b),
            |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 },
        )
    })
}

#[test]
fn animations_are_refused_or_give_their_first_frame() {
    let mut gif = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
    let frame = |v: u8| Frame::new(RgbaImage::from_pixel(4, 4, Rgba([v, v, v, 255])));
    encoder.encode_frames([frame(0), frame(120), frame(250)]).unwrap();
    drop(encoder);
    for (name, bytes) in
        [("a.gif", gif), ("a.webp", fixture("animated.webp")), ("a.png", fixture("animated.png"))]
    {
        let error = decode_bytes(&bytes, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Image);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("{name}: animation of 3 frames"))
                && text.contains("--first-frame"),
            "{text}"
        );
        let first = DecodeOptions { first_frame: true, ..Default::default() }
            .decode_bytes(&bytes, name)
            .unwrap();
        assert_eq!((first.width, first.height, first.rgb[0]), (4, 4, 0), "{name}");
        assert_eq!(first.notes, ["used the first of 3 frames"]);
    }
    let still = encode(&pattern(4, 4).into(), ImageFormat::Gif);
    assert_eq!(decode_bytes(&still, "a.gif").unwrap().rgb.len(), 48);
    let pages = decode_bytes(&fixture("pages.tif"), "a.tif").unwrap();
    assert_eq!(
        (pages.rgb[0], pages.notes.as_slice()),
        (120, &["used the first of 3 pages".to_string()][..])
    );
}

#[test]
fn progressive_and_cmyk_jpegs_are_read() {
    let image = decode_bytes(&fixture("progressive.jpg"), "a.jpg").unwrap();
    assert_eq!((image.width, image.height), (24, 16));
    let cmyk = decode_bytes(&fixture("cmyk.jpg"), "a.jpg").unwrap();
    assert!(cmyk.rgb.iter().all(|v| v.abs_diff(149) <= 3), "{:?}", &cmyk.rgb[..3]);
}

#[test]
fn what_is_no_image_is_called_by_its_kind() {
    for (bytes, part) in [
        (&b""[..], "the file is empty"),
        (b"\0\0\0\x1cftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x1cftypisom\0\0\0\0", "a video"),
        (b"%PDF-1.4", "PDF"),
        (b"<svg xmlns=", "SVG"),
        (b"8BPS\0\x01", "Photoshop"),
        (b"hello", "unknown image format"),
    ] {
        let text = decode_bytes(bytes, "x.jpg").unwrap_err().to_string();
        assert!(text.starts_with("x.jpg: ") && text.contains(part), "{text}");
    }
}

#[test]
fn directories_missing_files_and_empty_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.png");
    std::fs::write(&empty, b"").unwrap();
    for (path, kind, part) in [
        (directory.path().to_path_buf(), ErrorKind::Image, "found a directory"),
        (directory.path().join("none.png"), ErrorKind::Io, "none.png"),
        (empty, ErrorKind::Image, "empty.png: the file is empty"),
    ] {
        let error = decode(&path).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn limits_are_checked_from_the_header() {
    let bytes = encode(&pattern(40, 30).into(), ImageFormat::Png);
    let small = DecodeOptions { max_pixels: 1199, ..Default::default() };
    let text = small.decode_bytes(&bytes, "big.png").unwrap_err().to_string();
    assert!(
        text.starts_with("big.png: 40x30 is") && text.contains("scale the image down"),
        "{text}"
    );
    assert!(
        DecodeOptions { max_pixels: 1200, ..Default::default() }
            .decode_bytes(&bytes, "big.png")
            .is_ok()
    );
    let little = DecodeOptions { max_bytes: 5000, ..Default::default() };
    let text = little.decode_bytes(&bytes, "big.png").unwrap_err().to_string();
    assert!(text.contains("big.png") && text.contains("memory"), "{text}");
}

#[test]
fn resampling_agrees_with_pillow() {
    // Image.fromarray(pattern).resize(size, Image.BILINEAR) of Pillow 13: downscaled, upscaled, and
    // one of each.
    #[rustfmt::skip]
    let golden: [((usize, usize), &[u8]); 3] = [
        ((4, 3), &[
            65, 119, 131, 132, 103, 140, 131, 159, 113, 167, 149, 81, 110, 90, 124, 118, 102, 149, 124, 93, 141, 99, 121, 126, 141, 133,
            115, 130, 103, 121, 147, 130, 126, 166, 161, 96,
        ]),
        ((3, 9), &[
            32, 91, 150, 111, 170, 154, 190, 158, 52, 69, 110, 132, 133, 136, 140, 161, 159, 78, 132, 142, 103, 169, 80, 118, 112, 161,
            120, 120, 108, 106, 151, 91, 142, 87, 122, 130, 91, 59, 118, 120, 119, 178, 69, 73, 132, 103, 91, 150, 106, 105, 155, 132,
            115, 114, 118, 116, 165, 101, 99, 132, 178, 149, 101, 150, 118, 116, 137, 126, 110, 160, 152, 113, 169, 119, 86, 159, 143,
            96, 149, 153, 120,
        ]),
        ((11, 6), &[
            0, 59, 118, 17, 76, 135, 40, 99, 158, 64, 123, 182, 87, 146, 205, 111, 170, 229, 135, 194, 90, 158, 217, 20, 182, 241, 44,
            205, 125, 67, 222, 25, 84, 76, 135, 194, 97, 156, 128, 127, 168, 53, 156, 76, 82, 186, 53, 112, 216, 83, 142, 124, 113, 131,
            84, 143, 138, 113, 172, 167, 143, 167, 93, 164, 159, 26, 160, 70, 129, 118, 96, 106, 74, 123, 85, 110, 91, 121, 147, 99, 158,
            183, 136, 195, 152, 77, 136, 109, 60, 119, 51, 96, 155, 74, 133, 134, 100, 159, 111, 137, 47, 106, 101, 79, 138, 63, 112, 171,
            106, 88, 147, 111, 102, 161, 87, 146, 205, 130, 94, 153, 133, 83, 113, 82, 127, 89, 111, 112, 122, 143, 95, 154, 72, 131, 126,
            109, 139, 163, 153, 137, 196, 163, 65, 124, 126, 63, 99, 54, 113, 108, 104, 123, 158, 138, 150, 157, 147, 200, 85, 192, 146,
            83, 228, 95, 90, 148, 207, 10, 188, 131, 50, 222, 48, 107, 116, 105, 164, 102, 161, 127, 159, 218, 21, 216, 112, 78, 202, 75,
            134, 96, 132, 191, 130, 189, 108, 170, 229, 32,
        ]),
    ];
    let (source, from) = (pattern(7, 5), Size::new(7, 5));
    for ((width, height), expected) in golden {
        let size = Size { width, height };
        let got = resample(source.as_raw(), from, size).unwrap();
        assert_eq!(*got, *expected, "{size:?}");
    }
    assert!(resample(source.as_raw(), from, Size::new(0, 3)).is_err());
    assert!(resample(source.as_raw(), Size::new(7, 6), Size::square(3)).is_err());
}

/// A TIFF of 2 x 1 pixels with four samples of 8 bits each and the ExtraSamples tag, if any.
fn tiff(extra: Option<u16>, pixels: &[u8]) -> Vec<u8> {
    let mut entries: Vec<(u16, u16, u32, u32)> = vec![
        (256, 3, 1, 2),
        (257, 3, 1, 1),
        // Bits of each sample, stored between the directory and the pixels.
        (258, 3, 4, 0),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 0),
        (277, 3, 1, 4),
        (278, 3, 1, 1),
        (279, 4, 1, pixels.len() as u32),
    ];
    entries.extend(extra.map(|value| (338, 3, 1, u32::from(value))));
    let behind = 8 + 2 + 12 * entries.len() as u32 + 4;
    entries[2].3 = behind;
    entries[5].3 = behind + 8;
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        bytes.extend(tag.to_le_bytes().into_iter().chain(kind.to_le_bytes()));
        bytes.extend(count.to_le_bytes().into_iter().chain(value.to_le_bytes()));
    }
    bytes.extend([0; 4]);
    bytes.extend([8, 0, 8, 0, 8, 0, 8, 0]);
    bytes.extend(pixels);
    bytes
}

#[test]
fn a_fourth_band_of_a_tiff_is_alpha_only_where_its_tag_says_so() {
    let pixels = [200, 100, 50, 0, 10, 20, 30, 255];
    for extra in [None, Some(0)] {
        let image = decode_bytes(&tiff(extra, &pixels), "nir.tif").unwrap();
        assert_eq!(
            (&image.rgb[..], &image.alpha),
            (&[200, 100, 50, 10, 20, 30][..], &None),
            "{extra:?}"
        );
        assert!(image.notes.iter().any(|n| n.contains("ExtraSamples")), "{:?}", image.notes);
    }
    let straight = decode_bytes(&tiff(Some(2), &pixels), "rgba.tif").unwrap();
    assert_eq!(
        (&straight.rgb[..], straight.alpha.as_deref()),
        (&[127, 127, 127, 10, 20, 30][..], Some(&[0, 255][..]))
    );
    // Premultiplied: half of 200 is stored, and half of the backdrop is added.
    let premultiplied =
        decode_bytes(&tiff(Some(1), &[100, 50, 25, 128, 10, 20, 30, 255]), "rgba.tif").unwrap();
    assert_eq!(premultiplied.rgb[..3], [163, 113, 88]);
}
