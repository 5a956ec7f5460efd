//! The network that ships: that it is what `weights/README.md` says, and sees what the project's
//! own drawing shows.

mod support;

use atrous::data::list_directories;
use atrous::eval::Confusion;
use atrous::image::{SizeRule, decode};
use atrous::{DeviceChoice, Model, Segmenter};
use std::path::{Path, PathBuf};

const NETWORK: &str = "weights/camvid-mobilenetv2.safetensors";

/// A file of the repository; `None`, with a line, where only the package is, which has neither
/// weights nor images.
fn file(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Cargo leaves this file in packages, and nowhere else.
    if root.join("Cargo.toml.orig").exists() {
        println!("skipped: {name} is not in the package");
        return None;
    }
    Some(root.join(name))
}

fn segmenter(path: &Path) -> Segmenter {
    Segmenter::new(Model::open(path).unwrap(), &DeviceChoice::Cpu).unwrap()
}

#[test]
fn the_drawn_street_has_its_parts_where_they_are_drawn() {
    let (Some(network), Some(image)) = (file(NETWORK), file("docs/images/street.png")) else {
        return;
    };
    assert!(
        std::fs::metadata(&network).unwrap().len() < 12 << 20,
        "small enough to be fetched with the sources"
    );
    let network = segmenter(&network);
    let table = network.model().class_table();
    assert_eq!(
        (table.len(), table.find("road"), table.color(3)),
        (11, Some(3), [128, 64, 128]),
        "CamVid's classes and colors"
    );
    let found = network.segment(&decode(image).unwrap(), SizeRule::Native).unwrap().labels;
    // Share of a class within a part of the image, from and to in hundredths of its sides.
    let share = |class: &str, columns: [usize; 2], rows: [usize; 2]| {
        let span = |part: [usize; 2], side: usize| part[0] * side / 100..part[1] * side / 100;
        let class = table.find(class).unwrap();
        let pixels: Vec<bool> = span(rows, found.height)
            .flat_map(|y| span(columns, found.width).map(move |x| (x, y)))
            .map(|(x, y)| usize::from(found.labels[y * found.width + x]) == class)
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
        let found = share(class, columns, rows);
        assert!(found >= 0.5, "{class} covers {found:.2} of where it is drawn");
    }
}

/// The figure is the one of `weights/README.md`, of which the validation set was used to choose the
/// checkpoint.
#[test]
fn the_score_on_camvid_is_the_one_that_is_told() {
    let (Some(network), Some(document)) = (file(NETWORK), file("weights/README.md")) else {
        return;
    };
    let Some(data) = support::data().map(|d| d.join("data/camvid")) else { return };
    let document = std::fs::read_to_string(document).unwrap();
    let told = document
        .split("mIoU **")
        .nth(1)
        .and_then(|rest| rest.split("**").next())
        .expect("a figure behind `mIoU **`");
    let told: f64 = told.parse().unwrap();
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
    let found = confusion.scores(&table).mean_iou.unwrap();
    println!("mIoU {found:.4}");
    assert!((found - told).abs() < 0.0002, "mIoU {found:.4}, and {told} is told");
}
