//! The network in `weights/`: its documented score, and its result on the drawing in `docs/`.

mod support;

use atrous::data::list_directories;
use atrous::eval::Confusion;
use atrous::image::{SizeRule, decode};
use atrous::{DeviceChoice, Model, Segmenter};
use std::path::{Path, PathBuf};

const NETWORK: &str = "weights/camvid-mobilenetv2.safetensors";

/// Returns the path of a file in the repository.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn segmenter(path: &Path) -> Segmenter {
    Segmenter::new(Model::open(path).unwrap(), &DeviceChoice::Cpu).unwrap()
}

#[test]
#[cfg_attr(is_package, ignore = "needs weights/, which the package does not contain")]
fn the_drawn_street_has_its_parts_where_they_are_drawn() {
    let (network, image) = (file(NETWORK), file("docs/images/street.png"));
    assert!(
        std::fs::metadata(&network).unwrap().len() < 12 << 20,
        "the file must be small enough for the repository"
    );
    let network = segmenter(&network);
    let table = network.model().class_table();
    assert_eq!(
        (table.len(), table.find("road"), table.color(3)),
        (11, Some(3), [128, 64, 128]),
        "CamVid's classes and colors"
    );
    let map = network.segment(&decode(image).unwrap(), SizeRule::Native).unwrap().labels;
    // Fraction of a class in a rectangle, given in percent of the image sides.
    let fraction = |class: &str, columns: [usize; 2], rows: [usize; 2]| {
        let span =
            |percent: [usize; 2], side: usize| percent[0] * side / 100..percent[1] * side / 100;
        let class = table.find(class).unwrap();
        let pixels: Vec<bool> = span(rows, map.height)
            .flat_map(|y| span(columns, map.width).map(move |x| (x, y)))
            .map(|(x, y)| usize::from(map.labels[y * map.width + x]) == class)
            .collect();
        pixels.iter().filter(|p| **p).count() as f64 / pixels.len() as f64
    };
    for (class, columns, rows) in [
        ("road", [30, 70], [70, 98]),
        ("sky", [35, 65], [5, 30]),
        ("building", [2, 25], [10, 25]),
        ("tree", [85, 98], [25, 40]),
        ("pavement", [2, 10], [55, 62]),
    ] {
        let covered = fraction(class, columns, rows);
        assert!(covered >= 0.5, "{class} covers {covered:.2} of its rectangle");
    }
}

/// The documented score is that of `weights/README.md`, on the validation set that also selected
/// the checkpoint.
#[test]
#[cfg_attr(is_package, ignore = "needs weights/, which the package does not contain")]
#[cfg_attr(all(not(is_package), not(has_data)), ignore = "needs the data directory (ATROUS_DATA)")]
fn the_score_on_camvid_is_the_documented_one() {
    let (network, document) = (file(NETWORK), file("weights/README.md"));
    let data = support::data().join("data/camvid");
    let document = std::fs::read_to_string(document).unwrap();
    let documented: f64 = document
        .split("mIoU **")
        .nth(1)
        .and_then(|rest| rest.split("**").next())
        .expect("the document has a score after `mIoU **`")
        .parse()
        .unwrap();
    let network = segmenter(&network);
    let table = network.model().class_table();
    let mut confusion = Confusion::new(11, &[11]).unwrap();
    let pairs = list_directories(data.join("val"), data.join("valannot")).unwrap();
    assert_eq!(pairs.len(), 101);
    for pair in &pairs {
        let (image, truth) = pair.load(Some(&table)).unwrap();
        confusion
            .add(&truth.labels, &network.segment(&image, SizeRule::Native).unwrap().labels.labels)
            .unwrap();
    }
    let miou = confusion.scores(&table).mean_iou.unwrap();
    println!("mIoU {miou:.4}");
    assert!((miou - documented).abs() < 0.0002, "mIoU {miou:.4}, documented {documented}");
}
