//! `atrous doctor` on synthetic data sets, with and without planted faults.

use assert_cmd::Command;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

const CLASSES: &str =
    "0 ground 90 60 30\n1 sky 60 120 220\n2 tree 30 140 50\n3 house 200 60 40\n255 ignore 0 0 0\n";
const SIZE: (u32, u32) = (96, 72);

/// The class of a pixel of image `n`: sky over ground, a tree and a house. Their positions differ
/// between images.
fn class(n: u32, x: u32, y: u32) -> u8 {
    let (tree, house) = (10 + 7 * n % 40, 50 + 5 * n % 30);
    match (x, y) {
        _ if x == 0 => 255,
        _ if (tree..tree + 9).contains(&x) && (20..60).contains(&y) => 2,
        _ if (house..house + 15).contains(&x) && (35..65).contains(&y) => 3,
        _ if y < 30 + n % 5 => 1,
        _ => 0,
    }
}

fn color(class: u8) -> [u8; 3] {
    match class {
        0 => [90, 60, 30],
        1 => [60, 120, 220],
        2 => [30, 140, 50],
        3 => [200, 60, 40],
        _ => [0; 3],
    }
}

fn write_gray(path: &Path, (w, h): (u32, u32), value: impl Fn(u32, u32) -> u8) {
    image::GrayImage::from_fn(w, h, |x, y| image::Luma([value(x, y)])).save(path).unwrap();
}

fn write_rgb(path: &Path, (w, h): (u32, u32), value: impl Fn(u32, u32) -> [u8; 3]) {
    image::RgbImage::from_fn(w, h, |x, y| image::Rgb(value(x, y))).save(path).unwrap();
}

/// `train/` with sixteen images and `val/` with four, without faults.
fn data_set() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for directory in ["train", "trainannot", "val", "valannot"] {
        fs::create_dir(root.path().join(directory)).unwrap();
    }
    fs::write(root.path().join("classes.txt"), CLASSES).unwrap();
    for n in 0..20 {
        let split = if n < 16 { "train" } else { "val" };
        let shaded = |x: u32, y: u32| {
            color(class(n, x, y)).map(|v| v.saturating_add(((x * 7 + y * 13 + n) % 23) as u8))
        };
        write_rgb(&root.path().join(format!("{split}/p{n:02}.png")), SIZE, shaded);
        write_gray(&root.path().join(format!("{split}annot/p{n:02}.png")), SIZE, |x, y| {
            class(n, x, y)
        });
    }
    root
}

fn doctor(root: &Path, args: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = Command::cargo_bin("atrous").expect("the program is built with the tests");
    // Fails instead of hanging if an endless file is read.
    command.timeout(Duration::from_secs(300));
    command.env("NO_COLOR", "1").arg("doctor").arg(root).args(args).assert()
}

/// Problem, file name and detail of each finding.
fn findings(root: &Path, args: &[&str]) -> Vec<(String, String, String)> {
    let out = doctor(root, &[args, &["--json"]].concat()).get_output().stdout.clone();
    let report: Value = serde_json::from_slice(&out).expect("JSON");
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let name = |file: String| {
        Path::new(&file)
            .strip_prefix(root)
            .map(|p| p.to_str().unwrap().replace('\\', "/"))
            .unwrap_or(file)
    };
    let list = report["findings"].as_array().expect("a list");
    list.iter().map(|f| (text(f, "problem"), name(text(f, "file")), text(f, "detail"))).collect()
}

#[test]
fn a_data_set_without_faults_has_no_findings_and_correct_statistics() {
    let root = data_set();
    assert_eq!(findings(root.path(), &[]), []);
    let sheet = root.path().join("sheet.png");
    let run =
        doctor(root.path(), &["--out", sheet.to_str().unwrap(), "--sheet-images", "6"]).success();
    let text = String::from_utf8(run.get_output().stdout.clone()).unwrap();
    assert!(
        text.contains("train: 16 pairs, 96x72 pixels") && text.contains("val: 4 pairs"),
        "{text}"
    );
    assert!(image::image_dimensions(&sheet).unwrap().0 > 1000);

    let out = doctor(root.path(), &["--json"]).success().get_output().stdout.clone();
    let report: Value = serde_json::from_slice(&out).unwrap();
    let train = &report["splits"][0];
    let mut pixels = [0u64; 4];
    let mut ignored = 0;
    for n in 0..16 {
        for (x, y) in (0..SIZE.0).flat_map(|x| (0..SIZE.1).map(move |y| (x, y))) {
            match class(n, x, y) {
                255 => ignored += 1,
                c => pixels[usize::from(c)] += 1,
            }
        }
    }
    assert_eq!(train["ignored"], ignored);
    let all: u64 = pixels.iter().sum();
    for (class, &n) in pixels.iter().enumerate() {
        let count = &train["classes"][class];
        assert_eq!((&count["pixels"], &count["images"]), (&n.into(), &16.into()));
        let share = n as f64 / all as f64;
        let log = 1.0 / (1.02 + share).ln();
        assert!((count["share"].as_f64().unwrap() - share).abs() < 1e-9);
        assert!((count["log_weight"].as_f64().unwrap() - log).abs() < 1e-9);
    }
    assert_eq!(train["classes"][3]["name"], "house");
}

/// Each fault is in a separate file, and is found there and nowhere else.
#[test]
fn every_planted_fault_is_found_in_its_file_and_in_no_other() {
    let root = data_set();
    let path = |file: &str| root.path().join(file);
    let mask = |n: u32| path(&format!("trainannot/p{n:02}.png"));
    // 1: values that are not a class.
    write_gray(&mask(0), SIZE, |x, y| if x > 90 && y > 60 { 77 } else { class(0, x, y) });
    // 2: a mask with unknown colors.
    write_rgb(&mask(1), SIZE, |x, y| if y < 30 { [1, 2, 3] } else { color(class(1, x, y)) });
    // 3: a colored mask that was saved as gray.
    let gray = |[r, g, b]: [u8; 3]| {
        (0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b)).round() as u8
    };
    write_gray(&mask(2), SIZE, |x, y| gray(color(class(2, x, y))));
    // 4: a mask that was resized with interpolation.
    let crisp =
        image::GrayImage::from_fn(48, 36, |x, y| image::Luma([class(3, 2 * x, 2 * y).min(200)]));
    image::imageops::resize(&crisp, SIZE.0, SIZE.1, image::imageops::FilterType::Triangle)
        .save(mask(3))
        .unwrap();
    // 5: a mask with a different size.
    write_gray(&mask(4), (SIZE.1, SIZE.0), |x, y| class(4, y, x));
    // 6: a truncated image, and a mask that is not a PNG.
    let whole = fs::read(path("train/p05.png")).unwrap();
    fs::write(path("train/p05.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(mask(6), "no PNG").unwrap();
    // 7: two images without a mask.
    fs::remove_file(mask(7)).unwrap();
    fs::remove_file(mask(8)).unwrap();
    // 8: a mask without an image.
    fs::remove_file(path("train/p09.png")).unwrap();
    // 9: a mask without labeled pixels.
    write_gray(&mask(10), SIZE, |_, _| 255);
    // 10: an image of the validation split that is also in the training split.
    fs::copy(path("val/p17.png"), path("train/p11.png")).unwrap();
    // 11: a tiny image.
    write_rgb(&path("train/p12.png"), (20, 15), |x, y| color(class(12, 4 * x, 4 * y)));
    write_gray(&mask(12), (20, 15), |x, y| class(12, 4 * x, 4 * y));
    // 12: a palette in a different order.
    let file = fs::File::create(mask(13)).unwrap();
    let mut encoder = png::Encoder::new(file, SIZE.0, SIZE.1);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette([3u8, 2, 1, 0].iter().flat_map(|&c| color(c)).collect::<Vec<u8>>());
    let indices: Vec<u8> =
        (0..SIZE.0 * SIZE.1).map(|i| 3 - class(13, i % SIZE.0, i / SIZE.0).min(3)).collect();
    encoder.write_header().unwrap().write_image_data(&indices).unwrap();
    // 13: a class that is in no mask.
    fs::write(path("classes.txt"), CLASSES.replace("255 ignore", "4 river 0 90 160\n255 ignore"))
        .unwrap();
    // 14: two images with the same name.
    fs::copy(path("train/p14.png"), path("train/p14.bmp")).unwrap();
    // 15: a duplicate image.
    fs::copy(path("train/p14.png"), path("train/p15.png")).unwrap();

    let mut reported: Vec<(String, String, String)> = findings(root.path(), &[]);
    reported.sort();
    let expected = [
        ("all_ignored", "trainannot/p10.png", ""),
        ("colored_mask", "trainannot/p02.png", "classes' colors converted to gray"),
        ("duplicate", "train/p15.png", "train/p14"),
        ("empty_class", "", "4 river"),
        ("empty_class", "", "4 river"),
        ("in_two_splits", "val/p17.png", "train/p11.png"),
        ("no_image", "trainannot/p09.png", "train"),
        ("no_mask", "train/p07.png", "trainannot"),
        ("no_mask", "train/p08.png", "trainannot"),
        ("out_of_range", "trainannot/p00.png", "77 (55 px)"),
        (
            "palette_order",
            "trainannot/p13.png",
            "index 0 has the color 200 60 40, which belongs to house",
        ),
        ("same_name", "train/p14.png", "p14.bmp"),
        ("size_differs", "trainannot/p04.png", "72x96 pixels, but the image has 96x72"),
        ("smoothed", "trainannot/p03.png", "values"),
        ("tiny", "train/p12.png", "20x15"),
        ("unknown_colors", "trainannot/p01.png", "1 colors: 1 2 3 (2880 px)"),
        ("unreadable", "train/p05.png", "truncated file"),
        ("unreadable", "trainannot/p06.png", "PNG"),
    ];
    let names = |list: &[(String, String, String)]| {
        list.iter().map(|f| format!("{} {}", f.0, f.1)).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&reported),
        expected.iter().map(|e| format!("{} {}", e.0, e.1)).collect::<Vec<_>>(),
        "{reported:#?}"
    );
    for (finding, expected) in reported.iter().zip(expected) {
        assert!(finding.2.contains(expected.2), "`{}` is missing in {finding:?}", expected.2);
    }

    let run = doctor(root.path(), &["--out", path("sheet.png").to_str().unwrap()]).code(1);
    let (text, error) = (&run.get_output().stdout, &run.get_output().stderr);
    let (text, error) = (String::from_utf8_lossy(text), String::from_utf8_lossy(error));
    assert!(error.contains("faults were found"), "{error}");
    assert!(
        text.contains("fault: images without a mask (2)") && text.contains("-> add the mask"),
        "{text}"
    );
    assert!(path("sheet.png").is_file(), "the sheet shows what can be read");
    // The validation split alone has no fault except for the missing class.
    assert_eq!(names(&findings(root.path(), &["--split", "val"])), ["empty_class "]);
}

#[test]
fn colors_need_a_table_and_zero_and_255_are_two_classes_unless_declared() {
    let root = data_set();
    fs::remove_file(root.path().join("classes.txt")).unwrap();
    for n in 16..20 {
        let mask = root.path().join(format!("valannot/p{n}.png"));
        write_rgb(&mask, SIZE, |x, y| color(class(n, x, y)));
    }
    let reported = findings(root.path(), &["--split", "val"]);
    let colored: Vec<_> = reported.iter().filter(|f| f.0 == "colored_mask").collect();
    assert_eq!(colored.len(), 4, "{reported:?}");
    assert!(
        colored[0].2.contains("5 colors") && colored[0].2.contains("60 120 220"),
        "{colored:?}"
    );
    // With the table they are classes.
    fs::write(root.path().join("colors.txt"), CLASSES).unwrap();
    let table = root.path().join("colors.txt");
    assert_eq!(
        findings(root.path(), &["--split", "val", "--class-table", table.to_str().unwrap()]),
        []
    );

    for n in 16..20 {
        write_gray(&root.path().join(format!("valannot/p{n}.png")), SIZE, |x, y| {
            if class(n, x, y) == 2 { 255 } else { 0 }
        });
    }
    let problems = |options: &[&str]| -> Vec<String> {
        let options = [&["--split", "val"], options].concat();
        findings(root.path(), &options).into_iter().map(|f| f.0).collect()
    };
    assert_eq!(problems(&[]), ["foreground_is_255"]);
    let declared = root.path().join("declared.txt");
    fs::write(&declared, "0 ground\n1 car\n255 ignore\n").unwrap();
    let declared = problems(&["--class-table", declared.to_str().unwrap()]);
    assert_eq!(declared, ["zero_and_255", "empty_class"]);
}

#[test]
fn opaque_masks_with_alpha_are_valid_and_unsupported_formats_are_reported() {
    let root = data_set();
    let mask = |n: u32| root.path().join(format!("trainannot/p{n:02}.png"));
    let with_alpha = |n: u32, alpha: u8| {
        let pixel = |x, y| {
            let [r, g, b] = color(class(n, x, y));
            image::Rgba([r, g, b, if x == 9 { alpha } else { 255 }])
        };
        image::RgbaImage::from_fn(SIZE.0, SIZE.1, pixel).save(mask(n)).unwrap();
    };
    with_alpha(0, 255);
    with_alpha(1, 254);
    let wide = |x, y| image::Rgb(color(class(2, x, y)).map(|v| u16::from(v) * 257));
    image::ImageBuffer::<image::Rgb<u16>, Vec<u16>>::from_fn(SIZE.0, SIZE.1, wide)
        .save(mask(2))
        .unwrap();
    let advice = "save it without alpha, with 8 bits per channel";
    let finding = |n: u32, format: &str| {
        (
            "colored_mask".to_owned(),
            format!("trainannot/p{n:02}.png"),
            format!("{format}; {advice}"),
        )
    };
    let expected = [finding(1, "colors with transparency"), finding(2, "16-bit colors")];
    assert_eq!(findings(root.path(), &[]), expected);
}

#[test]
fn two_classes_of_one_color_matter_where_masks_are_in_colors() {
    let root = data_set();
    fs::write(root.path().join("classes.txt"), CLASSES.replace("200 60 40", "30 140 50")).unwrap();
    assert_eq!(findings(root.path(), &[]), [], "masks that contain class numbers");
    for n in 16..20 {
        let mask = root.path().join(format!("valannot/p{n}.png"));
        write_rgb(&mask, SIZE, |x, y| color(if class(n, x, y) == 3 { 2 } else { class(n, x, y) }));
    }
    let reported = findings(root.path(), &["--split", "val"]);
    let fields: Vec<_> = reported.iter().map(|f| (f.0.as_str(), f.2.as_str())).collect();
    assert_eq!(
        fields,
        [("empty_class", "3 house"), ("same_color", "2 tree and 3 house are both 30 140 50")]
    );
}

#[test]
fn an_image_with_an_exif_orientation_is_reported() {
    let root = data_set();
    let path = root.path().join("train/p05.jpg");
    fs::remove_file(root.path().join("train/p05.png")).unwrap();
    write_rgb(&path, SIZE, |x, y| color(class(5, x, y)));
    let plain = fs::read(&path).unwrap();
    // Upside down, so that the size stays the same.
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0";
    let length = (exif.len() as u16 + 2).to_be_bytes();
    fs::write(&path, [&plain[..2], b"\xff\xe1", &length, exif, &plain[2..]].concat()).unwrap();
    let reported = findings(root.path(), &[]);
    let fields: Vec<_> =
        reported.iter().map(|f| (f.0.as_str(), f.1.as_str(), f.2.as_str())).collect();
    assert_eq!(fields, [("rotated", "train/p05.jpg", "rotated upright (EXIF orientation 3)")]);
    doctor(root.path(), &[]).success();
}

#[test]
fn files_that_are_too_large_or_endless_are_reported_and_not_read() {
    let root = data_set();
    let path = |file: &str| root.path().join(file);
    // A sparse file, which takes no space.
    fs::File::create(path("train/p05.png")).unwrap().set_len((1 << 30) + 1).unwrap();
    let mut expected = vec![("train/p05.png", "over the limit of 1024 MiB")];
    let endless: &[&str] = if cfg!(unix) { &["train/p06.png", "trainannot/p07.png"] } else { &[] };
    for &file in endless {
        fs::remove_file(path(file)).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path(file)).status().unwrap().success());
        expected.push((file, "is a FIFO, not a regular file"));
    }
    let reported = findings(root.path(), &[]);
    assert_eq!(reported.len(), expected.len(), "{reported:?}");
    for (finding, (file, message)) in reported.iter().zip(expected) {
        assert!(
            finding.0 == "unreadable" && finding.1 == file && finding.2.contains(message),
            "{finding:?}"
        );
    }
}

#[test]
fn directories_that_are_not_a_data_set_are_refused() {
    let empty = tempfile::tempdir().unwrap();
    let run = doctor(empty.path(), &[]).code(1);
    assert!(
        String::from_utf8_lossy(&run.get_output().stderr).contains("unrecognized data set layout")
    );
    let root = data_set();
    let run = doctor(root.path(), &["--split", "nonsense"]).code(1);
    assert!(
        String::from_utf8_lossy(&run.get_output().stderr)
            .contains("no split `nonsense`; available splits: train, val")
    );
}

#[cfg(unix)]
#[test]
fn a_sheet_does_not_replace_the_class_table_through_a_link() {
    let root = data_set();
    let classes = fs::read(root.path().join("classes.txt")).unwrap();
    std::os::unix::fs::symlink("classes.txt", root.path().join("sheet.png")).unwrap();
    let sheet = root.path().join("sheet.png");
    let refused = doctor(root.path(), &["-o", sheet.to_str().unwrap()]).code(2);
    let stderr = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(stderr.contains("is a list of the data set"), "{stderr}");
    assert_eq!(fs::read(root.path().join("classes.txt")).unwrap(), classes);
}

/// It counted as missing, and the classes of another data set were assumed.
#[cfg(unix)]
#[test]
fn a_class_table_that_is_a_fifo_is_refused() {
    let root = data_set();
    let classes = root.path().join("classes.txt");
    fs::remove_file(&classes).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&classes).status().unwrap().success());
    let refused = doctor(root.path(), &[]).code(1);
    let stderr = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(stderr.contains("classes.txt: is a FIFO"), "{stderr}");
}
